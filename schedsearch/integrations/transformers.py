"""Schedules in a training by the Trainer of Hugging Face's transformers.

    config = schedsearch.load("best.toml")
    schedule = ScheduleCallback(config.scheduler(), metric="eval_loss")
    arguments = TrainingArguments(
        num_train_epochs=config.horizon, eval_strategy="epoch", lr_scheduler_type="constant", …
    )
    Trainer(model, arguments, callbacks=[schedule], …).train()

In a search the run takes the scheduler's place, and ends the training when it is pruned.
"""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from schedsearch.engines.loop import LoopRun
from schedsearch.errors import InputError
from schedsearch.integrations.driver import OnValues, ScheduleDriver
from schedsearch.scheduler import Scheduler

#: Under which name a checkpoint of the Trainer holds the schedules' state.
_KEY = "schedsearch"


class ScheduleCallback(TrainerCallback):
    """Sets the values in force before each epoch, and steps the schedules on its evaluation.

    Values named as a key of the optimizer's parameter groups (`lr`, `weight_decay`, ...) are set
    there, and `weights.TERM` on each `WeightedLoss` of the model. Checkpoints of the Trainer hold
    the schedules' state.

    Args:
        source: a config's scheduler, or the run of a search.
        metric: the evaluation's metric that is the objective, as the Trainer names it.
        on_values: called with the values before each epoch, for those set nowhere else.
    """

    def __init__(
        self, source: Scheduler | LoopRun, *, metric: str, on_values: OnValues | None = None
    ) -> None:
        self._driver = ScheduleDriver(source, metric, on_values)
        self._in_epoch = self._epoch_ended = False

    def observe(self, **terms: Any) -> None:
        """Take the loss terms of a step; call it where the loss is computed."""
        if self._in_epoch:
            self._driver.record_terms(terms)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Go on from a checkpoint, if there is one.

        Raises:
            InputError: the Trainer does not evaluate after every epoch, or moves the learning rate
                itself, or its checkpoint is of another plan.
        """
        if args.eval_strategy != "epoch":
            raise InputError(
                "ScheduleCallback steps on one evaluation per epoch: set eval_strategy='epoch'"
            )
        kept: Any = state.stateful_callbacks
        self._driver.load_state_dict(kept.get(_KEY, {}))
        self._driver.next_epoch()
        if "lr" in self._driver.values and args.lr_scheduler_type != "constant":
            raise InputError(
                f"the plan moves lr, and so does lr_scheduler_type='{args.lr_scheduler_type}': "
                "set lr_scheduler_type='constant'"
            )

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Set the values in force."""
        self._in_epoch = True
        self._driver.apply(given["model"], [given["optimizer"]])
        # A constant scheduler sets its own idea of the learning rate after each step.
        given["lr_scheduler"].base_lrs = [group["lr"] for group in given["optimizer"].param_groups]

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Take no more loss terms: what comes now is the evaluation."""
        self._in_epoch, self._epoch_ended = False, True

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """End the epoch; a run that is over stops the Trainer."""
        if not self._epoch_ended:
            return  # An evaluation before the first epoch, or one of the caller's.
        self._epoch_ended = False
        self._driver.end_epoch(given["metrics"])
        kept: Any = state.stateful_callbacks
        kept[_KEY] = self._driver.state_dict()
        if not self._driver.next_epoch():
            control.should_training_stop = True
