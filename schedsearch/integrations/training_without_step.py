"""A training by the Trainer of transformers that changes nothing."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import nn
from transformers import TrainerControl, TrainerState, TrainingArguments


class TrainingWithoutStep:
    """Ends a training after one optimizer step, which it takes back.

    No callback can end the Trainer before its first step.

    Args:
        model: of the training.
        state: of the model, after the training; None leaves it as the Trainer makes it.
    """

    def __init__(self, model: nn.Module, state: Mapping[str, Any] | None) -> None:
        self._model, self._state = model, state

    @classmethod
    def after_stop(
        cls, model: nn.Module, args: TrainingArguments, state: TrainerState
    ) -> TrainingWithoutStep:
        """Return the rest of a training that had stopped when its checkpoint was saved."""
        if args.load_best_model_at_end and state.best_model_checkpoint is not None:
            return cls(model, None)  # the Trainer loads that one at its end
        return cls(model, copy.deepcopy(model.state_dict()))

    def stop(self, control: TrainerControl) -> None:
        """Let the Trainer stop, without an evaluation or a checkpoint."""
        control.should_training_stop = True
        control.should_evaluate = control.should_save = False

    def end(self) -> None:
        """Give the model its state, after the Trainer has loaded its best one."""
        if self._state is not None:
            self._model.load_state_dict(self._state)
