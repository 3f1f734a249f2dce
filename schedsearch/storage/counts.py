"""Counting the trials of a study, and the epochs that they reported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial
from sqlalchemy import Connection, Select, String, exists, func, select, type_coerce

from schedsearch.storage.attributes import SUPERSEDED_BY, is_superseded
from schedsearch.storage.tables import reports, trials, user_attributes


@dataclass(frozen=True)
class Counts:
    """The number of trials of a study by state, and the number of epochs that they reported.

    A trial counts once, in the state of its last retry; the epochs of earlier attempts count too.
    """

    complete: int = 0
    pruned: int = 0
    failed: int = 0
    running: int = 0
    waiting: int = 0
    epochs: int = 0

    @classmethod
    def from_rows(cls, rows: Iterable[FrozenTrial], epochs: int) -> Counts:
        """Count all rows of a study, which reported so many epochs."""
        states = Counter(row.state.name for row in rows if not is_superseded(row))
        return cls._from_states(states, epochs)

    @classmethod
    def load(cls, connection: Connection, study_id: int) -> Counts:
        """Count all rows of a study in the database."""
        # As text: another state than those of Optuna must not raise an error, and does not count.
        state = type_coerce(trials.c.state, String)
        by_state = (
            select(state, func.count())
            .where(trials.c.study_id == study_id, ~_is_superseded())
            .group_by(trials.c.state)
        )
        states = Counter({str(name): int(n) for name, n in connection.execute(by_state)})
        epochs = connection.execute(_count_epochs(study_id)).scalar_one()
        return cls._from_states(states, epochs)

    @classmethod
    def _from_states(cls, states: Counter[str], epochs: int) -> Counts:
        return cls(
            complete=states["COMPLETE"],
            pruned=states["PRUNED"],
            failed=states["FAIL"],
            running=states["RUNNING"],
            waiting=states["WAITING"],
            epochs=epochs,
        )

    @property
    def trials(self) -> int:
        """The number of all trials, queued ones included: the study's total limits it."""
        return self.finished + self.running + self.waiting

    @property
    def finished(self) -> int:
        """The number of finished trials."""
        return self.complete + self.pruned + self.failed

    def describe_no_value(self, *, ended: bool) -> str:
        """Return why there is no complete trial: none is complete yet, or the study has ended.

        >>> Counts(failed=2).describe_no_value(ended=True)
        'ended without a complete trial: 2 of 2 failed'
        """
        if not ended:
            return "no trial is complete yet"
        by_state = {"failed": self.failed, "were pruned": self.pruned}
        parts = [f"{n} of {self.finished} {state}" for state, n in by_state.items() if n]
        return f"ended without a complete trial: {', '.join(parts) or 'no trial was trained'}"


def count_rows(connection: Connection, study_id: int) -> int:
    """Return the number of all rows of trials: the number of the next row."""
    query = select(func.count()).where(trials.c.study_id == study_id)
    return connection.execute(query).scalar_one()


def count_finished_epochs(connection: Connection, study_id: int) -> int:
    """Return the number of epochs that the finished trials reported, without superseded rows."""
    finished = trials.c.state.not_in(("RUNNING", "WAITING")), ~_is_superseded()
    return connection.execute(_count_epochs(study_id).where(*finished)).scalar_one()


def count_epochs_by_trial(connection: Connection, study_id: int) -> dict[int, int]:
    """Return the number of epochs that each row of a trial reported, by id."""
    query = (
        select(reports.c.trial_id, func.count())
        .join_from(reports, trials, reports.c.trial_id == trials.c.trial_id)
        .where(trials.c.study_id == study_id)
        .group_by(reports.c.trial_id)
    )
    return {row[0]: row[1] for row in connection.execute(query)}


def _count_epochs(study_id: int) -> Select[int]:
    return (
        select(func.count())
        .select_from(reports.join(trials, reports.c.trial_id == trials.c.trial_id))
        .where(trials.c.study_id == study_id)
    )


def _is_superseded() -> Any:
    attributes = user_attributes.alias()
    return exists().where(
        attributes.c.trial_id == trials.c.trial_id, attributes.c.key == SUPERSEDED_BY
    )
