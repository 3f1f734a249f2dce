"""Which worker trains which trial: claims, hand-backs, and the count that no worker oversteps.

A trial that is handed back, or whose worker is lost, becomes FAIL with `superseded_by`, and a new
WAITING row with `retry_of` takes its parameters over: rows so linked are one *chain*. A study of N
trials is one of N chains. All of it happens in single transactions that lock the study first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, exists, func, insert, literal, select, update

from schedsearch.storage.attributes import AUDITED, UNPRUNED
from schedsearch.storage.claims import claim
from schedsearch.storage.mirror import StudyMirror
from schedsearch.storage.opening import Database
from schedsearch.storage.rows import now
from schedsearch.storage.tables import (
    heartbeats,
    parameters,
    reports,
    studies,
    system_attributes,
    trials,
    user_attributes,
)
from schedsearch.storage.writes import add_attributes

#: A worker that is silent for longer, on any machine, is taken for dead.
GRACE = timedelta(seconds=120)
#: The user attributes that a trial's successor takes over; the rest it earns by itself.
INHERITED = ("baseline", "draw", "plan", UNPRUNED, AUDITED)


@dataclass(frozen=True)
class Counts:
    """How many chains of a study are in which state, and how many epochs its trials reported."""

    complete: int = 0
    pruned: int = 0
    failed: int = 0
    running: int = 0
    waiting: int = 0
    epochs: int = 0

    @property
    def chains(self) -> int:
        """The trials begun or queued: what a study's total limits."""
        return self.finished + self.running + self.waiting

    @property
    def finished(self) -> int:
        """The trials that ended."""
        return self.complete + self.pruned + self.failed


class TrialQueue:
    """The trials of one study, as its workers share them."""

    def __init__(self, database: Database, study_id: int) -> None:
        self._engine = database.engine
        self._study_id = study_id
        self._mirror = StudyMirror(study_id)

    @contextmanager
    def _locked(self) -> Iterator[Connection]:
        """A transaction that holds the study: what it reads cannot change before it writes."""
        with self._engine.begin() as connection:
            row = select(studies.c.study_id).where(studies.c.study_id == self._study_id)
            connection.execute(row.with_for_update())
            yield connection

    def claim(self, worker: str, total: int) -> int | None:
        """Make a queued trial this worker's, or a new one if the study has fewer than `total`.

        Returns the trial's id, or None if nothing is left to begin.
        """
        with self._locked() as connection:
            self._mirror.catch_up(connection)
            claimed = claim(connection, self._mirror, worker, 1, total)
        return claimed[0]._trial_id if claimed else None

    def beat(self, trial_ids: list[int]) -> None:
        """Say that the workers of these trials are alive."""
        with self._engine.begin() as connection:
            mine = heartbeats.c.trial_id.in_(trial_ids)
            connection.execute(
                update(heartbeats).where(mine).values(heartbeat=func.current_timestamp())
            )

    def hand_back_all_of(self, worker: str) -> int:
        """Queue anew every trial that a worker has running; return how many."""
        mine = exists().where(
            user_attributes.c.trial_id == trials.c.trial_id,
            user_attributes.c.key == "worker",
            user_attributes.c.value_json == json.dumps(worker),
        )
        with self._locked() as connection:
            lost = self._running(connection, mine)
            for trial_id in lost:
                self._supersede(connection, trial_id)
        return len(lost)

    def hand_back_stale(self, grace: timedelta = GRACE) -> int:
        """Queue anew every running trial whose worker has been silent for longer than `grace`."""
        with self._locked() as connection:
            now = connection.execute(select(func.current_timestamp())).scalar_one()
            limit = _naive(now) - grace
            silent = ~exists().where(
                heartbeats.c.trial_id == trials.c.trial_id, heartbeats.c.heartbeat > limit
            )
            lost = self._running(connection, silent)
            for trial_id in lost:
                self._supersede(connection, trial_id)
        return len(lost)

    def counts(self) -> Counts:
        """Count the study's chains by state, and the epochs reported by all its rows."""
        states = (
            select(trials.c.state, func.count())
            .where(trials.c.study_id == self._study_id, ~_superseded())
            .group_by(trials.c.state)
        )
        epochs = (
            select(func.count())
            .select_from(reports.join(trials, reports.c.trial_id == trials.c.trial_id))
            .where(trials.c.study_id == self._study_id)
        )
        with self._engine.connect().execution_options(reads_only=True) as connection:
            found = {str(state): int(number) for state, number in connection.execute(states)}
            reported = connection.execute(epochs).scalar_one()
        return Counts(
            complete=found.get("COMPLETE", 0),
            pruned=found.get("PRUNED", 0),
            failed=found.get("FAIL", 0),
            running=found.get("RUNNING", 0),
            waiting=found.get("WAITING", 0),
            epochs=reported,
        )

    def _running(self, connection: Connection, condition: Any) -> list[int]:
        query = select(trials.c.trial_id).where(
            trials.c.study_id == self._study_id, trials.c.state == "RUNNING", condition
        )
        return list(connection.execute(query).scalars())

    def _insert(self, connection: Connection, **values: Any) -> int:
        number = connection.execute(
            select(func.count()).where(trials.c.study_id == self._study_id)
        ).scalar_one()
        row = insert(trials).values(number=number, study_id=self._study_id, **values)
        key = connection.execute(row).inserted_primary_key
        assert key is not None
        return int(key[0])

    def _supersede(self, connection: Connection, trial_id: int) -> None:
        """End a row as FAIL and queue its successor, which no late write of its owner can reach."""
        successor = self._insert(connection, state="WAITING")
        both = select(trials.c.trial_id, trials.c.number).where(
            trials.c.trial_id.in_((trial_id, successor))
        )
        numbers = {row.trial_id: row.number for row in connection.execute(both)}
        ended = {"state": "FAIL", "datetime_complete": now()}
        connection.execute(update(trials).where(trials.c.trial_id == trial_id).values(ended))
        _set(connection, trial_id, "superseded_by", numbers[successor])
        _set(connection, successor, "retry_of", numbers[trial_id])
        _copy(connection, parameters, trial_id, successor)
        inherited = user_attributes.c.key.in_(INHERITED)
        _copy(connection, user_attributes, trial_id, successor, inherited)
        fixed = system_attributes.c.key == "fixed_params"
        _copy(connection, system_attributes, trial_id, successor, fixed)


def _superseded() -> Any:
    attributes = user_attributes.alias()
    return exists().where(
        attributes.c.trial_id == trials.c.trial_id, attributes.c.key == "superseded_by"
    )


def _set(connection: Connection, trial_id: int, key: str, value: Any) -> None:
    add_attributes(connection, user_attributes, {(trial_id, key): json.dumps(value)})


def _copy(connection: Connection, table: Any, source: int, target: int, *conditions: Any) -> None:
    """Copy the rows of one trial to another; the first column numbers the rows anew."""
    names = [column.name for column in table.columns if not column.primary_key]
    columns = [
        literal(target).label(name) if name == "trial_id" else table.c[name] for name in names
    ]
    rows = select(*columns).where(table.c.trial_id == source, *conditions)
    connection.execute(insert(table).from_select(names, rows))


def _naive(moment: datetime | str) -> datetime:
    """Return a database's own clock as it stores it; SQLite answers with text."""
    return (
        datetime.fromisoformat(moment) if isinstance(moment, str) else moment.replace(tzinfo=None)
    )
