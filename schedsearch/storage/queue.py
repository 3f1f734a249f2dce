"""Which worker trains which trial: signs of life, hand-backs, and what is left to begin.

A trial that is handed back, or whose worker is lost, becomes FAIL with `superseded_by`, and a new
WAITING row with `retry_of` takes its parameters over: rows so linked are one *chain*. A study of N
trials is one of N chains. All of it happens in single transactions that lock the study first.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from optuna.distributions import distribution_to_json
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import (
    Connection,
    Select,
    exists,
    func,
    insert,
    literal,
    select,
    true,
    update,
)

from schedsearch.storage.attributes import (
    AUDITED,
    CONFIRMED_TRIAL,
    CONSTANT,
    FROM_EPOCH,
    OWN,
    PARENT,
    SAMPLE_INDEX,
    SEED,
    UNPRUNED,
)
from schedsearch.storage.claims import Budget, lock_study, set_total, stored_budget
from schedsearch.storage.database import Database
from schedsearch.storage.rows import now
from schedsearch.storage.stale_trials import StaleTrialDetector
from schedsearch.storage.tables import (
    heartbeats,
    parameters,
    reports,
    system_attributes,
    trials,
    user_attributes,
)
from schedsearch.storage.writes import add_attributes, execute_all

#: A worker that is silent for longer, on any machine, is taken for dead.
GRACE = timedelta(seconds=120)
#: The user attributes that a trial's successor takes over; the rest it earns by itself.
INHERITED = (
    "baseline",
    SAMPLE_INDEX,
    "plan",
    PARENT,
    FROM_EPOCH,
    UNPRUNED,
    AUDITED,
    OWN,
    SEED,
    CONFIRMED_TRIAL,
    CONSTANT,
)

_Found = TypeVar("_Found")


@dataclass(frozen=True)
class Counts:
    """How many chains of a study are in which state, and how many epochs its trials reported."""

    complete: int = 0
    pruned: int = 0
    failed: int = 0
    running: int = 0
    waiting: int = 0
    epochs: int = 0

    @classmethod
    def of(cls, rows: Iterable[FrozenTrial]) -> Counts:
        """Count all rows of a study, as they were read at one moment."""
        every = list(rows)
        states = Counter(row.state for row in every if "superseded_by" not in row.user_attrs)
        return cls(
            complete=states[TrialState.COMPLETE],
            pruned=states[TrialState.PRUNED],
            failed=states[TrialState.FAIL],
            running=states[TrialState.RUNNING],
            waiting=states[TrialState.WAITING],
            epochs=sum(len(row.intermediate_values) for row in every),
        )

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
        self._database = database
        self._study_id = study_id
        self._silence = StaleTrialDetector()

    def _locked(self, work: Callable[[Connection], _Found]) -> _Found:
        """Work in a transaction that holds the study: what it reads holds until it has written."""

        def held(connection: Connection) -> _Found:
            lock_study(connection, self._study_id)
            return work(connection)

        return self._database.write(held)

    def budget(self) -> Budget:
        """Return what the study may take in all, as it stands now: `start` may raise it."""
        return self._database.read(lambda connection: stored_budget(connection, self._study_id))

    def room(self) -> int:
        """Return how many trials may still begin, beside those that are queued."""
        budget, counts = self.budget(), self.counts()
        epochs = 0 if budget.epochs is None else self._ended_epochs()
        return budget.room(
            ended=counts.finished, epochs=epochs, others=counts.running + counts.waiting
        )

    def _ended_epochs(self) -> int:
        """Count the epochs that the chains which have ended reported."""
        ended = trials.c.state.not_in(("RUNNING", "WAITING")), ~_superseded()
        query = self._epochs().where(*ended)
        return self._database.read(lambda connection: connection.execute(query).scalar_one())

    def enqueue(self, templates: Sequence[FrozenTrial]) -> None:
        """Queue trials in one transaction, and raise the study's total where they exceed it.

        Args:
            templates: give the parameters and the user attributes of the trials.
        """
        first: int | None = None

        def insert_all(connection: Connection) -> None:
            nonlocal first
            if first is None:
                first = self._rows(connection)
            elif self._rows(connection) > first:
                return  # an earlier attempt was committed, though its answer was lost
            for template in templates:
                self._enqueue(connection, template)
            total = self._count_trials(connection)
            if total > stored_budget(connection, self._study_id).trials:
                set_total(connection, self._study_id, total)

        if templates:
            self._locked(insert_all)

    def _enqueue(self, connection: Connection, template: FrozenTrial) -> None:
        trial_id = self._insert(connection, state="WAITING")
        rows = [
            {
                "trial_id": trial_id,
                "param_name": name,
                "param_value": distribution.to_internal_repr(template.params[name]),
                "distribution_json": distribution_to_json(distribution),
            }
            for name, distribution in template.distributions.items()
        ]
        execute_all(connection, insert(parameters), rows)
        attributes = {(trial_id, k): json.dumps(v) for k, v in template.user_attrs.items()}
        add_attributes(connection, user_attributes, attributes)

    def withdraw(self, trial_ids: Sequence[int]) -> None:
        """Take queued trials out of the queue, and out of the study's total.

        Their rows stay as FAIL, superseded by no other trial. Nothing happens while some trial of
        the study is running.
        """

        def end(connection: Connection) -> None:
            if self._running(connection, true()):
                return
            waiting = trials.c.state == "WAITING", trials.c.trial_id.in_(trial_ids)
            moment = now()
            for trial_id in connection.scalars(select(trials.c.trial_id).where(*waiting)).all():
                _end(connection, trial_id, moment)
                _set(connection, trial_id, "superseded_by", None)
            set_total(connection, self._study_id, self._count_trials(connection))

        if trial_ids:
            self._locked(end)

    def beat(self, trial_ids: list[int]) -> None:
        """Say that the workers of these trials are alive."""
        mine = heartbeats.c.trial_id.in_(trial_ids)
        alive = update(heartbeats).where(mine).values(heartbeat=func.current_timestamp())
        self._database.write(lambda connection: connection.execute(alive))

    def fail(self, worker: str, trial_ids: Sequence[int], reason: str) -> None:
        """End those of some running trials that are this worker's; they keep the reason."""

        def end(connection: Connection) -> None:
            moment = now()
            for trial_id in self._running(connection, _is_of(worker)):
                if trial_id in trial_ids:
                    _end(connection, trial_id, moment)
                    _set(connection, trial_id, "traceback", reason)

        self._locked(end)

    def hand_back_all_of(self, worker: str) -> int:
        """Queue anew every trial that a worker has running; return how many."""

        def hand_back(connection: Connection) -> int:
            return self._supersede_all(connection, self._running(connection, _is_of(worker)))

        return self._locked(hand_back)

    def hand_back_stale(self, grace: timedelta = GRACE) -> int:
        """Queue anew the running trials whose workers have been silent for as long as `grace`.

        Only silence that this queue saw itself counts, so it must be asked again and again.
        """
        seen = self._database.read(self._signs)
        silent = self._silence.look(seen, grace.total_seconds())
        if not silent:
            return 0

        def hand_back(connection: Connection) -> int:
            signs = self._signs(connection)
            lost = [i for i in silent if i in signs and signs[i] == seen[i]]
            return self._supersede_all(connection, sorted(lost))

        return self._locked(hand_back)

    def alive(self, grace: timedelta = GRACE) -> int:
        """Count the running trials that were heard of lately, by the clock of the database."""

        def count(connection: Connection) -> int:
            moment = connection.execute(select(func.current_timestamp())).scalar_one()
            signs = self._signs(connection).values()
            return sum(sign is not None and sign > _naive(moment) - grace for sign in signs)

        return self._database.read(count)

    def _signs(self, connection: Connection) -> dict[int, datetime | None]:
        """Return the last sign of life of each running trial; None: it never gave one."""
        query = (
            select(trials.c.trial_id, heartbeats.c.heartbeat)
            .join_from(trials, heartbeats, trials.c.trial_id == heartbeats.c.trial_id, isouter=True)
            .where(trials.c.study_id == self._study_id, trials.c.state == "RUNNING")
            .order_by(trials.c.trial_id)
        )
        return {row.trial_id: row.heartbeat for row in connection.execute(query)}

    def counts(self) -> Counts:
        """Count the study's chains by state, and the epochs reported by all its rows."""
        states = (
            select(trials.c.state, func.count())
            .where(trials.c.study_id == self._study_id, ~_superseded())
            .group_by(trials.c.state)
        )
        found, reported = self._database.read(
            lambda connection: (
                {str(state): int(number) for state, number in connection.execute(states)},
                connection.execute(self._epochs()).scalar_one(),
            )
        )
        return Counts(
            complete=found.get("COMPLETE", 0),
            pruned=found.get("PRUNED", 0),
            failed=found.get("FAIL", 0),
            running=found.get("RUNNING", 0),
            waiting=found.get("WAITING", 0),
            epochs=reported,
        )

    def _epochs(self) -> Select[int]:
        return (
            select(func.count())
            .select_from(reports.join(trials, reports.c.trial_id == trials.c.trial_id))
            .where(trials.c.study_id == self._study_id)
        )

    def _supersede_all(self, connection: Connection, lost: Sequence[int]) -> int:
        for trial_id in lost:
            self._supersede(connection, trial_id)
        return len(lost)

    def _running(self, connection: Connection, condition: Any) -> list[int]:
        query = select(trials.c.trial_id).where(
            trials.c.study_id == self._study_id, trials.c.state == "RUNNING", condition
        )
        return list(connection.execute(query).scalars())

    def _rows(self, connection: Connection) -> int:
        query = select(func.count()).where(trials.c.study_id == self._study_id)
        return connection.execute(query).scalar_one()

    def _count_trials(self, connection: Connection) -> int:
        query = select(func.count()).where(trials.c.study_id == self._study_id, ~_superseded())
        return connection.execute(query).scalar_one()

    def _insert(self, connection: Connection, **values: Any) -> int:
        number = self._rows(connection)
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
        _end(connection, trial_id, now())
        _set(connection, trial_id, "superseded_by", numbers[successor])
        _set(connection, successor, "retry_of", numbers[trial_id])
        _copy(connection, parameters, trial_id, successor)
        inherited = user_attributes.c.key.in_(INHERITED)
        _copy(connection, user_attributes, trial_id, successor, inherited)
        fixed = system_attributes.c.key == "fixed_params"
        _copy(connection, system_attributes, trial_id, successor, fixed)


def _is_of(worker: str) -> Any:
    return exists().where(
        user_attributes.c.trial_id == trials.c.trial_id,
        user_attributes.c.key == "worker",
        user_attributes.c.value_json == json.dumps(worker),
    )


def _end(connection: Connection, trial_id: int, moment: datetime) -> None:
    ended = {"state": "FAIL", "datetime_complete": moment}
    connection.execute(update(trials).where(trials.c.trial_id == trial_id).values(ended))


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
