"""Training loops that resume from their own checkpoints, and are killed once on the way.

In the current folder they append the epochs that they train to `trained`. If there is a file
`kill`, it has the epoch in which the process is killed, and when: "3 begun", "3 saved" or
"3 validated".
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from transformers import TrainerCallback
from transformers.trainer_utils import SaveStrategy, get_last_checkpoint

from examples.with_lightning import Progression, loaders
from examples.with_lightning import trainer as lightning_trainer
from examples.with_transformers import trainer as transformers_trainer
from schedsearch.engines.loop import LoopRun
from schedsearch.integrations.lightning import ScheduleCallback
from schedsearch.trajectories import open_store
from schedsearch.trajectories.cached_runs import CachedRuns
from tests.searches import Ears, make_study, make_worker

DEFAULTS = {"lr": 0.01}


def begin(epoch: int) -> None:
    """Record that an epoch is trained, and be killed in it if the test wants that."""
    with Path("trained").open("a") as file:
        file.write(f"{epoch}\n")
    _kill_if(f"{epoch} begun")


def saved(epoch: int) -> None:
    """Be killed between the checkpoint of an epoch and its report if the test wants that."""
    _kill_if(f"{epoch} saved")


def _kill_if(moment: str) -> None:
    file = Path("kill")
    if file.exists() and file.read_text() == moment:
        file.unlink()
        os.kill(os.getpid(), signal.SIGKILL)


def own_loop(run: LoopRun) -> None:
    """A loop of torch with dropout, whose checkpoint is a file in the folder of the run."""
    torch.manual_seed(run.seed)
    net = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 1))
    optimizer = torch.optim.Adam(net.parameters())
    file = run.directory / "last.pt"
    if file.exists():
        state = torch.load(file, weights_only=True)
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        run.load_state_dict(state["run"])
    training, validation, _ = loaders(run.seed)
    for epoch, hp in run:
        begin(epoch)
        net.train()
        for group in optimizer.param_groups:
            group["lr"] = hp["lr"]
        for inputs, targets in training:
            optimizer.zero_grad()
            (net(inputs).flatten() - targets).square().mean().backward()
            optimizer.step()
        net.eval()
        with torch.no_grad():
            [(inputs, targets)] = validation
            loss = (net(inputs).flatten() - targets).square().mean()
        run.report(val_error=loss)
        states = {"net": net, "optimizer": optimizer, "run": run}
        part = file.with_suffix(".part")
        torch.save({name: part_of.state_dict() for name, part_of in states.items()}, part)
        part.replace(file)
        saved(epoch)


class Dropping(Progression):
    """The module of the example, with dropout: its masks come from the global generator."""

    def __init__(self) -> None:
        super().__init__()
        self.net.insert(2, nn.Dropout(0.2))


class LightningMoments(Callback):
    """Tells when Lightning trains the first batch of an epoch."""

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == 0:
            begin(trainer.current_epoch)


class Checkpoints(ModelCheckpoint):
    """Tells when the checkpoint of an epoch was saved."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        saved(trainer.current_epoch)


def with_lightning(run: LoopRun) -> None:
    """Resume from the last checkpoint of Lightning, if there is one."""
    seed_everything(run.seed, verbose=False)
    training, validation, _ = loaders(run.seed)
    keep = Checkpoints(run.directory, save_last=True)
    best = ModelCheckpoint(run.directory / "best", monitor="val_error")
    schedule = ScheduleCallback(run, metric="val_error")
    fitted = lightning_trainer(run.horizon, schedule, enable_checkpointing=True)
    fitted.callbacks[1:1] = [LightningMoments()]
    fitted.callbacks += [best, keep]
    last = run.directory / "last.ckpt"
    path = last if last.exists() else None
    fitted.fit(Dropping(), training, validation, ckpt_path=path, weights_only=True)


class Validations(Callback):
    """Tells when the validation of an epoch begins."""

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            _kill_if(f"{trainer.current_epoch} validated")


def with_lightning_by_steps(run: LoopRun) -> None:
    """Resume from the checkpoint after the last batch of an epoch, before its validation."""
    seed_everything(run.seed, verbose=False)
    training, validation, _ = loaders(run.seed)
    keep = ModelCheckpoint(run.directory, every_n_train_steps=len(training), save_last=True)
    schedule = ScheduleCallback(run, metric="val_error")
    fitted = lightning_trainer(run.horizon, schedule, enable_checkpointing=True)
    fitted.callbacks[1:1] = [LightningMoments(), Validations()]
    fitted.callbacks += [keep]
    last = run.directory / "last.ckpt"
    path = last if last.exists() else None
    fitted.fit(Dropping(), training, validation, ckpt_path=path, weights_only=True)


class TransformersMoments(TrainerCallback):
    """Tells the moments of the Trainer."""

    def on_epoch_begin(self, args, state, control, **given):
        begin(round(state.epoch or 0))

    def on_save(self, args, state, control, **given):
        saved(round(state.epoch or 0) - 1)


def with_transformers(run: LoopRun) -> None:
    """Resume from the last checkpoint of the Trainer, if there is one."""
    made = transformers_trainer(run, run.horizon, run.seed)
    made.args.output_dir = str(run.directory)
    made.args.save_strategy = SaveStrategy.EPOCH
    made.args.load_best_model_at_end = True
    made.args.metric_for_best_model, made.args.greater_is_better = "eval_loss", False
    made.args.save_total_limit = 2
    made.add_callback(TransformersMoments())
    made.train(resume_from_checkpoint=get_last_checkpoint(str(run.directory)))


for _train in (own_loop, with_lightning, with_lightning_by_steps, with_transformers):
    _train.hyperparameters = DEFAULTS
with_transformers.hyperparameters = {"lr": 0.003, "label_smoothing": 0.0}


def work_in(folder: str, content: dict[str, Any]) -> None:
    """Search the study of a space in a folder, with its cache and the folders of its runs.

    Leases last longer than any test: nothing may wait for those of a worker that was killed.
    """
    os.chdir(folder)
    study = make_study(Path(folder), content)
    runs = CachedRuns.of_study(study, open_store(study.database, print, lease_seconds=3600.0))
    make_worker(study, str(os.getpid()), lambda: False, Ears(), cached_runs=runs).run()
