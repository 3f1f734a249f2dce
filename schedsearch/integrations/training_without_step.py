"""A training by the Trainer of transformers that changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from transformers import TrainerControl


class TrainingWithoutStep:
    """Ends a training after one optimizer step, which it takes back.

    No callback can end the Trainer before its first step.

    Args:
        model: of the training.
        state: of the model, after the training.
    """

    def __init__(self, model: nn.Module, state: Mapping[str, Any]) -> None:
        self._model, self._state = model, state

    def stop(self, control: TrainerControl) -> None:
        """Let the Trainer stop, without an evaluation or a checkpoint."""
        control.should_training_stop = True
        control.should_evaluate = control.should_save = False

    def end(self) -> None:
        """Give the model its state."""
        self._model.load_state_dict(self._state)
