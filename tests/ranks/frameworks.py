"""Trainings by Lightning and by the Trainer of transformers in several processes."""

from __future__ import annotations

import logging
import os
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch import Trainer as LightningTrainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset
from transformers import Trainer, TrainingArguments

from schedsearch.engines.loop import LoopRun
from schedsearch.integrations import lightning, transformers

X = torch.linspace(-1, 1, 64)[:, None]
Y = (3 * X).sin()


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))


class Module(LightningModule):
    def __init__(self, seed: int) -> None:
        super().__init__()
        self.net = network(seed)

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        return (self.net(batch[0]) - batch[1]).square().mean()

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        self.log("val_loss", self.training_step(batch, index))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def train_lightning(run: LoopRun) -> None:
    """Train by Lightning's strategy ddp."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    quiet: dict[str, Any] = dict.fromkeys(("logger", "enable_progress_bar"), False)
    quiet |= dict.fromkeys(("enable_model_summary", "enable_checkpointing"), False)
    data = DataLoader(TensorDataset(X, Y), 8)
    LightningTrainer(
        max_epochs=run.horizon,
        accelerator="cpu",
        strategy="ddp",
        devices=int(os.environ["LOCAL_WORLD_SIZE"]),
        callbacks=[lightning.ScheduleCallback(run, metric="val_loss")],
        **quiet,
    ).fit(Module(run.seed), data, data)


class Rows(Dataset[dict[str, Tensor]]):
    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"inputs": X[index], "labels": Y[index]}


class Model(nn.Module):
    def __init__(self, seed: int) -> None:
        super().__init__()
        self.net = network(seed)

    def forward(self, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.net(inputs)
        return {"loss": (logits - labels).square().mean(), "logits": logits}


def train_transformers(run: LoopRun) -> None:
    """Train by the Trainer of transformers."""
    arguments = TrainingArguments(
        output_dir=str(run.directory),
        num_train_epochs=run.horizon,
        per_device_train_batch_size=8,
        per_device_eval_batch_size=8,
        eval_strategy="epoch",
        lr_scheduler_type="constant",
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        ddp_backend="gloo",
        seed=run.seed,
    )
    Trainer(
        Model(run.seed),
        arguments,
        train_dataset=Rows(),
        eval_dataset=Rows(),
        callbacks=[transformers.ScheduleCallback(run, metric="eval_loss")],
    ).train()


train_lightning.hyperparameters = {"lr": 0.1}
train_transformers.hyperparameters = {"lr": 0.1}
