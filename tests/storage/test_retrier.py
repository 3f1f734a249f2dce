"""Servers that restart, and connections that are cut: nothing is lost, and no worker dies."""

from __future__ import annotations

import itertools
import re
import signal
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy import Engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError

from schedsearch.cli.storage import database_at
from schedsearch.storage import (
    BatchedStorage,
    StudyHandle,
    connections,
    create_study,
    open_database,
    open_study,
    retrier,
)
from tests.forks import start_process
from tests.network import Network
from tests.searches import (
    begin,
    document,
    make_study_at,
    train_gently,
    train_slowly,
    wait_until,
    write_space,
)
from tests.servers import (
    PASSWORD,
    SERVERS,
    Server,
    answers,
    empty_database,
    execute,
    start_server,
)
from tests.storage.studies import record, study_at
from tests.workers import run_worker

ON_SERVERS = pytest.mark.parametrize("backend", SERVERS)
#: Seconds without the server during a search.
AWAY = 30.0
#: Seconds of the grace period of the tests' workers.
GRACE = 8.0


@pytest.fixture
def server(backend: str) -> Iterator[Server]:
    try:
        found = start_server(backend)
    except FileNotFoundError as error:
        pytest.skip(f"NOT TESTED on {backend}: this machine has no {error}")
    yield found
    found.close()


@pytest.mark.long
@ON_SERVERS
def test_a_search_survives_an_outage_of_the_server_and_loses_nothing(server, tmp_path):
    content = document(train_slowly, trials=6, pruner={"name": "none"})
    space = write_space(tmp_path, content | {"horizon": 6000})
    with empty_database(server.url) as url:
        search = begin("start", space, "--workers", 2, folder=tmp_path, SCHEDSEARCH_STORAGE=url)
        wait_until(lambda: _reporting(_reports_at(url)) == 2)
        before = set(_reports_at(url))
        server.stop()
        time.sleep(AWAY)
        assert search.poll() is None
        server.start()
        # Both workers must be back, or one of them may have no trial yet at the signal.
        wait_until(lambda: _reporting(set(_reports_at(url)) - before) == 2)
        assert before <= set(_reports_at(url))
        search.send_signal(signal.SIGTERM)
        _, said = search.communicate(timeout=60)
        trials = open_study(open_database(url), "small").load().trials
    assert search.returncode == 130
    # Once for `start` and its workers together.
    assert said.count("does not answer: retrying") == 1
    assert said.count("answers again") == 1
    assert "Traceback" not in said
    assert "s3cret" not in said
    running = [trial for trial in trials if trial.state is TrialState.RUNNING]
    assert running == []
    # No trial was stale: each of the two was requeued once, at the end.
    assert sum("superseded_by" in trial.user_attrs for trial in trials) == 2


@pytest.fixture
def endless(server: Server, tmp_path: Path) -> Iterator[str]:
    """Return the URL of a database with a study whose trials never finish."""
    content = document(train_slowly, trials=6, pruner={"name": "none"}) | {"horizon": 100_000}
    write_space(tmp_path, content)
    with empty_database(server.url) as url:
        make_study_at(url, content)
        yield url
        if not answers(server.url):
            server.start()


@pytest.mark.long
@pytest.mark.parametrize(
    ("backend", "command"),
    [("mysql", ("worker", "small")), ("postgresql", ("start", "small.toml", "--workers", 2))],
)
def test_one_signal_ends_the_retries_during_an_outage(server, endless, tmp_path, command):
    search = begin(*command, folder=tmp_path, SCHEDSEARCH_STORAGE=endless)
    assert search.stderr is not None
    wait_until(lambda: len(_reports_at(endless)) > 20)
    server.stop()
    while "does not answer: retrying" not in search.stderr.readline():
        pass
    search.send_signal(signal.SIGTERM)
    asked = time.monotonic()
    _, said = search.communicate(timeout=60)
    assert time.monotonic() - asked < 20
    assert search.returncode == 130, said
    assert re.search(
        "^error: .* does not answer .*: stopped, but the trials in training", said, re.M
    )
    assert "Traceback" not in said
    assert PASSWORD not in said


@pytest.mark.long
@pytest.mark.parametrize("backend", ["postgresql"])
def test_two_signals_end_a_worker_whose_server_hangs(server, endless, tmp_path):
    worker = begin("worker", "small", folder=tmp_path, SCHEDSEARCH_STORAGE=endless)
    wait_until(lambda: len(_reports_at(endless)) > 20)
    with server.suspended():
        worker.send_signal(signal.SIGTERM)
        worker.send_signal(signal.SIGINT)
        _, said = worker.communicate(timeout=20)
    assert worker.returncode == 130, said
    assert "return to the queue two minutes after their last heartbeat" in said
    assert "Traceback" not in said


def _reports_at(url: str) -> list[tuple[object, ...]]:
    try:
        rows = "SELECT trial_id, step, intermediate_value FROM trial_intermediate_values"
        return execute(url, rows)
    except Exception:  # the tables are not there yet
        return []


def _reporting(reports: Iterable[tuple[object, ...]]) -> int:
    """Return the number of trials with more than ten of these reports."""
    return sum(count > 10 for count in Counter(trial for trial, *_ in reports).values())


def cut_connections(url: str) -> None:
    """Close all other connections to a database, as an administrator."""
    name = make_url(url).database
    if url.startswith("postgresql"):
        others = f"datname = '{name}' AND pid <> pg_backend_pid()"
        execute(url, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")
        return
    others = f"db = '{name}' AND id <> connection_id()"
    for (number,) in execute(url, f"SELECT id FROM information_schema.processlist WHERE {others}"):
        execute(url, f"KILL {number}")


@contextmanager
def cut_at(engine: Engine, url: str, place: int) -> Iterator[list[int]]:
    """Cut all connections before the statement or commit with this number; list the cuts."""
    numbers, cut = itertools.count(), list[int]()

    def count(*_: object) -> None:
        if next(numbers) == place and not cut:
            cut.append(place)
            cut_connections(url)

    for what in ("before_cursor_execute", "commit"):
        event.listen(engine, what, count)
    yield cut
    for what in ("before_cursor_execute", "commit"):
        event.remove(engine, what, count)


@pytest.fixture
def study(database_url: str) -> StudyHandle:
    return study_at(database_url)


def write_batch(
    storage: BatchedStorage, study: StudyHandle, number: int, ends: list[int]
) -> list[int]:
    """Write a batch: report for the first trial, finish others, claim one; return its id."""
    with storage.batch(study.study_id, "ann") as batch:
        first = storage.get_all_trials(study.study_id, deepcopy=False)[0]._trial_id
        storage.set_trial_intermediate_value(first, number, number / 8)
        storage.set_trial_user_attr(first, "number", number)
        for trial_id in ends:
            storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [number / 8])
        batch.claim(1)
    assert batch.lost == set()
    return batch.claimed


def check(study: StudyHandle, storage: BatchedStorage, batches: int, live: list[int]) -> None:
    """Check that each batch was written once: its report, its finished trial, and its claim."""
    trials = study.database.rdb.get_all_trials(study.study_id)
    assert trials[0].intermediate_values == {number: number / 8 for number in range(batches)}
    assert trials[0].user_attrs["number"] == batches - 1
    assert [trial.number for trial in trials] == list(range(batches + 1))
    assert [trial.values for trial in trials[1:-1]] == [[n / 8] for n in range(1, batches)]
    assert [trial._trial_id for trial in trials[-1:]] == live
    assert [trial.user_attrs["draw"] for trial in trials[1:]] == list(range(batches))
    storage.refresh(study.study_id)
    copied = storage.get_all_trials(study.study_id, deepcopy=False)
    assert [trial.state for trial in copied] == [trial.state for trial in trials]


def storage_with_claim(study: StudyHandle) -> BatchedStorage:
    storage = BatchedStorage(study.database)
    with storage.batch(study.study_id, "ann") as batch:
        batch.claim(1)
    return storage


@ON_SERVERS
def test_a_batch_is_written_once_wherever_its_connection_is_cut(study, caplog, monkeypatch):
    monkeypatch.setattr(retrier, "_QUIET_SECONDS", 60.0)  # a cut may take a second
    storage, live, url = storage_with_claim(study), list[int](), study.database.url
    for number in itertools.count():
        storage.refresh(study.study_id)
        with cut_at(study.database.engine, url, number) as cut:
            live = write_batch(storage, study, number, live)
        if not cut:
            break
    assert number > 10
    check(study, storage, number + 1, live)
    assert "does not answer" not in caplog.text  # too short for a warning


@ON_SERVERS
def test_a_connection_that_is_lost_in_a_transaction_logs_no_traceback(database_url, caplog):
    study_at(database_url)
    connection = database_at(database_url).engine.raw_connection()
    connection.cursor().execute("SELECT 1")
    cut_connections(database_url)
    caplog.clear()
    connection.close()
    assert caplog.text == ""


@ON_SERVERS
def test_a_batch_is_written_once_if_the_answer_to_its_commit_is_lost(study, monkeypatch):
    """The connection is lost after the commit and before the answer."""
    storage, live, dialect = storage_with_claim(study), list[int](), study.database.engine.dialect
    commit, lost = dialect.do_commit, list[int]()

    def commit_and_lose(connection: Any) -> None:
        commit(connection)
        if len(lost) < number + 1:
            lost.append(number)
            if dialect.name == "mysql":
                raise pymysql.err.OperationalError(2013, "Lost connection to server during query")
            raise psycopg.OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(dialect, "do_commit", commit_and_lose)
    for number in range(3):
        live = write_batch(storage, study, number, live)
    assert lost == [0, 1, 2]
    monkeypatch.undo()
    check(study, storage, 3, live)


@pytest.mark.parametrize("lost", ["create_new_study", "_create_new_trial", "delete_study"])
def test_a_creation_or_deletion_happens_once_if_its_answer_is_lost(tmp_path, monkeypatch, lost):
    """The connection is lost after the commit and before the answer."""
    database = open_database(f"sqlite:///{tmp_path}/studies.db", create=True)
    call, answers = getattr(RDBStorage, lost), itertools.count()

    def call_and_lose(*arguments: Any, **named: Any) -> Any:
        found = call(*arguments, **named)
        if next(answers) == 0:
            error = psycopg.OperationalError("server closed the connection unexpectedly")
            cause = OperationalError("COMMIT", {}, error, connection_invalidated=True)
            raise StorageInternalError("no answer") from cause
        return found

    monkeypatch.setattr(RDBStorage, lost, call_and_lose)
    study = create_study(database, record(10))
    assert [study.study_name for study in database.rdb.get_all_studies()] == ["small"]
    assert study.queue.counts().trials == 1
    database.optuna.delete_study(study.study_id)
    assert database.rdb.get_all_studies() == []
    assert next(answers) > 0


def test_a_writer_retries_while_the_file_is_locked(tmp_path, monkeypatch):
    monkeypatch.setattr(connections, "_OPTIONS", {"sqlite": {"connect_args": {"timeout": 0.1}}})
    study = study_at(f"sqlite:///{tmp_path}/studies.db")
    other = study.database.engine.connect()
    event.listen(study.database.engine, "handle_error", lambda context: other.close())
    other.begin()
    assert study.queue.requeue_trials_of("ann") == 0
    assert other.closed


@ON_SERVERS
def test_idle_connections_that_were_cut_are_replaced(study):
    storage, live, url = storage_with_claim(study), list[int](), study.database.url
    for number in range(3):
        cut_connections(url)
        live = write_batch(storage, study, number, live)
        cut_connections(url)
        study.queue.liveness.record(live)
        assert study.queue.counts().running == 2
        assert study.total() == 100
    check(study, storage, 3, live)


@pytest.mark.long
@ON_SERVERS
def test_no_trial_is_stale_after_a_network_outage_longer_than_the_grace_period(server):
    """Neither for the workers that were cut off, nor for a worker that starts right afterwards."""
    content = document(train_gently, trials=3, pruner={"name": "none"}) | {"horizon": 300}
    network = Network(server.port)
    with empty_database(server.url) as url:
        study = make_study_at(url, content)
        far = make_url(url).set(port=network.port).render_as_string(hide_password=False)
        workers = [start_process(run_worker, far, name, GRACE) for name in ("ann", "bob")]
        wait_until(lambda: study.queue.counts().running == 2)
        network.cut()
        time.sleep(GRACE + 1)
        network.mend()
        # The others may pause up to five seconds before their next attempt.
        workers.append(start_process(run_worker, far, "fresh", GRACE))
        wait_until(lambda: study.queue.counts().finished == 3)
        for worker in workers:
            worker.join(60)
            assert worker.exitcode == 0
        rows = study.load().trials
    network.cut()
    assert [row.state for row in rows] == [TrialState.COMPLETE] * 3
    assert [row.user_attrs["worker"] for row in rows] in (
        ["ann", "bob", "fresh"],
        ["bob", "ann", "fresh"],
    )


@ON_SERVERS
def test_no_trial_is_stale_after_a_restart_of_the_server(server):
    with empty_database(server.url) as url:
        study = study_at(url)
        storage_with_claim(study)
        execute(url, "UPDATE trial_heartbeats SET heartbeat = '2026-01-01 00:00:00'")
        server.stop(signal.SIGQUIT)
        server.start()
        fresh = open_study(open_database(url), "small")
        for queue in (study.queue, fresh.queue):
            assert queue.requeue_lost(timedelta(minutes=5)) == 0
        wait_until(lambda: fresh.queue.requeue_lost(timedelta(seconds=3)) == 1)
