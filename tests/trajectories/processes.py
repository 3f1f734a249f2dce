"""Functions that several processes run on one store at the same time."""

from __future__ import annotations

import os
import signal
import sys
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

from schedsearch.storage import open_database
from schedsearch.trajectories import Folder
from tests.trajectories.stores import ROOT, key, opened, result, snapshot, train

#: The paths that the worker trains before it is killed.
PATHS = ([0, 1], [0, 2])


def search(url: str, folder: Path, budget: int) -> None:
    """Train all paths, with a write per epoch and more checkpoints than fit into the budget."""
    store = opened(open_database(url), Folder(folder), budget=budget)
    for path in PATHS:
        cursor = store.cursor(ROOT)
        while cursor.epoch < len(path) and cursor.find(key(path[cursor.epoch])) is not None:
            pass
        cursor.restore()
        while cursor.epoch < len(path):
            store.lease({cursor: key(path[cursor.epoch])})
            cursor.add(key(path[cursor.epoch]), result(path[: cursor.epoch + 1]))
            cursor.save(snapshot(path[: cursor.epoch]))
            store.flush()
        cursor.end()
        store.flush()


def search_and_die(url: str, folder: Path, budget: int, steps: int) -> None:
    """Do the same, but die by SIGKILL before one of the steps.

    A step is a statement that writes, a commit, or a file that is opened, renamed or removed.
    """
    step = 0

    def count(*_: Any) -> None:
        nonlocal step
        if step == steps:
            os.kill(os.getpid(), signal.SIGKILL)
        step += 1

    def count_statement(connection: object, cursor: object, statement: str, *_: object) -> None:
        if statement.startswith(("INSERT", "UPDATE", "DELETE", "CREATE")):
            count()

    def count_file(name: str, arguments: tuple[Any, ...]) -> None:
        # Files are named relative to the open folder.
        files = ("open", "os.rename", "os.remove")
        if name in files and ".safetensors" in str(arguments[0]):
            count()

    event.listen(Engine, "before_cursor_execute", count_statement)
    event.listen(Engine, "commit", count)
    sys.addaudithook(count_file)
    search(url, folder, budget)


def train_same(url: str, folder: Path, ready: Barrier, outcome: Queue[str]) -> None:
    """Train the same paths as other processes, at the same time."""
    try:
        ready.wait()
        store = opened(open_database(url), Folder(folder))
        for value in range(20):
            train(store, [value, 1, 2], keep=[2]).end()
            store.flush()
        outcome.put("done")
    except BaseException as error:
        outcome.put(repr(error))


def take_leases(url: str, folder: Path, ready: Barrier, won: Queue[int]) -> None:
    """Lease one node after another; report those that were granted, and -1 at the end."""
    store = opened(open_database(url), Folder(folder))
    ready.wait()
    for value in range(50):
        if store.lease({store.cursor(ROOT): key(value)}):
            won.put(value)
    won.put(-1)
