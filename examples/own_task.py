"""Your own task: model, data, loss terms and metrics, which schedsearch trains.

    schedsearch start examples/own_task.toml --trials 40

`hp` holds 0-d tensors: compute with them, but do not branch on them or turn them into floats.
"""

from collections.abc import Mapping

import torch
from sklearn.datasets import load_breast_cancer
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from schedsearch import Splits, Task


class Tumours(Task):
    """Classify tumours as malignant or benign by 30 measurements of their cells."""

    hyperparameters = {"lr": 0.01, "weight_decay": 0.0, "weights.sparsity": 0.0}
    optimizer = "adam"
    batch_size = 32

    def data(self, seed: int) -> Splits:
        tumours = load_breast_cancer()
        inputs = torch.tensor((tumours.data - tumours.data.mean(0)) / tumours.data.std(0)).float()
        labels = torch.tensor(tumours.target).float()
        order = torch.randperm(569, generator=torch.Generator().manual_seed(0))
        rest, test = order[:400], order[400:]  # the test split is the same for every seed
        rest = rest[torch.randperm(400, generator=torch.Generator().manual_seed(seed))]
        parts = (rest[:250], rest[250:], test)
        return Splits(*({"input": inputs[part], "label": labels[part]} for part in parts))

    def model(self, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(30, 32), nn.ReLU(), nn.Linear(32, 1), nn.Flatten(0))

    def terms(
        self,
        model: nn.Module,
        batch: Mapping[str, Tensor],
        hp: Mapping[str, Tensor],
        noise: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        entropy = binary_cross_entropy_with_logits(model(batch["input"]), batch["label"])
        sparsity = torch.stack([parameter.abs().mean() for parameter in model.parameters()]).sum()
        return {"entropy": entropy, "sparsity": sparsity}  # multiplied by weights.sparsity

    def metrics(self, model: nn.Module, split: Mapping[str, Tensor]) -> dict[str, Tensor]:
        logits = model(split["input"])
        wrong = (logits > 0) != (split["label"] > 0.5)
        return {
            "error": wrong.double().mean(),
            "loss": binary_cross_entropy_with_logits(logits, split["label"]),
        }
