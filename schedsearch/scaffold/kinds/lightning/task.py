"""A training by Lightning: a callback sets the values of each epoch, and reports the epoch.

    schedsearch start NAME.toml

Put your data and your module in place of these.
"""

import logging
import warnings

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, TensorDataset

from schedsearch import LoopRun, WeightedLoss
from schedsearch.integrations.lightning import ScheduleCallback

# Each of many short trainings would print these.
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", message=".*does not have many workers")


class NoisyCurve(LightningModule):
    """Fit a curve to noisy points; a penalty on the weights keeps the curve smooth."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(1, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1)
        )
        # The callback sets the weight of the penalty here before each epoch.
        self.loss = WeightedLoss(["error", "penalty"])

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        penalty = torch.stack([p.square().mean() for p in self.net.parameters()]).sum()
        return self.loss({"error": mse_loss(self.net(batch[0]), batch[1]), "penalty": penalty})

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        self.log("val_loss", mse_loss(self.net(batch[0]), batch[1]))

    def test_step(self, batch: list[Tensor], index: int) -> None:
        self.log("test_loss", mse_loss(self.net(batch[0]), batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        # The callback sets its learning rate too.
        return torch.optim.Adam(self.parameters())


def train(run: LoopRun) -> None:
    """Train once: with the values of `run`, for as long as the search wants."""
    # Generated points: 200 to train, 200 to validate, and always the same 400 to test.
    generator = torch.Generator().manual_seed(0)
    x = 2 * torch.rand(800, 1, generator=generator) - 1
    y = torch.sin(6 * x) + 0.3 * torch.randn(800, 1, generator=generator)
    torch.manual_seed(run.seed)
    training, validation = torch.randperm(400).split(200)
    test = torch.arange(400, 800)

    def loader(
        part: Tensor, batch: int, *, shuffle: bool = False
    ) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(TensorDataset(x[part], y[part]), batch, shuffle=shuffle)

    module = NoisyCurve()
    trainer = Trainer(
        max_epochs=run.horizon,
        # The validation metric that NAME.toml names as its objective.
        callbacks=[ScheduleCallback(run, metric="val_loss")],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, loader(training, 20, shuffle=True), loader(validation, 200))
    # `confirm` compares on the test split, which the search never sees.
    [result] = trainer.test(module, loader(test, 400), verbose=False)
    run.test(loss=result["test_loss"])


# Every value that the callback sets. NAME.toml says which of them move.
train.hyperparameters = {"lr": 0.01, "weights.penalty": 0.0}
