"""A callback for the Trainer of Hugging Face transformers that sets scheduled values.

    config = schedsearch.load("best.toml")
    schedule = ScheduleCallback(config.scheduler(), metric="eval_loss")
    arguments = TrainingArguments(
        num_train_epochs=config.horizon, eval_strategy="epoch", lr_scheduler_type="constant", …
    )
    Trainer(model, arguments, callbacks=[schedule], …).train()

In a search, pass the run instead of a scheduler; it ends the training when it is pruned.
"""

from __future__ import annotations

import math
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import has_length

from schedsearch.engines.loop import LoopRun
from schedsearch.errors import InputError
from schedsearch.integrations.decay_groups import record_decay_groups
from schedsearch.integrations.driver import OnValues, ScheduleDriver
from schedsearch.scheduler import Scheduler

#: The key of the state of the schedules in a checkpoint of the Trainer.
_KEY = "schedsearch"


class ScheduleCallback(TrainerCallback):
    """Sets the scheduled values before each epoch and updates the schedules after evaluation.

    Values at the interval "step" are set before the first batch of each optimizer step.

    Values with the name of a key of the parameter groups (`lr`, `weight_decay`, ...) are set in the
    optimizer, and `weights.TERM` in each `WeightedLoss` of the model. The state of the schedules is
    saved in the checkpoints of the Trainer.

    Args:
        source: the scheduler of a config, or the run of a search.
        metric: the evaluation metric that is the objective, with its name in the Trainer.
        on_values: called with the values before each epoch, and before each optimizer step at
            which they differ, to set all other values.
    """

    def __init__(
        self, source: Scheduler | LoopRun, *, metric: str, on_values: OnValues | None = None
    ) -> None:
        self._driver = ScheduleDriver(source, metric, on_values)
        self._in_epoch = self._epoch_ended = False
        #: The optimizer step in the epoch, and their number; None if it is not known.
        self._step = 0
        self._steps: int | None = None

    def observe(self, **terms: Any) -> None:
        """Record the loss terms of a step; call it where the loss is computed."""
        if self._in_epoch:
            self._driver.record_terms(terms)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Continue from the checkpoint if there is one.

        Raises:
            InputError: the Trainer does not evaluate after every epoch, has its own learning rate
                schedule, or has a checkpoint of another plan; or values change at the steps of a
                training whose number of batches is not known.
        """
        if args.eval_strategy != "epoch":
            raise InputError(
                "ScheduleCallback needs exactly one evaluation per epoch: set eval_strategy='epoch'"
            )
        saved: Any = state.stateful_callbacks
        self._driver.load_state_dict(saved.get(_KEY, {}))
        self._driver.next_epoch()
        if "lr" in self._driver.values and args.lr_scheduler_type != "constant":
            raise InputError(
                f"both the plan and lr_scheduler_type='{args.lr_scheduler_type}' set the learning "
                "rate: set lr_scheduler_type='constant'"
            )
        record_decay_groups(self._driver.values, given["model"], given["optimizer"])
        self._steps = _steps_per_epoch(given["train_dataloader"], args)
        if self._driver.moving and self._steps is None:
            raise InputError(
                f'{", ".join(self._driver.moving)}: the interval is "step", but the number of '
                "batches of an epoch is not known: give the training data set a length"
            )
        self._step = 0
        if self._steps is not None and not args.ignore_data_skip:
            # The Trainer continues within the epoch of the checkpoint.
            self._step = state.global_step % self._steps

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Set the values of the epoch."""
        self._in_epoch = True
        self._driver.apply(given["model"], [given["optimizer"]])
        self._keep_learning_rates(**given)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Set the values of the optimizer step, if they change in the epoch."""
        if self._driver.moving and self._steps is not None:
            model, optimizers = given["model"], [given["optimizer"]]
            if self._driver.apply_step(model, optimizers, self._step, self._steps):
                self._keep_learning_rates(**given)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Count the optimizer steps of the epoch."""
        self._step += 1

    def _keep_learning_rates(self, *, optimizer: Any, lr_scheduler: Any, **_: Any) -> None:
        """Let the Trainer's constant scheduler keep and log the learning rates of the plan."""
        if any(name == "lr" or name.endswith(".lr") for name in self._driver.values):
            # It resets the learning rates to base_lrs after each step.
            lr_scheduler.base_lrs = [group["lr"] for group in optimizer.param_groups]
            lr_scheduler._last_lr = list(lr_scheduler.base_lrs)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Stop recording loss terms: the evaluation follows."""
        self._in_epoch, self._epoch_ended = False, True
        self._step = 0

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """End the epoch; stop the Trainer if the run has ended."""
        if not self._epoch_ended:
            return  # An evaluation before the first epoch, or one that the caller started.
        self._epoch_ended = False
        self._driver.end_epoch(given["metrics"])
        saved: Any = state.stateful_callbacks
        saved[_KEY] = self._driver.state_dict()
        if not self._driver.next_epoch():
            control.should_training_stop = True


def _steps_per_epoch(loader: Any, args: TrainingArguments) -> int | None:
    """Return the number of optimizer steps of an epoch; None for a data loader without a length."""
    batches = len(loader) if has_length(loader) else 0
    return math.ceil(batches / args.gradient_accumulation_steps) or None
