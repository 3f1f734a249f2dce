"""Which workers count as dead: those whose process has ended, and those that are silent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from optuna.trial import TrialState
from sqlalchemy import create_engine, event, text
from sqlalchemy.pool import NullPool

from schedsearch.report.status import read_status
from schedsearch.storage import StudyHandle, open_database, open_study
from schedsearch.storage.process_identity import ProcessIdentity
from tests import searches
from tests.claims import claim
from tests.forks import start_process
from tests.searches import document, make_study_at, wait_until
from tests.workers import run_worker

#: Longer than the one second that is the precision of heartbeats on MariaDB and SQLite.
GRACE = timedelta(seconds=2)
_LOCKS = {
    "sqlite": ["BEGIN IMMEDIATE"],
    "postgresql": ["BEGIN", "LOCK TABLE trial_heartbeats IN SHARE MODE"],
    # A lock on every row: the table itself stays open, and reads go on.
    "mysql": ["BEGIN", "SELECT * FROM trial_heartbeats FOR UPDATE"],
}
_LOCK_TABLE_ON_MYSQL = ["LOCK TABLES trial_heartbeats READ"]


@contextmanager
def heartbeats_locked(url: str, lock: list[str] | None = None) -> Iterator[None]:
    """Let other connections read heartbeats, but not write them."""
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in lock or _LOCKS[engine.dialect.name]:
            connection.exec_driver_sql(statement)
        yield
        connection.exec_driver_sql("ROLLBACK" if lock is None else "UNLOCK TABLES")


LONG_AGO = "UPDATE trial_heartbeats SET heartbeat = '2026-01-01 00:00:00'"


@contextmanager
def statements(study: StudyHandle) -> Iterator[list[str]]:
    """Collect the statements that are executed without Optuna."""
    executed: list[str] = []

    def collect(connection, cursor, statement, *others: object) -> None:
        executed.append(statement)

    event.listen(study.database.engine, "before_cursor_execute", collect)
    yield executed
    event.remove(study.database.engine, "before_cursor_execute", collect)


@pytest.fixture
def study(database_url: str) -> StudyHandle:
    return make_study_at(database_url)


def register(study: StudyHandle, worker: str, identity: ProcessIdentity) -> None:
    """Record a worker as a process of any host would."""
    with study.database.engine.begin() as connection:
        row = {"study": study.study_id, "key": f"worker_{worker}", "value": identity.to_text()}
        connection.execute(
            text(
                "INSERT INTO study_system_attributes (study_id, `key`, value_json) "
                "VALUES (:study, :key, :value)".replace("`", '"' if _is_postgres(study) else "`")
            ),
            row,
        )


def _is_postgres(study: StudyHandle) -> bool:
    return study.database.engine.dialect.name == "postgresql"


@contextmanager
def sleeping_process() -> Iterator[tuple[subprocess.Popen[bytes], ProcessIdentity]]:
    """Start a process on this host, and identify it."""
    code = "import time; print(flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as sleeper:
        assert sleeper.stdout is not None
        sleeper.stdout.readline()
        here = ProcessIdentity.current()
        assert here is not None
        stat = Path(f"/proc/{sleeper.pid}/stat").read_text().rpartition(")")[2].split()
        try:
            yield sleeper, replace(here, pid=sleeper.pid, started=int(stat[19]))
        finally:
            sleeper.kill()


# --- missing heartbeats --------------------------------------------------------------------------


def test_missing_heartbeats_do_not_count_while_this_process_cannot_write_them_either(study):
    claim(study, "ann")
    queue = study.queue
    assert queue.requeue_lost(GRACE) == 0
    with heartbeats_locked(study.database.url):
        end = time.monotonic() + 2 * GRACE.total_seconds()
        while time.monotonic() < end:
            assert queue.requeue_lost(GRACE) == 0
    # The other worker may not have written yet.
    assert queue.requeue_lost(GRACE) == 0
    assert queue.counts().running == 1
    wait_until(lambda: queue.requeue_lost(GRACE) == 1)


@pytest.mark.parametrize("backend", [pytest.param("mysql", marks=pytest.mark.long)])
@pytest.mark.parametrize("lock", [_LOCKS["mysql"], _LOCK_TABLE_ON_MYSQL])
def test_a_write_that_is_not_retried_stops_waiting_before_the_connection_does(study, lock):
    # Less than the usual limit of a wait for a lock.
    patient = open_database(f"{study.database.url}?read_timeout=10")
    trial_id = claim(study, "ann")
    connection_id, limits = (
        "SELECT CONNECTION_ID()",
        ("SELECT @@innodb_lock_wait_timeout, @@lock_wait_timeout"),
    )
    before = patient.read(lambda c: c.execute(text(connection_id)).scalar_one())
    touch = text("UPDATE trial_heartbeats SET heartbeat = heartbeat WHERE trial_id = :id")
    with heartbeats_locked(study.database.url, lock):
        assert not patient.try_write(lambda c: c.execute(touch, {"id": trial_id}))
    # A connection that waited too long is closed.
    assert patient.read(lambda c: c.execute(text(connection_id)).scalar_one()) == before
    seen = []
    assert patient.try_write(lambda c: seen.extend(c.execute(text(limits)).one()))
    seen.extend(patient.read(lambda c: c.execute(text(limits)).one()))
    assert seen == [2, 2, 15, 15]


def test_the_proof_that_heartbeats_can_be_written_leaves_them_as_they_are(study):
    claim(study, "ann")
    with study.database.engine.begin() as connection:
        connection.execute(text(LONG_AGO))
    before = study.queue.liveness.running()
    for _ in range(3):
        study.queue.requeue_lost(timedelta(minutes=5))
    assert study.queue.liveness.running() == before


@pytest.mark.long
def test_no_live_worker_loses_its_trial_while_the_heartbeats_are_locked(database_url):
    grace = 4.0
    content = document(searches.train_gently, trials=2, pruner={"name": "none"})
    study = make_study_at(database_url, content | {"horizon": 600})
    members = [start_process(run_worker, database_url, name, grace) for name in ("ann", "bob")]
    wait_until(lambda: study.queue.counts().running == 2)
    observer = open_study(open_database(database_url), study.name).queue
    with heartbeats_locked(database_url):
        end = time.monotonic() + 2 * grace
        while time.monotonic() < end:
            assert observer.requeue_lost(timedelta(seconds=grace)) == 0
    for member in members:
        while member.is_alive():
            assert observer.requeue_lost(timedelta(seconds=grace)) == 0
            member.join(grace / 10)
        assert member.exitcode == 0
    rows = study.load().trials
    assert [row.state for row in rows] == [TrialState.COMPLETE] * 2
    assert {row.user_attrs["worker"] for row in rows} == {"ann", "bob"}


def test_a_study_whose_workers_could_not_write_counts_as_alive_once_they_write_again(study):
    trial_id = claim(study, "ann")
    with study.database.engine.begin() as connection:
        connection.execute(text(LONG_AGO))
    beating = start_process(beat_once_unlocked, study.database.url, trial_id)
    try:
        assert study.queue.liveness.count_alive(observation=timedelta(minutes=1)) == 1
    finally:
        beating.join(60)


def beat_once_unlocked(url: str, trial_id: int) -> None:
    open_study(open_database(url), "small").queue.liveness.record([trial_id])


def test_a_study_whose_heartbeats_cannot_be_observed_counts_as_alive(study, monkeypatch):
    claim(study, "ann")
    with study.database.engine.begin() as connection:
        connection.execute(text(LONG_AGO))
    monkeypatch.setattr(study.queue.liveness, "_can_write", lambda _: False)
    assert study.queue.liveness.count_alive(observation=timedelta(seconds=0.1)) == 1


def test_a_study_without_any_new_heartbeat_is_not_alive_after_the_observation(study):
    claim(study, "ann")
    with study.database.engine.begin() as connection:
        connection.execute(text(LONG_AGO))
    assert study.queue.liveness.count_alive(observation=timedelta(seconds=1)) == 0


def test_a_status_reads_heartbeats_only_while_a_trial_runs(study):
    for expected in (False, True):
        with statements(study) as executed:
            read_status(study)
        assert any("trial_heartbeats" in statement for statement in executed) == expected
        claim(study, "ann")


def test_a_trial_that_ended_since_its_row_was_read_trained_until_now(study):
    silent = claim(study, "ann")
    with study.database.engine.begin() as connection:
        connection.execute(text(LONG_AGO))
    ends = study.queue.liveness.training_ends([silent, 999])
    assert ends[silent] == datetime(2026, 1, 1)
    assert ends[999] > ends[silent]


# --- processes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["sqlite"])
def test_a_process_of_this_host_that_was_killed_is_found_at_once(study):
    claim(study, "ann")
    with sleeping_process() as (sleeper, identity):
        register(study, "ann", identity)
        assert study.queue.requeue_lost() == 0
        sleeper.kill()
        os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie
        assert study.queue.requeue_lost() == 1
        assert study.queue.requeue_lost() == 0
    found = study.database.optuna.get_study_system_attrs(study.study_id)
    assert not [key for key in found if key.startswith("worker_")]


@pytest.mark.parametrize("backend", ["sqlite"])
def test_a_worker_that_is_only_silent_keeps_its_record(study):
    here = ProcessIdentity.current()
    claim(study, "ann")
    register(study, "ann", replace(here, host="elsewhere"))
    assert study.queue.requeue_lost(timedelta(0)) == 1
    found = study.database.optuna.get_study_system_attrs(study.study_id)
    assert found["worker_ann"]["host"] == "elsewhere"


@pytest.mark.parametrize("backend", ["sqlite"])
def test_a_suspended_process_is_alive(study):
    claim(study, "ann")
    with sleeping_process() as (sleeper, identity):
        register(study, "ann", identity)
        sleeper.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, sleeper.pid, os.WSTOPPED | os.WNOWAIT)
        assert study.queue.requeue_lost() == 0
        with study.database.engine.begin() as connection:
            connection.execute(text(LONG_AGO))
        assert study.queue.liveness.count_alive() == 1


@pytest.mark.parametrize("backend", ["sqlite"])
def test_a_worker_of_the_original_database_is_not_alive_in_a_copy(study):
    claim(study, "ann")
    with sleeping_process() as (_, identity):
        register(study, "ann", identity)
        with study.database.engine.begin() as connection:
            connection.execute(text(LONG_AGO))
        assert study.queue.liveness.count_alive(observation=timedelta(seconds=1)) == 0


@pytest.mark.parametrize("backend", ["sqlite"])
def test_the_process_of_many_trials_is_looked_at_once(study, monkeypatch):
    looks: list[ProcessIdentity] = []
    is_alive = ProcessIdentity.is_alive
    monkeypatch.setattr(
        ProcessIdentity, "is_alive", lambda self: looks.append(self) or is_alive(self)
    )
    study.queue.liveness.register("ann")
    for _ in range(3):
        claim(study, "ann")
    assert study.queue.requeue_lost() == 0
    assert study.queue.liveness.waiting_message(1) == "waiting for 3 trials of other workers"
    assert len(looks) == 1


@pytest.mark.parametrize("backend", ["sqlite"])
def test_saying_what_a_worker_waits_for_reads_nothing_again(study):
    claim(study, "ann")
    study.queue.requeue_lost()
    with statements(study) as executed:
        message = study.queue.liveness.waiting_message(9)
    assert message == "waiting up to 9 s for trial 0 of worker ann, which may still be alive"
    assert executed == []


@pytest.mark.parametrize(
    ("other", "lost"),
    [
        ({"started": 1}, 1),  # the process id belongs to another process now
        ({"host": "elsewhere"}, 0),
        ({"boot": "another"}, 0),
        ({"namespace": "pid:[1]"}, 0),
    ],
)
@pytest.mark.parametrize("backend", ["sqlite"])
def test_only_processes_of_this_host_and_this_namespace_are_judged(study, other, lost):
    here = ProcessIdentity.current()
    claim(study, "ann")
    register(study, "ann", replace(here, **{"pid": here.pid, **other}))
    assert study.queue.requeue_lost() == lost


@pytest.mark.parametrize("backend", ["sqlite"])
@pytest.mark.parametrize(
    "value", ["", "7", "[]", "{}", '{"pid": 1}', "not JSON", json.dumps({"pid": 2**99})]
)
def test_a_record_that_no_worker_writes_is_as_good_as_none(study, value):
    assert ProcessIdentity.parse(value) is None


def test_a_worker_is_registered_while_it_runs_and_not_afterwards(study):
    def registered() -> list[str]:
        attributes = study.database.optuna.get_study_system_attrs(study.study_id)
        return [key for key in attributes if key.startswith("worker_")]

    seen: list[list[str]] = []

    def look() -> bool:
        seen.append(registered())
        return False

    searches.work(study, should_stop=look)
    assert ["worker_ann"] in seen
    assert registered() == []
