"""Servers that stop and come back, and connections that are cut: nothing is lost, nobody dies."""

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
)
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
    own_server,
)
from tests.storage.studies import record, study_at
from tests.workers import process, run_worker

ON_SERVERS = pytest.mark.parametrize("backend", SERVERS)
#: Seconds that the server is away while a search goes on.
AWAY = 30.0
#: Seconds after which the tests' workers take each other for dead.
GRACE = 8.0


@pytest.fixture
def server(backend: str) -> Iterator[Server]:
    try:
        found = own_server(backend)
    except FileNotFoundError as error:
        pytest.skip(f"NOT TESTED on {backend}: this machine has no {error}")
    yield found
    found.end()


@pytest.mark.long
@ON_SERVERS
def test_a_search_waits_for_a_server_that_is_away_and_loses_nothing(server, tmp_path):
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
        # Both workers have to be back, or the signal may find one that holds no trial yet.
        wait_until(lambda: _reporting(set(_reports_at(url)) - before) == 2)
        assert before <= set(_reports_at(url))
        search.send_signal(signal.SIGTERM)
        _, said = search.communicate(timeout=60)
        trials = open_study(open_database(url), "small").load().trials
    assert search.returncode == 130
    assert len(re.findall("does not answer: retrying", said)) >= 1
    assert "answers again" in said
    assert "Traceback" not in said
    assert "s3cret" not in said
    running = [trial for trial in trials if trial.state is TrialState.RUNNING]
    assert running == []
    # Nobody was taken for dead meanwhile: each of the two was handed back once, at the end.
    assert sum("superseded_by" in trial.user_attrs for trial in trials) == 2


@pytest.fixture
def endless(server: Server, tmp_path: Path) -> Iterator[str]:
    """A database with a study whose trials never end by themselves."""
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
def test_one_signal_ends_the_wait_for_a_server_that_is_away(server, endless, tmp_path, command):
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
    assert "is queued anew after two minutes of silence" in said
    assert "Traceback" not in said


def _reports_at(url: str) -> list[tuple[object, ...]]:
    try:
        rows = "SELECT trial_id, step, intermediate_value FROM trial_intermediate_values"
        return execute(url, rows)
    except Exception:  # the tables are not there yet
        return []


def _reporting(reports: Iterable[tuple[object, ...]]) -> int:
    """Count the trials with more than ten of these reports."""
    return sum(count > 10 for count in Counter(trial for trial, *_ in reports).values())


def cut_connections(url: str) -> None:
    """End all other connections to a database, as an administrator would."""
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
    """Cut all connections before a statement, or a commit, of this number; say when it was."""
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


def one_round(
    storage: BatchedStorage, study: StudyHandle, number: int, ends: list[int]
) -> list[int]:
    """Report of the first trial, end others, and claim one; return the claimed."""
    with storage.batch(study.study_id, "ann") as batch:
        first = storage.get_all_trials(study.study_id, deepcopy=False)[0]._trial_id
        storage.set_trial_intermediate_value(first, number, number / 8)
        storage.set_trial_user_attr(first, "number", number)
        for trial_id in ends:
            storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [number / 8])
        batch.claim(1)
    assert batch.lost == set()
    return batch.claimed


def check(study: StudyHandle, storage: BatchedStorage, rounds: int, live: list[int]) -> None:
    """Each round is there once: its report, the end of what the one before claimed, its claim."""
    trials = study.database.rdb.get_all_trials(study.study_id)
    assert trials[0].intermediate_values == {number: number / 8 for number in range(rounds)}
    assert trials[0].user_attrs["number"] == rounds - 1
    assert [trial.number for trial in trials] == list(range(rounds + 1))
    assert [trial.values for trial in trials[1:-1]] == [[n / 8] for n in range(1, rounds)]
    assert [trial._trial_id for trial in trials[-1:]] == live
    assert [trial.user_attrs["draw"] for trial in trials[1:]] == list(range(rounds))
    storage.refresh(study.study_id)
    copied = storage.get_all_trials(study.study_id, deepcopy=False)
    assert [trial.state for trial in copied] == [trial.state for trial in trials]


def begun(study: StudyHandle) -> BatchedStorage:
    storage = BatchedStorage(study.database)
    with storage.batch(study.study_id, "ann") as batch:
        batch.claim(1)
    return storage


@ON_SERVERS
def test_a_round_is_written_once_wherever_its_connection_is_cut(study, caplog):
    storage, live, url = begun(study), list[int](), study.database.url
    for number in itertools.count():
        storage.refresh(study.study_id)
        with cut_at(study.database.engine, url, number) as cut:
            live = one_round(storage, study, number, live)
        if not cut:
            break
    assert number > 10
    check(study, storage, number + 1, live)
    assert "does not answer" not in caplog.text  # nobody needs to know


@ON_SERVERS
def test_a_connection_that_is_lost_in_a_transaction_shows_no_traceback(database_url, caplog):
    study_at(database_url)
    connection = database_at(database_url).engine.raw_connection()
    connection.cursor().execute("SELECT 1")
    cut_connections(database_url)
    caplog.clear()
    connection.close()
    assert caplog.text == ""


@ON_SERVERS
def test_a_round_whose_commit_was_not_acknowledged_is_written_once(study, monkeypatch):
    """The connection is lost after the server has committed, but before it could say so."""
    storage, live, dialect = begun(study), list[int](), study.database.engine.dialect
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
        live = one_round(storage, study, number, live)
    assert lost == [0, 1, 2]
    monkeypatch.undo()
    check(study, storage, 3, live)


@pytest.mark.parametrize("lost", ["create_new_study", "_create_new_trial", "delete_study"])
def test_what_is_made_or_deleted_without_an_answer_is_so_once(tmp_path, monkeypatch, lost):
    """The server has committed, but its answer does not arrive."""
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


def test_a_writer_that_finds_the_file_locked_for_long_waits_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(connections, "_OPTIONS", {"sqlite": {"connect_args": {"timeout": 0.1}}})
    study = study_at(f"sqlite:///{tmp_path}/studies.db")
    other = study.database.engine.connect()
    event.listen(study.database.engine, "handle_error", lambda context: other.close())
    other.begin()
    assert study.queue.requeue_trials_of("ann") == 0
    assert other.closed


@ON_SERVERS
def test_connections_that_were_cut_while_idle_are_replaced(study):
    storage, live, url = begun(study), list[int](), study.database.url
    for number in range(3):
        cut_connections(url)
        live = one_round(storage, study, number, live)
        cut_connections(url)
        study.queue.record_heartbeats(live)
        assert study.queue.counts().running == 2
        assert study.total() == 100
    check(study, storage, 3, live)


@pytest.mark.long
@ON_SERVERS
def test_nobody_is_taken_for_dead_after_the_network_was_down_for_longer_than_the_grace(server):
    """Neither by those who were cut off, too, nor by one who comes right afterwards."""
    content = document(train_gently, trials=3, pruner={"name": "none"}) | {"horizon": 300}
    network = Network(server.port)
    with empty_database(server.url) as url:
        study = make_study_at(url, content)
        far = make_url(url).set(port=network.port).render_as_string(hide_password=False)
        workers = [process(run_worker, far, name, GRACE) for name in ("ann", "bob")]
        wait_until(lambda: study.queue.counts().running == 2)
        network.cut()
        time.sleep(GRACE + 1)
        network.mend()
        # The others need up to five seconds to find that the database answers again.
        workers.append(process(run_worker, far, "fresh", GRACE))
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
def test_a_restarted_server_finds_nobody_dead_whom_a_reaper_did_not_watch(server):
    with empty_database(server.url) as url:
        study = study_at(url)
        begun(study)
        execute(url, "UPDATE trial_heartbeats SET heartbeat = '2026-01-01 00:00:00'")
        server.stop(signal.SIGQUIT)
        server.start()
        fresh = open_study(open_database(url), "small")
        for queue in (study.queue, fresh.queue):
            assert queue.requeue_stale(timedelta(minutes=5)) == 0
        wait_until(lambda: fresh.queue.requeue_stale(timedelta(seconds=3)) == 1)
