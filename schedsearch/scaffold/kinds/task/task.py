"""A task: schedsearch trains this model on this data, with every schedule that it tries.

    schedsearch start NAME.toml

Put your data, model and loss in place of these.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from schedsearch import Splits, Task


class NoisyCurve(Task):
    """Fit a curve to noisy points; a penalty on the weights keeps the curve smooth."""

    # Every value that the optimizer or the loss reads. NAME.toml says which of them move.
    hyperparameters = {"lr": 0.01, "weights.penalty": 0.0}
    optimizer = "adam"
    batch_size = 20

    def data(self, seed: int) -> Splits:
        # Generated points: 200 to train, 200 to validate, 400 to test.
        generator = torch.Generator().manual_seed(0)
        x = 2 * torch.rand(800, 1, generator=generator) - 1
        y = torch.sin(6 * x) + 0.3 * torch.randn(800, 1, generator=generator)
        # The seed divides the first 400; the test points are the same for every seed.
        order = torch.randperm(400, generator=torch.Generator().manual_seed(seed))
        parts = (order[:200], order[200:], torch.arange(400, 800))
        return Splits(*({"x": x[part], "y": y[part]} for part in parts))

    def model(self, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(1, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1)
        )

    def terms(
        self,
        model: nn.Module,
        batch: Mapping[str, Tensor],
        hp: Mapping[str, Tensor],
        noise: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        # The loss is the sum of these terms; weights.penalty multiplies the second one.
        penalty = torch.stack([p.square().mean() for p in model.parameters()]).sum()
        return {"error": mse_loss(model(batch["x"]), batch["y"]), "penalty": penalty}

    def metrics(self, model: nn.Module, split: Mapping[str, Tensor]) -> dict[str, Tensor]:
        # Called with the validation split as val_loss, and by `confirm` with the test split.
        return {"loss": mse_loss(model(split["x"]), split["y"])}
