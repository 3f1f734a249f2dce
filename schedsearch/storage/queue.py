"""The queue of a study's trials: enqueueing, requeueing, and counts.

A trial that is requeued, because its worker stopped or is lost, becomes FAIL with `superseded_by`.
A new WAITING row with `retry_of` takes over its plan and parameters. Both rows are one trial of the
study's total. Each step is one transaction that locks the study first.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

from optuna.distributions import distribution_to_json
from optuna.trial import FrozenTrial
from sqlalchemy import Connection, case, insert, literal, select, update

from schedsearch.storage.attributes import (
    AUDITED,
    BASELINE,
    BATCH,
    CONFIRMED_TRIAL,
    CONSTANT,
    FROM_EPOCH,
    PARENT,
    PLAN,
    RACED_TRIAL,
    RETRY_OF,
    SAMPLE_INDEX,
    SEED,
    SUPERSEDED_BY,
    TAKEN_FROM,
    TRACEBACK,
    UNPRUNED,
    USER_PLAN,
)
from schedsearch.storage.budget import Budget, load_budget, set_total
from schedsearch.storage.claims import belongs_to, claimed_trials, lock_running, lock_study
from schedsearch.storage.clock import database_now
from schedsearch.storage.counts import Counts, count_finished_epochs, count_rows
from schedsearch.storage.database import Database
from schedsearch.storage.liveness import GRACE_PERIOD, Liveness
from schedsearch.storage.running_trials import load_running_trials
from schedsearch.storage.tables import (
    parameters,
    system_attributes,
    trials,
    user_attributes,
)
from schedsearch.storage.write_buffer import add_attributes, execute_many

#: The user attributes that a retry takes over.
INHERITED = (
    BASELINE,
    SAMPLE_INDEX,
    PLAN,
    PARENT,
    FROM_EPOCH,
    UNPRUNED,
    AUDITED,
    USER_PLAN,
    TAKEN_FROM,
    SEED,
    RACED_TRIAL,
    CONFIRMED_TRIAL,
    CONSTANT,
)

_Result = TypeVar("_Result")


class TrialQueue:
    """The trials of one study, as its workers share them.

    Attributes:
        liveness: the signs of life of the workers.
    """

    def __init__(self, database: Database, study_id: int) -> None:
        self._database = database
        self._study_id = study_id
        self.liveness = Liveness(database, study_id)

    # --- limits and counts -----------------------------------------------------------------------

    def budget(self) -> Budget:
        """Return the current budget of the study; `start` may raise it at any time."""
        return self._database.read(lambda connection: load_budget(connection, self._study_id))

    def counts(self) -> Counts:
        """Count the study's trials by state, and the epochs that all its rows reported."""
        return self._database.read(lambda connection: Counts.load(connection, self._study_id))

    def remaining(self) -> int:
        """Return how many new trials may still start, beside the queued ones."""
        budget, counts = self.budget(), self.counts()
        epochs = 0 if budget.epochs is None else self._database.read(self._finished_epochs)
        return budget.remaining_trials(
            finished=counts.finished, epochs=epochs, unfinished=counts.running + counts.waiting
        )

    def running(self) -> int:
        """Count the rows of trials that any worker trains."""
        return self._database.read(lambda connection: len(self._running(connection)))

    def claimed_by(self, worker: str) -> list[FrozenTrial]:
        """Return the rows of trials that a worker has claimed, by number."""
        return self._database.read(
            lambda connection: claimed_trials(connection, self._study_id, worker, ended=True)
        )

    def _finished_epochs(self, connection: Connection) -> int:
        return count_finished_epochs(connection, self._study_id)

    # --- enqueueing ------------------------------------------------------------------------------

    def enqueue(self, templates: Sequence[FrozenTrial], *, extra: int = 0) -> None:
        """Queue trials in one transaction, and raise the study's total if they exceed it.

        Args:
            templates: the parameters and the user attributes of the trials.
            extra: how much the total rises at least.
        """
        # Written with the first trial: a retry finds it if an earlier attempt was committed.
        token = uuid.uuid4().hex

        def enqueue(connection: Connection) -> None:
            if self._has_batch(connection, token):
                return
            for place, template in enumerate(templates):
                self._enqueue(connection, template, token if place == 0 else None)
            total = load_budget(connection, self._study_id).trials
            needed = max(total + extra, Counts.load(connection, self._study_id).trials)
            if needed > total:
                set_total(connection, self._study_id, needed)

        self._write_locked(enqueue)

    def _has_batch(self, connection: Connection, token: str) -> bool:
        query = select(trials.c.trial_id).where(
            trials.c.study_id == self._study_id,
            user_attributes.c.trial_id == trials.c.trial_id,
            user_attributes.c.key == BATCH,
            user_attributes.c.value_json == json.dumps(token),
        )
        return connection.execute(query).first() is not None

    def _enqueue(self, connection: Connection, template: FrozenTrial, token: str | None) -> None:
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
        execute_many(connection, insert(parameters), rows)
        given = template.user_attrs | ({} if token is None else {BATCH: token})
        attributes = {(trial_id, key): json.dumps(value) for key, value in given.items()}
        add_attributes(connection, user_attributes, attributes)

    def withdraw(self, trial_ids: Sequence[int]) -> int:
        """Remove queued trials from the queue, and from the study's total.

        Their rows remain as FAIL, superseded by no other trial. Nothing changes while a trial of
        the study is running.

        Returns:
            How many of the trials stay in the queue.
        """

        def withdraw(connection: Connection) -> int:
            waiting = trials.c.state == "WAITING", trials.c.trial_id.in_(trial_ids)
            queued = connection.scalars(select(trials.c.trial_id).where(*waiting)).all()
            if self._running(connection):
                return len(queued)
            moment = database_now(connection)
            for trial_id in queued:
                _fail(connection, trial_id, moment)
                _add_attribute(connection, trial_id, SUPERSEDED_BY, None)
            total = load_budget(connection, self._study_id).trials - len(queued)
            set_total(connection, self._study_id, total)
            return 0

        return self._write_locked(withdraw) if trial_ids else 0

    # --- failing and requeueing ------------------------------------------------------------------

    def fail(self, worker: str, trial_ids: Sequence[int], traceback: str) -> None:
        """Fail those of these trials that the worker has running; they keep the traceback."""

        def fail(connection: Connection) -> None:
            moment = database_now(connection)
            mine = set(self._running(connection, belongs_to(worker))) & set(trial_ids)
            for trial_id in lock_running(connection, mine):
                _fail(connection, trial_id, moment)
                _add_attribute(connection, trial_id, TRACEBACK, traceback)

        self._write_locked(fail)

    def requeue_trials_of(self, worker: str) -> int:
        """Requeue all running trials of a worker that ends; return how many."""

        def requeue(connection: Connection) -> int:
            self.liveness.unregister(connection, worker)
            running = self._running(connection, belongs_to(worker))
            return self._requeue_all(connection, dict.fromkeys(running))

        return self._write_locked(requeue)

    def requeue_lost(self, grace_period: timedelta = GRACE_PERIOD) -> int:
        """Requeue the trials whose worker has ended or is silent; return how many.

        Call this every few seconds: see `Liveness.find_lost`.
        """
        lost = self.liveness.find_lost(grace_period)
        if not lost:
            return 0

        def requeue(connection: Connection) -> int:
            # A sign of life since then keeps a trial.
            current = load_running_trials(connection, self._study_id)
            still_lost = sorted(i for i in lost if current.get(i) == lost[i])
            # A worker that is only silent may resume, and then needs its record.
            for worker in {
                lost[i].worker for i in still_lost if lost[i].has_live_process() is False
            }:
                self.liveness.unregister(connection, worker)
            # The time after its last sign of life was no training.
            ends = {i: lost[i].heartbeat for i in still_lost}
            return self._requeue_all(connection, ends)

        return self._write_locked(requeue)

    def _write_locked(self, work: Callable[[Connection], _Result]) -> _Result:
        """Run `work` in a transaction that locks the study first."""

        def work_locked(connection: Connection) -> _Result:
            lock_study(connection, self._study_id)
            return work(connection)

        return self._database.write(work_locked)

    def _running(self, connection: Connection, *conditions: Any) -> list[int]:
        query = select(trials.c.trial_id).where(
            trials.c.study_id == self._study_id, trials.c.state == "RUNNING", *conditions
        )
        return list(connection.execute(query).scalars())

    def _requeue_all(self, connection: Connection, ends: Mapping[int, datetime | None]) -> int:
        """Requeue running trials; `ends` has the end of each one's training, None for now."""
        running, now = lock_running(connection, ends), database_now(connection)
        for trial_id in running:
            self._requeue(connection, trial_id, ends[trial_id] or now)
        return len(running)

    def _requeue(self, connection: Connection, trial_id: int, end: datetime) -> None:
        """Fail a row and queue its retry as a new row, which late writes of its worker miss."""
        retry = self._insert(connection, state="WAITING")
        both = select(trials.c.trial_id, trials.c.number).where(
            trials.c.trial_id.in_((trial_id, retry))
        )
        numbers = {row.trial_id: row.number for row in connection.execute(both)}
        _fail(connection, trial_id, end)
        _add_attribute(connection, trial_id, SUPERSEDED_BY, numbers[retry])
        _add_attribute(connection, retry, RETRY_OF, numbers[trial_id])
        _copy_rows(connection, parameters, trial_id, retry)
        inherited = user_attributes.c.key.in_(INHERITED)
        _copy_rows(connection, user_attributes, trial_id, retry, inherited)
        fixed = system_attributes.c.key == "fixed_params"
        _copy_rows(connection, system_attributes, trial_id, retry, fixed)

    def _insert(self, connection: Connection, **columns: Any) -> int:
        number = count_rows(connection, self._study_id)
        row = insert(trials).values(number=number, study_id=self._study_id, **columns)
        key = connection.execute(row).inserted_primary_key
        assert key is not None
        return int(key[0])


def _fail(connection: Connection, trial_id: int, moment: datetime) -> None:
    """Fail a trial that ended at a moment, but not before its start: heartbeats are rounded."""
    start = trials.c.datetime_start
    failed = {"state": "FAIL", "datetime_complete": case((start > moment, start), else_=moment)}
    connection.execute(update(trials).where(trials.c.trial_id == trial_id).values(failed))


def _add_attribute(connection: Connection, trial_id: int, key: str, value: Any) -> None:
    add_attributes(connection, user_attributes, {(trial_id, key): json.dumps(value)})


def _copy_rows(
    connection: Connection, table: Any, source: int, target: int, *conditions: Any
) -> None:
    """Copy the rows of one trial to another one; they get new ids."""
    names = [column.name for column in table.columns if not column.primary_key]
    columns = [
        literal(target).label(name) if name == "trial_id" else table.c[name] for name in names
    ]
    rows = select(*columns).where(table.c.trial_id == source, *conditions)
    connection.execute(insert(table).from_select(names, rows))
