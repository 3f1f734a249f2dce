"""What a worker says once about a training loop: what `confirm` and `train` would miss."""

from __future__ import annotations

from schedsearch.engines.loop import error_after_epochs, offers_model
from schedsearch.exception_lines import describe_error
from schedsearch.space import Space
from schedsearch.worker.options import Messages
from schedsearch.worker.trial import LiveTrial


class LoopWarnings:
    """Warnings about a training loop, each said once.

    Args:
        space: has the objective.
        messages: lines for the user.
    """

    def __init__(self, space: Space, messages: Messages) -> None:
        self._awaits_model = space.objective.value == "best"
        self._awaits_error = True
        self._messages = messages

    def after_epoch(self, live: LiveTrial) -> None:
        """Say if a loop offers no model of an epoch, which may be the best one."""
        if not self._awaits_model:
            return
        self._awaits_model = False
        if not offers_model(live.runs[0].engine):
            self._messages.warn(
                'with the objective\'s `value = "best"`, `confirm` and `train` need the model of '
                "each epoch, but the training loop gave none: call run.checkpoint in every epoch, "
                "and load run.restored if it is not None"
            )

    def after_end(self, live: LiveTrial) -> None:
        """Say if a loop raised after its last epoch, which fails no trial of a search."""
        error = error_after_epochs(live.runs[0].engine)
        if error is not None and self._awaits_error:
            self._awaits_error = False
            self._messages.warn(
                f"trial {live.trial.number} is complete, but the training loop raised after its "
                f"last epoch: {describe_error(error)}; `confirm` measures the model there, and "
                "would fail"
            )
