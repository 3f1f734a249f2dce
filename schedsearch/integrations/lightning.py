"""Schedules in a Lightning training.

    config = schedsearch.load("best.toml")
    schedule = ScheduleCallback(config.scheduler(), metric="val_loss")
    Trainer(max_epochs=config.horizon, callbacks=[schedule]).fit(module, ...)

In a search the run takes the scheduler's place, and ends the training when it is pruned:

    def train(run):
        Trainer(max_epochs=run.horizon, callbacks=[ScheduleCallback(run, metric="val_loss")]).fit(…)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from schedsearch.engines.loop import LoopRun
from schedsearch.errors import InputError
from schedsearch.integrations.driver import OnValues, ScheduleDriver
from schedsearch.scheduler import Scheduler


class ScheduleCallback(Callback):
    """Sets the values in force before each epoch, and steps the schedules on its validation.

    Values named as a key of the optimizer's parameter groups (`lr`, `weight_decay`, ...) are set
    there, and `weights.TERM` on each `WeightedLoss` of the module. What `training_step` returns
    beside "loss" are loss terms, for the schedules that follow them. Checkpoints of the trainer
    hold the schedules' state.

    Args:
        source: a config's scheduler, or the run of a search.
        metric: the logged validation metric that is the objective.
        on_values: called with the values before each epoch, for those set nowhere else.
    """

    def __init__(
        self, source: Scheduler | LoopRun, *, metric: str, on_values: OnValues | None = None
    ) -> None:
        self._driver = ScheduleDriver(source, metric, on_values)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin: here too, since a training that goes on within an epoch starts none.

        Raises:
            InputError: the trainer does not validate at the end of every epoch.
        """
        if trainer.check_val_every_n_epoch != 1 or trainer.val_check_interval != 1.0:
            raise InputError(
                "ScheduleCallback steps on one validation per epoch: leave the trainer's "
                "val_check_interval and check_val_every_n_epoch at 1"
            )
        if not trainer.enable_validation:
            raise InputError(
                "ScheduleCallback steps on one validation per epoch: give the trainer validation "
                "data, and the module a validation_step"
            )
        self._driver.next_epoch()
        self._driver.apply(pl_module, trainer.optimizers)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the values in force."""
        self._driver.apply(pl_module, trainer.optimizers)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *rest: Any
    ) -> None:
        """Take the loss terms that the step returned."""
        if isinstance(outputs, Mapping):
            self._driver.record_terms({n: v for n, v in outputs.items() if n != "loss"})

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End the epoch: before the trainer's checkpoint of it, which goes on with the next."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._driver.end_epoch(trainer.callback_metrics)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go to the next epoch; a run that is over stops the trainer."""
        trainer.should_stop = not self._driver.next_epoch() or trainer.should_stop

    def state_dict(self) -> dict[str, Any]:
        """Return the schedules' state, for the trainer's checkpoint."""
        return self._driver.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the trainer's checkpoint."""
        self._driver.load_state_dict(state_dict)
