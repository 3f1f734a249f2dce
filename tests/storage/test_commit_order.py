"""Batches that append to trials hold no lock that others need, and may commit in any order.

SQLite has one writer at a time, so its transactions commit in the order in which they began.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, insert

from schedsearch.storage import (
    BatchedStorage,
    Observed,
    StudyHandle,
    delete_study,
    study_names,
)
from schedsearch.storage.claims import lock_running
from schedsearch.storage.tables import reports
from tests.searches import wait_until
from tests.storage.studies import study_at

pytestmark = pytest.mark.parametrize("backend", ["postgresql", "mysql"])

X = FloatDistribution(0.0, 1.0)
#: Seconds after which a wait has failed.
TIMEOUT = 60.0


@pytest.fixture
def study(database_url: str) -> StudyHandle:
    return study_at(database_url)


def claim(storage: BatchedStorage, study: StudyHandle, worker: str) -> int:
    with storage.batch(study.study_id, worker) as batch:
        batch.claim(1)
    [trial_id] = batch.claimed
    return trial_id


def append(storage: BatchedStorage, trial_id: int, step: int) -> None:
    storage.set_trial_intermediate_value(trial_id, step, step / 10)
    storage.set_trial_param(trial_id, f"x{step}", step / 10, X)
    storage.set_trial_user_attr(trial_id, f"note {step}", step)
    storage.set_trial_system_attr(trial_id, f"rung {step}", step)


class OpenBatch:
    """A batch of another thread whose transaction has written everything, but not committed."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._has_written, self._may_commit = threading.Event(), threading.Event()
        self._batch: Future[None]

    def start(
        self, storage: BatchedStorage, study: StudyHandle, worker: str, trial_id: int, *, end: bool
    ) -> None:
        def wait(connection: Connection, moment: float) -> None:
            self._has_written.set()
            assert self._may_commit.wait(TIMEOUT)

        def write() -> None:
            with storage.batch(study.study_id, worker) as batch:
                append(storage, trial_id, 1)
                if end:
                    storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [0.5])
                batch.add_write(wait, lambda: None)

        self._batch = self._pool.submit(write)
        assert self._has_written.wait(TIMEOUT)

    def commit(self) -> None:
        self._may_commit.set()
        self._batch.result(TIMEOUT)


@contextmanager
def open_batch(
    storage: BatchedStorage, study: StudyHandle, worker: str, trial_id: int, *, end: bool = False
) -> Iterator[OpenBatch]:
    with ThreadPoolExecutor() as pool:
        found = OpenBatch(pool)
        try:
            found.start(storage, study, worker, trial_id, end=end)
            yield found
        finally:
            found.commit()


def everything_is_read(reader: BatchedStorage, study: StudyHandle) -> bool:
    stored = study.database.rdb.get_all_trials(study.study_id)
    reader.refresh(study.study_id)
    with reader.batch(study.study_id, "carl"):  # where only the cache answers
        found = reader.get_all_trials(study.study_id, deepcopy=False)
    return [_parts(trial) for trial in found] == [_parts(trial) for trial in stored]


def _parts(trial: FrozenTrial) -> object:
    reports, attributes = trial.intermediate_values, (trial.user_attrs, trial.system_attrs)
    return trial.state, trial.values, trial.params, reports, attributes


@pytest.mark.parametrize("end", [False, True])
def test_a_reader_misses_no_row_of_a_transaction_that_commits_late(study, end):
    one, two, reader = (BatchedStorage(study.database) for _ in range(3))
    late, early = claim(one, study, "ann"), claim(two, study, "bob")
    assert everything_is_read(reader, study)
    with open_batch(one, study, "ann", late, end=end):
        for step in (1, 2, 3):  # these get larger ids, and are committed first
            with two.batch(study.study_id, "bob"):
                append(two, early, step)
            assert everything_is_read(reader, study)
    assert everything_is_read(reader, study)
    assert reader.get_trial(late).intermediate_values == {1: 0.1}
    with one.batch(study.study_id, "ann"), two.batch(study.study_id, "bob"):
        append(two, early, 4)
        if not end:
            append(one, late, 4)
    assert everything_is_read(reader, study)


def test_a_reader_of_rungs_misses_no_report_of_a_rung_that_commits_late(study):
    one, two = (BatchedStorage(study.database) for _ in range(2))
    reader = BatchedStorage(study.database, Observed(frozenset({1, 3}), frozenset({"note 2"})))
    late, early = claim(one, study, "ann"), claim(two, study, "bob")
    reader.refresh(study.study_id)
    with open_batch(one, study, "ann", late):
        for step in (1, 2, 3):
            with two.batch(study.study_id, "bob"):
                append(two, early, step)
        reader.refresh(study.study_id)
    reader.refresh(study.study_id)
    with reader.batch(study.study_id, "carl"):
        assert reader.get_trial(late).intermediate_values == {1: 0.1}
        found = reader.get_trial(early)
    assert found.intermediate_values.keys() - {2} == {1, 3}
    assert "note 2" not in found.user_attrs
    assert "note 3" in found.user_attrs


def test_others_report_and_claim_and_requeue_while_a_batch_is_open(study):
    one, two = (BatchedStorage(study.database) for _ in range(2))
    mine, theirs = claim(one, study, "ann"), claim(two, study, "bob")
    with open_batch(one, study, "ann", mine, end=True):
        with two.batch(study.study_id, "bob") as batch:
            append(two, theirs, 1)
            batch.claim(3)
        assert len(batch.claimed) == 3
        assert study.queue.requeue_trials_of("bob") == 4
        assert len({claim(two, study, "bob"), claim(two, study, "bob")}) == 2
    stored = study.database.rdb.get_all_trials(study.study_id)
    assert [trial.number for trial in stored] == list(range(len(stored)))
    assert stored[0].state is TrialState.COMPLETE


def test_a_trial_that_ends_meanwhile_is_not_requeued(study):
    storage = BatchedStorage(study.database)
    trial_id = claim(storage, study, "ann")
    with ThreadPoolExecutor() as pool:
        with open_batch(storage, study, "ann", trial_id, end=True):
            requeue = pool.submit(study.queue.requeue_trials_of, "ann")
            # It has seen the trial as running, and waits for the end of the open transaction.
            while not _is_locked(study):
                assert not requeue.done()
        assert requeue.result(TIMEOUT) == 0
    [trial] = study.database.rdb.get_all_trials(study.study_id)
    assert trial.state is TrialState.COMPLETE


def _is_locked(study: StudyHandle) -> bool:
    """Return whether another transaction has locked the study."""
    is_free = study.database.try_write(
        lambda connection: connection.exec_driver_sql(
            "SELECT study_id FROM studies FOR UPDATE NOWAIT"
        )
    )
    return not is_free


def test_nothing_is_appended_to_a_trial_that_was_requeued_meanwhile(study):
    one, two = (BatchedStorage(study.database) for _ in range(2))
    trial_id = claim(one, study, "ann")
    assert study.queue.requeue_trials_of("ann") == 1
    with one.batch(study.study_id, "ann") as batch:
        append(one, trial_id, 1)
    assert batch.lost == {trial_id}
    retry = claim(two, study, "bob")
    with two.batch(study.study_id, "bob"):
        two.set_trial_intermediate_value(retry, 1, math.inf)
    lost, kept = study.database.rdb.get_all_trials(study.study_id)
    assert (lost.intermediate_values, kept.intermediate_values) == ({}, {1: math.inf})


# --- deletion ------------------------------------------------------------------------------------


def test_a_study_is_deleted_while_a_batch_that_claims_nothing_writes(study):
    storage, database = BatchedStorage(study.database), study.database
    trial_id = claim(storage, study, "ann")
    with ThreadPoolExecutor() as pool:
        with database.engine.begin() as connection:
            lock_running(connection, [trial_id])
            deletion = pool.submit(delete_study, database, study.study_id)
            # It has the lock of the study, and waits for that of the trial.
            _wait_until_it_waits(study, deletion)
            row = {"trial_id": trial_id, "step": 1, "intermediate_value_type": "FINITE"}
            connection.execute(insert(reports).values(intermediate_value=0.5, **row))
        deletion.result(TIMEOUT)
    assert study_names(database) == []


def test_a_study_is_deleted_while_a_batch_is_about_to_claim(study):
    storage, database = BatchedStorage(study.database), study.database
    trial_id = claim(storage, study, "ann")
    deletions: list[Future[None]] = []

    def delete_meanwhile(connection: Connection, moment: float) -> None:
        if not deletions:
            deletions.append(pool.submit(delete_study, database, study.study_id))
            _wait_until_it_waits(study, deletions[0])

    # Each of the two waits for the other one, and the database ends one of them: it is retried.
    with (
        ThreadPoolExecutor() as pool,
        suppress(KeyError),
        storage.batch(study.study_id, "ann") as batch,
    ):
        append(storage, trial_id, 1)
        batch.claim(1)
        batch.add_write(delete_meanwhile, lambda: None)
    deletions[0].result(TIMEOUT)
    assert study_names(database) == []
    with pytest.raises(KeyError):
        storage.refresh(study.study_id)


def _wait_until_it_waits(study: StudyHandle, deletion: Future[None]) -> None:
    """Return when a transaction waits for a lock in the database of a study."""

    def waits() -> bool:
        assert not deletion.done()
        with study.database.engine.connect() as connection:
            query = _WAITING[connection.dialect.name]
            return connection.exec_driver_sql(query).first() is not None

    # MariaDB shows a new state only to a query after a pause of 0.1 s.
    wait_until(waits, TIMEOUT, pause=0.2)


_WAITING = {
    "postgresql": "SELECT 1 FROM pg_stat_activity "
    "WHERE datname = current_database() AND wait_event_type = 'Lock'",
    "mysql": "SELECT 1 FROM information_schema.innodb_trx JOIN information_schema.processlist "
    "ON trx_mysql_thread_id = id WHERE db = DATABASE() AND trx_state = 'LOCK WAIT'",
}
