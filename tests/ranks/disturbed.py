"""The examples of several processes, whose ranks a test kills or interrupts in a chosen epoch.

The first rank that finds the file `kill EPOCH RANK` or `interrupt EPOCH RANK` of its epoch in the
current folder removes it, and kills itself or sends SIGINT to the process that started it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from examples import distributed, distributed_lightning, distributed_trainer
from schedsearch.engines.loop import LoopRun


def _is_asked(what: str, epoch: int) -> bool:
    file = Path(f"{what} {epoch} {os.environ['RANK']}")
    if is_asked := file.exists():
        file.unlink()
    return is_asked


def _disturbed(train: Any) -> Callable[[LoopRun], None]:
    """Return the training loop, which may be disturbed before it reports an epoch."""

    def train_disturbed(run: LoopRun) -> None:
        report = run.report

        def disturb_and_report(**given: Any) -> None:
            epoch = run._state.epoch
            if os.environ["RANK"] != "0":
                torch.rand(1)  # the generators of the ranks differ, and continue with the trial
            if _is_asked("kill", epoch):
                os.kill(os.getpid(), signal.SIGKILL)
            if _is_asked("interrupt", epoch):
                os.kill(os.getppid(), signal.SIGINT)
            report(**given)

        run.report = disturb_and_report
        train(run)

    train_disturbed.hyperparameters = train.hyperparameters
    train_disturbed.arguments = train.arguments
    return train_disturbed


train = _disturbed(distributed.train)
train_lightning = _disturbed(distributed_lightning.train)
train_trainer = _disturbed(distributed_trainer.train)
