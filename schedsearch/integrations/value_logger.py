"""Logs the values in force with the Trainer of transformers."""

from __future__ import annotations

from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from schedsearch.integrations.driver import ScheduleDriver


class ValueLogger(TrainerCallback):
    """Adds the values in force to what the Trainer logs.

    The Trainer calls its loggers before the callbacks of the user; this one is called first.
    """

    def __init__(self, driver: ScheduleDriver) -> None:
        self._driver = driver
        self._trainer: Trainer | None = None

    def put_first(self, trainer: Trainer) -> None:
        """Become the first callback of a Trainer."""
        self.remove()
        self._trainer, handler = trainer, trainer.callback_handler
        # Not in place: the handler is calling its callbacks now.
        handler.callbacks = [self, *handler.callbacks]

    def remove(self) -> None:
        """Leave the callbacks of the Trainer."""
        if self._trainer is not None:
            handler, self._trainer = self._trainer.callback_handler, None
            handler.callbacks = [c for c in handler.callbacks if c is not self]

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Add the values to the logs of the training, not to those of an evaluation."""
        logs = given["logs"]
        if "learning_rate" in logs:
            values = {k: v for k, v in self._driver.applied.items() if k not in logs}
            logs.update(values)
            state.log_history[-1].update(values)  # a copy of the logs
