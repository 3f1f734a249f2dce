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

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from schedsearch.engines.loop import LoopRun
from schedsearch.errors import InputError
from schedsearch.integrations.driver import OnValues, ScheduleDriver
from schedsearch.scheduler import Scheduler

#: The key of the state of the schedules in a checkpoint of the Trainer.
_KEY = "schedsearch"


class ScheduleCallback(TrainerCallback):
    """Sets the scheduled values before each epoch and updates the schedules after evaluation.

    Values with the name of a key of the parameter groups (`lr`, `weight_decay`, ...) are set in the
    optimizer, and `weights.TERM` in each `WeightedLoss` of the model. The state of the schedules is
    saved in the checkpoints of the Trainer.

    Args:
        source: the scheduler of a config, or the run of a search.
        metric: the evaluation metric that is the objective, with its name in the Trainer.
        on_values: called with the values before each epoch, to set all other values.
    """

    def __init__(
        self, source: Scheduler | LoopRun, *, metric: str, on_values: OnValues | None = None
    ) -> None:
        self._driver = ScheduleDriver(source, metric, on_values)
        self._in_epoch = self._epoch_ended = False

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
                schedule, or has a checkpoint of another plan.
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

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Set the values of the epoch."""
        self._in_epoch = True
        self._driver.apply(given["model"], [given["optimizer"]])
        # The constant scheduler resets the learning rate to base_lrs after each step.
        given["lr_scheduler"].base_lrs = [group["lr"] for group in given["optimizer"].param_groups]

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Stop recording loss terms: the evaluation follows."""
        self._in_epoch, self._epoch_ended = False, True

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
