"""Lightning's strategy `ddp` in a search: several processes train each trial.

    schedsearch start examples/distributed_lightning.toml --processes-per-trial 2 --trials 20

A trial that was lost or handed back continues from the last checkpoint of Lightning.
"""

import logging
import os

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset, random_split

from schedsearch import LoopRun
from schedsearch.integrations.lightning import ScheduleCallback


class Digits(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        return cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        self.log("val_loss", self.training_step(batch, index))

    def test_step(self, batch: list[Tensor], index: int) -> None:
        self.log("test_loss", self.training_step(batch, index), sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), momentum=0.9)


def train(run: LoopRun) -> None:
    """Classify digits, with a schedule for the learning rate."""
    torch.manual_seed(run.seed)  # equal models and splits in all processes
    digits = load_digits()
    examples = TensorDataset(torch.tensor(digits.data / 16.0).float(), torch.tensor(digits.target))
    training, validation, test = random_split(examples, [1000, 400, 397])
    processes = int(os.environ["LOCAL_WORLD_SIZE"])
    share = run.arguments["batch_size"] // processes  # of each process
    schedule = ScheduleCallback(run, metric="val_loss")
    keep = ModelCheckpoint(run.directory, save_last=True)
    quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    trainer = Trainer(
        strategy="ddp",
        devices=processes,
        max_epochs=run.horizon,
        callbacks=[schedule, keep],
        **quiet,
    )
    module, last = Digits(), run.directory / "last.ckpt"
    trainer.fit(
        module,
        DataLoader(training, share, shuffle=True),
        DataLoader(validation, 200),
        ckpt_path=last if last.exists() else None,
    )
    if not run.ended_early:
        [result] = trainer.test(module, DataLoader(test, 200), verbose=False)
        run.test(loss=result["test_loss"])


train.hyperparameters = {"lr": 0.1}
train.arguments = {"batch_size": 50}
