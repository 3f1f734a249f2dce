"""A callback for Lightning that sets scheduled values.

    config = schedsearch.load("best.toml")
    schedule = ScheduleCallback(config.scheduler(), metric="val_loss")
    Trainer(max_epochs=config.horizon, callbacks=[schedule]).fit(module, ...)

In a search, pass the run instead of a scheduler; it ends the training when it is pruned:

    def train(run):
        Trainer(max_epochs=run.horizon, callbacks=[ScheduleCallback(run, metric="val_loss")]).fit(…)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from schedsearch.engines.loop import LoopRun
from schedsearch.errors import InputError
from schedsearch.integrations.driver import OnValues, ScheduleDriver
from schedsearch.scheduler import Scheduler


class ScheduleCallback(Callback):
    """Sets the scheduled values before each epoch and updates the schedules after validation.

    Values at the interval "step" are set before the first batch of each optimizer step.

    Values with the name of a key of the parameter groups (`lr`, `weight_decay`, ...) are set in the
    optimizer, and `weights.TERM` in each `WeightedLoss` of the module. All entries that
    `training_step` returns besides "loss" are loss terms for schedules that depend on them. The
    state of the schedules is saved in the checkpoints of the trainer.

    Args:
        source: the scheduler of a config, or the run of a search.
        metric: the logged validation metric that is the objective.
        on_values: called with the values before each epoch, and before each optimizer step at
            which they differ, to set all other values.
    """

    def __init__(
        self, source: Scheduler | LoopRun, *, metric: str, on_values: OnValues | None = None
    ) -> None:
        self._driver = ScheduleDriver(source, metric, on_values)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the values of the first epoch, also if training resumes in the middle of an epoch.

        Raises:
            InputError: the trainer does not validate at the end of every epoch, or values change at
                the steps of a training whose number of batches is not known.
        """
        if trainer.check_val_every_n_epoch != 1 or trainer.val_check_interval != 1.0:
            raise InputError(
                "ScheduleCallback needs exactly one validation per epoch: set val_check_interval "
                "and check_val_every_n_epoch of the trainer to 1"
            )
        if not trainer.enable_validation:
            raise InputError(
                "ScheduleCallback needs exactly one validation per epoch: give the trainer "
                "validation data, and the module a validation_step"
            )
        self._driver.next_epoch()
        if self._driver.moving and trainer.num_training_batches == math.inf:
            raise InputError(
                f'{", ".join(self._driver.moving)}: the interval is "step", but the number of '
                "batches of an epoch is not known: give the data loader a length, or set "
                "limit_train_batches of the trainer to a number of batches"
            )
        self._driver.apply(pl_module, trainer.optimizers)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the values of the epoch."""
        self._driver.apply(pl_module, trainer.optimizers)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set the values of the optimizer step that the batch belongs to, if they change in it."""
        if self._driver.moving:
            # Read in each epoch: GradientAccumulationScheduler changes it.
            batches = trainer.accumulate_grad_batches
            steps = math.ceil(trainer.num_training_batches / batches)
            self._driver.apply_step(pl_module, trainer.optimizers, batch_idx // batches, steps)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *rest: Any
    ) -> None:
        """Record the loss terms that the step returned."""
        if isinstance(outputs, Mapping):
            self._driver.record_terms({n: v for n, v in outputs.items() if n != "loss"})

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End the epoch, before the trainer saves its checkpoint."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._driver.end_epoch(trainer.callback_metrics)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go to the next epoch; stop the trainer if the run has ended."""
        trainer.should_stop = not self._driver.next_epoch() or trainer.should_stop

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the schedules for the checkpoint of the trainer."""
        return self._driver.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a checkpoint of the trainer."""
        self._driver.load_state_dict(state_dict)
