"""A training loop that prints in every way there is, and a task that prints in its methods."""

import ctypes
import os
import subprocess
import sys
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from schedsearch import Splits
from schedsearch.engines.loop import LoopRun

print("chatty: imported")


def train(run: LoopRun) -> None:
    for epoch, hp in run:
        print(f"chatty: print {epoch}")
        os.write(1, b"chatty: descriptor\n")
        ctypes.CDLL(None).puts(b"chatty: C library")
        subprocess.run([sys.executable, "-c", "print('chatty: child')"], check=True)
        run.report(val_loss=hp["lr"] / (1 + epoch))
    run.test(loss=hp["lr"])


train.hyperparameters = {"lr": 0.1}


class Chatty:
    """A task that prints in each of its methods."""

    hyperparameters: Mapping[str, float] = {"lr": 0.01}
    optimizer = "sgd"
    batch_size = 4
    steps_per_epoch = None
    noise: Mapping[str, tuple[int, ...]] = {}

    def data(self, seed: int) -> Splits:
        print("chatty: data")
        inputs = torch.arange(8.0)[:, None]
        return Splits(*[{"x": inputs, "y": 2 * inputs} for _ in range(3)])

    def model(self, seed: int) -> nn.Module:
        print("chatty: model")
        torch.manual_seed(seed)
        return nn.Linear(1, 1)

    def terms(
        self,
        model: nn.Module,
        batch: Mapping[str, Tensor],
        hp: Mapping[str, Tensor],
        noise: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        print("chatty: terms")
        return {"squares": (model(batch["x"]) - batch["y"]).square().mean()}

    def metrics(self, model: nn.Module, split: Mapping[str, Tensor]) -> dict[str, Tensor]:
        print("chatty: metrics")
        return {"loss": (model(split["x"]) - split["y"]).square().mean()}


task = Chatty()
