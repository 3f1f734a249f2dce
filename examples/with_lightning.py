"""A Lightning training: search for its schedules, and train with the result.

    schedsearch start examples/with_lightning.toml --trials 20
    schedsearch export with_lightning -o best.toml
    python examples/with_lightning.py best.toml

The module returns its loss terms and weights them by a WeightedLoss; the callback sets the values.
"""

import logging
import sys

import torch
from lightning.pytorch import LightningModule, Trainer
from sklearn.datasets import load_diabetes
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import schedsearch
from schedsearch import LoopRun
from schedsearch.integrations.lightning import ScheduleCallback


class Progression(LightningModule):
    """Predict the progression of diabetes, by a squared and an absolute error."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1), nn.Flatten(0))
        self.loss = schedsearch.WeightedLoss(["l2", "l1"])

    def training_step(self, batch: list[Tensor], index: int) -> dict[str, Tensor]:
        residual = self.net(batch[0]) - batch[1]
        terms = {"l2": residual.square().mean(), "l1": residual.abs().mean()}
        return {"loss": self.loss(terms), **{name: term.detach() for name, term in terms.items()}}

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        self.log("val_error", (self.net(batch[0]) - batch[1]).abs().mean())

    def test_step(self, batch: list[Tensor], index: int) -> None:
        self.log("test_error", (self.net(batch[0]) - batch[1]).abs().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters())


def loaders(seed: int) -> list[DataLoader[tuple[Tensor, ...]]]:
    """Return the patients: 250 for training, 92 for validation, and 100 fixed ones for the test."""
    patients = load_diabetes()
    inputs = torch.tensor(patients.data * 442**0.5).float()
    targets = torch.tensor((patients.target - patients.target.mean()) / patients.target.std())
    order = torch.randperm(442, generator=torch.Generator().manual_seed(0))
    mixed = order[100:][torch.randperm(342, generator=torch.Generator().manual_seed(seed))]
    parts = (mixed[:250], mixed[250:], order[:100])
    data = [TensorDataset(inputs[part], targets.float()[part]) for part in parts]
    sizes = ((50, True), (92, False), (100, False))
    return [DataLoader(d, size, shuffle=mix) for d, (size, mix) in zip(data, sizes, strict=True)]


def trainer(epochs: int, schedule: ScheduleCallback, **options: object) -> Trainer:
    """Return a quiet trainer with the callback."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
    quiet["enable_checkpointing"] = False
    return Trainer(max_epochs=epochs, accelerator="cpu", callbacks=[schedule], **(quiet | options))


def train(run: LoopRun) -> None:
    """Train one run of a search, which ends when it is pruned."""
    torch.manual_seed(run.seed)
    training, validation, test = loaders(run.seed)
    module = Progression()
    fitted = trainer(run.horizon, ScheduleCallback(run, metric="val_error"))
    fitted.fit(module, training, validation)
    [result] = fitted.test(module, test, verbose=False)
    run.test(error=result["test_error"])


train.hyperparameters = {"lr": 0.01, "weights.l2": 1.0, "weights.l1": 0.0}


if __name__ == "__main__":
    config = schedsearch.load(sys.argv[1])
    torch.manual_seed(0)
    training, validation, test = loaders(0)
    module = Progression()
    schedule = ScheduleCallback(config.scheduler(), metric="val_error")
    fitted = trainer(config.horizon, schedule)
    fitted.fit(module, training, validation)
    [result] = fitted.test(module, test, verbose=False)
    print(
        f"test error {result['test_error']:.4f}, the L1 term's weight {module.loss.weights[1]:.3f}"
    )
