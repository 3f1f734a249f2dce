"""Workers that are killed at any step, and workers that train the same at the same time."""

from __future__ import annotations

import hashlib
import shutil
import signal
from pathlib import Path

import pytest
from sqlalchemy import select

from schedsearch.storage import Database, open_database
from schedsearch.trajectories import Folder
from schedsearch.trajectories.snapshots import encode
from schedsearch.trajectories.tables import checkpoints, nodes
from tests.forks import fork_context
from tests.trajectories.processes import (
    PATHS,
    search_and_die,
    take_leases,
    train_same,
)
from tests.trajectories.stores import ROOT, follow, opened, same, snapshot, train

_BUDGET = 2 * len(encode(snapshot([0])) or b"")


def check_whole(database: Database, folder: Folder) -> None:
    """Check that nodes have their parents and rows their files; sweep other files before."""
    store = opened(database, folder)
    store.checkpoints.sweep(0.0)
    with database.engine.begin() as connection:
        known = {row.hash: row.parent for row in connection.execute(select(nodes))}
        rows = list(connection.execute(select(checkpoints)))
    assert all(parent == ROOT or parent in known for parent in known.values())
    assert all(row.hash in known for row in rows)
    files = {file.name: file for file in folder.path.glob("*")}
    assert files.keys() == {row.artifact for row in rows}
    for row in rows:
        assert hashlib.sha256(files[row.artifact].read_bytes()).hexdigest() == row.sha256
    assert sum(row.bytes for row in rows) <= _BUDGET


@pytest.mark.long
def test_a_worker_may_be_killed_at_any_step(tmp_path: Path) -> None:
    """The database and the files stay consistent, and another worker can continue."""
    empty = tmp_path / "empty.db"
    open_database(f"sqlite:///{empty}", create=True).engine.dispose()
    context, step, died = fork_context(), 0, True
    while died:
        place = tmp_path / str(step)
        place.mkdir()
        shutil.copy(empty, place / "studies.db")
        url, folder = f"sqlite:///{place / 'studies.db'}", Folder(place / "checkpoints")
        worker = context.Process(target=search_and_die, args=(url, folder.path, _BUDGET, step))
        worker.start()
        worker.join()
        died = worker.exitcode == -signal.SIGKILL
        assert died or worker.exitcode == 0
        database = open_database(url)
        check_whole(database, folder)
        store = opened(database, folder, budget=_BUDGET, lease_seconds=0.0)
        for path in PATHS:
            train(store, path, keep=[1, 2]).end()
            store.flush()
        assert all(follow(store, path).epoch == len(path) for path in PATHS)
        check_whole(database, folder)
        database.engine.dispose()
        step += 1
    assert step > 40


def test_workers_that_train_the_same_agree(database: Database, folder: Folder) -> None:
    context = fork_context()
    ready, outcome = context.Barrier(3), context.Queue()
    workers = [
        context.Process(target=train_same, args=(database.url, folder.path, ready, outcome))
        for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    assert [outcome.get(timeout=60) for _ in workers] == ["done"] * 3
    for worker in workers:
        worker.join()
    store = opened(database, folder)
    for value in range(20):
        cursor = follow(store, [value, 1, 2])
        assert cursor.epoch == 3
        assert same(cursor.restore(), snapshot([value, 1]))
    assert len(list(folder.path.iterdir())) == 20


def test_no_node_is_leased_twice(database: Database, folder: Folder) -> None:
    context = fork_context()
    opened(database, folder)
    ready, won = context.Barrier(3), context.Queue()
    workers = [
        context.Process(target=take_leases, args=(database.url, folder.path, ready, won))
        for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    granted = []
    while granted.count(-1) < 3:
        granted.append(won.get(timeout=60))
    for worker in workers:
        worker.join()
    assert sorted(value for value in granted if value >= 0) == list(range(50))
