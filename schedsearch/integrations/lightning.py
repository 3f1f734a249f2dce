"""A callback for Lightning that sets scheduled values.

    config = schedsearch.load("best.toml")
    schedule = ScheduleCallback(config.scheduler(), metric="val_loss")
    Trainer(max_epochs=config.horizon, callbacks=[schedule]).fit(module, ...)

In a search, pass the run instead of a scheduler; it ends the training when it is pruned:

    def train(run):
        Trainer(max_epochs=run.horizon, callbacks=[ScheduleCallback(run, metric="val_loss")]).fit(…)
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.optim import Optimizer

from schedsearch.engines.loop import LoopRun
from schedsearch.errors import CheckpointRefusedError, TrainingRefusedError
from schedsearch.integrations.driver import ScheduleDriver
from schedsearch.integrations.lightning_checks import (
    check_data,
    check_metric,
    check_moved_keys,
    check_settings,
)
from schedsearch.integrations.lightning_models import load_best_model, model_state, move_paths
from schedsearch.integrations.lightning_resuming import (
    begin_validation,
    check_callbacks,
    request_validation,
    shuffle_again,
)
from schedsearch.integrations.lightning_timetable import (
    check_accumulation,
    check_end,
    check_horizon,
    describe,
    position_of,
    timetable_of,
)
from schedsearch.integrations.timetable import Position
from schedsearch.integrations.value_function import OnValues
from schedsearch.printable import count_of
from schedsearch.scheduler import Scheduler


class ScheduleCallback(Callback):
    """Sets the scheduled values before each epoch of the plan, and updates the schedules after it.

    An epoch of the plan lasts from one validation to the next. Values at the interval "step" are
    set before the first batch of each optimizer step; with manual optimization, before each batch.
    The training ends when the plan has come to its horizon, or when the run of a search is pruned.

    Values with the name of a key of the parameter groups (`lr`, `weight_decay`, ...) are set in the
    optimizer, and `weights.TERM` in each `WeightedLoss` of the module. All entries that
    `training_step` returns besides "loss" are loss terms for schedules that depend on them. The
    state of the schedules is saved in the checkpoints of the trainer, and the values are logged to
    its loggers.

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
        self._source = self._driver.source
        #: Whether the next batch begins an epoch of the plan.
        self._begins = True
        #: Whether this epoch of the plan has trained no batch yet.
        self._is_fresh = True
        #: Whether this call of `fit` has trained a batch.
        self._is_underway = False
        self._is_resumed = False
        #: Whether the training has come to its first epoch.
        self._has_started = False
        #: The state after the last batch of an epoch, until its validation has ended.
        self._before_validation: dict[str, Any] | None = None
        #: Whether the checkpoint has such a state.
        self._awaits_validation = False
        #: Whether the trainer fits, rather than tests with a checkpoint.
        self._fits = True
        #: Whether the data and the settings are those of the beginning of the training.
        self._is_regular = True

    # --- before the training ----------------------------------------------------------------------

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse settings of the trainer that cannot give the values of the plan.

        Raises:
            InputError: there is such a setting.
        """
        self._fits = stage == "fit"
        if self._fits:
            check_settings(trainer, self._driver)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse what moves values of the plan too, and limits that are too low for the horizon.

        Raises:
            InputError: there is such a scheduler, callback or limit.
        """
        self._is_underway, self._has_started, self._is_regular = False, False, True
        self._before_validation = None
        check_moved_keys(trainer, self._source.names)
        is_once_an_epoch = trainer.val_check_interval == 1 and not isinstance(
            trainer.val_check_interval, int
        )
        if is_once_an_epoch:  # otherwise the number of batches decides, which is not known yet
            check_horizon(trainer, timetable_of(trainer), self._source.horizon)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the values of the first epoch, also if training resumes in the middle of an epoch.

        Raises:
            InputError: the trainer does not come to the horizon, does not validate, or values
                change at the steps of a training whose number of batches is not known.
        """
        if self._source.offered_model is not None:
            return  # `on_fit_end` loads it, and nothing is trained
        self._has_started = True
        self._timetable = timetable_of(trainer)
        check_horizon(trainer, self._timetable, self._source.horizon)
        if not self._begin_epoch():
            if self._is_resumed:
                return  # from the end of a training: `_update_values` ends it
            raise TrainingRefusedError(
                f"the plan has ended after {self._source.horizon} epochs, so nothing is left to "
                "train: pass a new scheduler or run to a new ScheduleCallback"
            )
        if self._is_resumed and self._source.is_search:
            check_callbacks(trainer)
            shuffle_again(trainer)
        check_data(trainer, self._timetable, self._source.moving)
        self._driver.check_targets(pl_module, trainer.optimizers)
        self._driver.apply(pl_module, trainer.optimizers)

    # --- values -----------------------------------------------------------------------------------

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin an epoch of the plan if the last one has ended; stop the trainer at its end."""
        self._update_values(trainer, pl_module)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set the values of the optimizer step that the batch belongs to.

        Raises:
            InputError: the position in the training is not that of the plan.
        """
        self._update_values(trainer, pl_module)
        is_first = self._is_fresh or not self._is_underway
        # `batch_idx` is not reliable if the module takes `dataloader_iter`.
        position = position_of(trainer, self._timetable, trainer.fit_loop.batch_idx)
        if is_first or position[1] == 0:
            self._update_timetable(trainer)
        self._check_position(position)
        self._is_underway, self._is_fresh = True, False
        self._before_validation, self._awaits_validation = None, False
        step, steps = 0, 1
        if self._source.moving:
            check_accumulation(trainer, self._timetable)
            step, steps = self._timetable.step_of(position)
        self._driver.watch(trainer.optimizers)
        changed = self._driver.apply_step(pl_module, trainer.optimizers, step, steps)
        self._log(trainer, is_first=is_first, changed=changed)

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Check that nothing else has changed the values that are set.

        Raises:
            InputError: something has.
        """
        self._driver.check_unchanged()

    def _update_values(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the values of the next epoch of the plan if one begins.

        Raises:
            StopIteration: the plan has ended. Lightning ends the training epoch, and then the
                training; unlike `should_stop`, this also holds before `min_epochs`.
        """
        if not self._begins:
            return
        if self._source.offered_model is not None or not self._begin_epoch():
            trainer.should_stop = True
            raise StopIteration
        self._driver.apply(pl_module, trainer.optimizers)

    def _begin_epoch(self) -> bool:
        """Begin an epoch of the plan if the last one has ended; return whether one is underway.

        This is as late as possible: a run of a search waits here for its next values, and all
        callbacks must have seen the validation, and saved their checkpoints, before.
        """
        if self._begins and self._source.next_epoch():
            self._begins, self._is_fresh = False, True
        return not self._begins

    def _log(self, trainer: Trainer, *, is_first: bool, changed: bool) -> None:
        """Log the values as Lightning logs those of a training step."""
        step = trainer.fit_loop.epoch_loop._batches_that_stepped
        undeclared: Any = trainer  # Lightning sets the attribute without declaring it
        every: int = undeclared.log_every_n_steps
        if is_first or (changed and every and (step + 1) % every == 0):
            for logger in trainer.loggers:
                logger.log_metrics(dict(self._driver.applied), step=step)

    # --- positions --------------------------------------------------------------------------------

    def _update_timetable(self, trainer: Trainer) -> None:
        """Read the settings again: data loaders may be loaded again, and callbacks may set them."""
        timetable = timetable_of(trainer)
        if timetable == self._timetable:
            return
        if self._source.moving and self._is_underway and not self._is_fresh:
            raise TrainingRefusedError(
                f'{", ".join(self._source.moving)}: the interval is "step", but the number of '
                "optimizer steps changes within an epoch of the plan, from "
                f"{describe(self._timetable)} to {describe(timetable)}: let the trainer validate "
                "at the end of each training epoch, or keep them the same (limit_train_batches, "
                "reload_dataloaders_every_n_epochs, accumulate_grad_batches)"
            )
        self._timetable, self._is_regular = timetable, False

    def _validations(self, position: Position) -> int:
        """Return the number of validations up to a position, by the settings if they tell it."""
        if not self._is_regular or not self._timetable.knows_validations:
            return self._source.epoch
        return self._timetable.validations_before(position)

    def _check_position(self, position: Position) -> None:
        """Check that the plan has come as far as the trainer."""
        validations = self._validations(position)
        if validations == self._source.epoch:
            return
        epoch, batch = position
        where = (
            f"{count_of(self._source.epoch, 'validation')} ended epochs of the plan, but by its "
            f"settings the trainer had {validations} before batch {batch} of training epoch "
            f"{epoch} (batches and training epochs count from 0): "
        )
        if self._is_underway:
            raise TrainingRefusedError(
                f"{where}a validation is missing; let no training epoch end early, by data with "
                "fewer batches than limit_train_batches or by -1 from on_train_batch_start"
            )
        raise CheckpointRefusedError(
            f"{where}resume from a checkpoint that was saved with this callback, with the same "
            "data, val_check_interval and check_val_every_n_epoch; for a new training, pass a new "
            "scheduler"
        )

    # --- after the batches ------------------------------------------------------------------------

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *rest: Any
    ) -> None:
        """Record the loss terms that the step returned.

        A checkpoint between the last batch of an epoch of the plan and the end of its validation
        has the state from here, with which the whole validation is repeated.
        """
        if isinstance(outputs, Mapping):
            self._driver.record_terms({n: v for n, v in outputs.items() if n != "loss"})
        if self._is_due(trainer):
            self._before_validation = {**self._driver.state_dict(), "awaits_validation": True}

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the metric of the last validation, so that it is not taken twice.

        Raises:
            InputError: a validation continues that was interrupted, with a part of its batches.
        """
        if not _is_in_fit(trainer):
            return
        if self._awaits_validation:
            begin_validation(trainer)
            self._awaits_validation = False
        if trainer.fit_loop.epoch_loop.val_loop.batch_progress.current.ready:
            raise CheckpointRefusedError(
                "the checkpoint was saved within a validation, and only the rest of the validation "
                "would be repeated: resume from another checkpoint"
            )
        trainer.callback_metrics.pop(self._driver.metric, None)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End the epoch of the plan, before the trainer saves its checkpoint.

        Raises:
            InputError: the metric is missing, or the validation is not due.
        """
        if not _is_in_fit(trainer):
            return
        if self._is_due(trainer):
            check_metric(self._driver.metric, trainer.callback_metrics)
            self._driver.end_epoch(trainer.callback_metrics, model_state(trainer))
            self._begins, self._before_validation = True, None
        elif not trainer.should_stop:
            done = trainer.fit_loop.batch_idx + 1
            raise TrainingRefusedError(
                f"a validation came after batch {done} of training epoch {trainer.current_epoch}, "
                "where none is due by the settings of the trainer: set limit_train_batches to a "
                "number of batches that the data loader has in every epoch, and start no "
                "validation within fit"
            )
        # A trainer that is stopped validates at once. This is not a whole epoch of the plan.

    def _is_due(self, trainer: Trainer) -> bool:
        """Whether the validation after the last batch ends an epoch of the plan."""
        done = trainer.fit_loop.batch_idx + 1
        is_due = self._timetable.is_validation(position_of(trainer, self._timetable, done))
        return (
            trainer.fit_loop.epoch_loop.batch_progress.is_last_batch if is_due is None else is_due
        )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the run of a search end: at its horizon, or where the trainer stops before.

        Raises:
            InputError: a limit of the trainer ends the training before the horizon.
        """
        self._driver.unwatch()
        if self._begins and self._source.is_complete:
            self._begin_epoch()
        elif self._source.offered_model is None:
            # Resumed after its last batch, a training has nothing left, also no validation.
            if self._is_underway or not self._source.is_open_loop:
                ended = self._source.epoch + (self._source.is_search and self._begins)
                horizon = self._source.horizon
                check_end(trainer, ended, horizon, has_trained=self._is_underway)
            self._source.stop()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a training without a batch, which Lightning skips; load a model to be tested.

        Raises:
            InputError: the training was skipped.
        """
        if (model := self._source.offered_model) is not None:
            load_best_model(trainer, model, self._source.folder)
            return
        if trainer.num_training_batches == 0:
            raise TrainingRefusedError("the training data has no batch: nothing was trained")
        # At max_steps Lightning does not begin its loop.
        if self._is_resumed and not self._has_started and not self._source.is_open_loop:
            ended, horizon = self._source.epoch, self._source.horizon
            if ended < horizon:
                check_end(trainer, ended, horizon, has_trained=False)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Leave the optimizers."""
        self._driver.unwatch()

    # --- checkpoints ------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the schedules for the checkpoint of the trainer."""
        return self._before_validation or self._driver.state_dict()

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Let the trainer repeat a validation, and other callbacks find their files.

        Each worker of a trial has another folder.
        """
        states = checkpoint.get("callbacks", {})
        state = states.get(self.state_key, {})
        if not self._fits:
            return
        if state.get("awaits_validation"):
            self._awaits_validation = True
            request_validation(checkpoint)
        before = state.get("folder")
        if self._source.is_search and before is not None:
            now = os.path.realpath(self._source.folder())
            checkpoint["callbacks"] = move_paths(states, before, now)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a checkpoint of the trainer; one that is only tested has no effect."""
        if not self._fits:
            return
        self._is_resumed, self._begins = True, True
        self._driver.load_state_dict(state_dict)


def _is_in_fit(trainer: Trainer) -> bool:
    return trainer.state.fn == "fit" and not trainer.sanity_checking
