"""The budget of a study: how many trials it has, and how many epochs they may report."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, update

from schedsearch.space.shares import trials_in_share
from schedsearch.storage.attributes import EPOCHS, TRIALS
from schedsearch.storage.clock import to_stored_time
from schedsearch.storage.study_attributes import (
    StudyAttributes,
    load_attributes,
    load_attributes_and_time,
)
from schedsearch.storage.tables import study_attributes


@dataclass(frozen=True)
class Budget:
    """The limits of a study; a trial with its retries counts as one trial.

    Attributes:
        trials: the maximum number of trials.
        epochs: the maximum number of epochs that all trials report together; None: no limit.
        horizon: the maximum number of epochs of one trial.
    """

    trials: int
    epochs: int | None = None
    horizon: int = 1

    @classmethod
    def from_attributes(cls, attributes: StudyAttributes) -> Budget:
        """Return the budget that the attributes of a study contain."""
        return cls(attributes[TRIALS], **attributes.get(EPOCHS, {}))

    def remaining_trials(self, *, finished: int, epochs: int, unfinished: int) -> int:
        """Return how many more trials may start.

        Every unfinished trial may still run to the horizon, so the epochs never exceed the budget.

        Args:
            finished: the number of finished trials.
            epochs: the number of epochs that the finished trials reported.
            unfinished: the number of running and queued trials.

        >>> budget = Budget(trials=10, epochs=100, horizon=20)
        >>> budget.remaining_trials(finished=2, epochs=25, unfinished=1)
        2
        """
        remaining = self.trials - finished - unfinished
        if self.epochs is not None:
            remaining = min(remaining, (self.epochs - epochs) // self.horizon - unfinished)
        return max(0, remaining)

    def trials_in_share(self, share: float) -> int:
        """Return how many trials up to the horizon a share of the budget allows.

        >>> Budget(trials=100, epochs=800, horizon=20).trials_in_share(0.25)
        10
        """
        return trials_in_share(share, self.trials, self.epochs, self.horizon)

    def is_half_spent(self, *, finished: int, epochs: int) -> bool:
        """Return whether finished trials have spent half of the trials, or half of the epochs."""
        by_epochs = self.epochs is not None and 2 * epochs >= self.epochs
        return 2 * finished >= self.trials or by_epochs


def load_budget(connection: Connection, study_id: int) -> Budget:
    """Return the current budget of a study; `start` may raise it at any time."""
    return Budget.from_attributes(load_attributes(connection, study_id, (TRIALS, EPOCHS)))


def load_budget_and_time(connection: Connection, study_id: int) -> tuple[Budget, datetime]:
    """Return the current budget of a study, and the time by the clock of the database."""
    attributes, seconds = load_attributes_and_time(connection, study_id, (TRIALS, EPOCHS))
    return Budget.from_attributes(attributes), to_stored_time(seconds)


def set_total(connection: Connection, study_id: int, trials: int) -> None:
    """Set the total number of trials of a study."""
    of_study = study_attributes.c.study_id == study_id, study_attributes.c.key == TRIALS
    connection.execute(
        update(study_attributes).where(*of_study).values(value_json=json.dumps(trials))
    )
