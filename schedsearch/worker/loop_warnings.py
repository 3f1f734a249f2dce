"""What a worker says once about a training loop: what it does not read, gives or survive."""

from __future__ import annotations

from schedsearch.engines.loop import error_after_epochs, offers_model, unread_values
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
        self._awaits_reading = True
        self._messages = messages

    def after_epoch(self, live: LiveTrial) -> None:
        """Say if a loop has read no value of a hyperparameter, or offers no model of an epoch."""
        self._check_reading(live)
        if not self._awaits_model:
            return
        self._awaits_model = False
        if not offers_model(live.runs[0].engine):
            self._messages.warn(
                'with the objective\'s `value = "best"`, `confirm` and `train` need the model of '
                "each epoch, but the training loop gave none: call run.checkpoint in every epoch, "
                "and load run.restored if it is not None"
            )

    def _check_reading(self, live: LiveTrial) -> None:
        if not self._awaits_reading:
            return
        self._awaits_reading = False
        if unread := unread_values(live.runs[0].engine):
            names = ", ".join(f"`{name}`" for name in unread)
            self._messages.warn(
                f"the plans move {names}, but the training loop has not read the values in its "
                f'first epoch: apply them, as in hp["{unread[0]}"], or take the hyperparameters '
                "out of the space"
            )

    def after_end(self, live: LiveTrial) -> None:
        """Say if a loop raised after its last epoch, which fails no trial of a search."""
        error = error_after_epochs(live.runs[0].engine)
        if error is not None and self._awaits_error:
            self._awaits_error = False
            self._messages.warn(
                f"trial {live.trial.number} is complete, but the training loop raised after its "
                f"last epoch: {describe_error(error)}; `confirm` tests the model after it, and "
                "would fail"
            )
