"""Transient errors of SQLite, and commits that fail, or whose answer is lost."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine


def transient_error() -> sqlite3.OperationalError:
    """Return an error of SQLite after which a retry may succeed."""
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    return error


@contextmanager
def lost_answer(engine: Engine) -> Iterator[list[str]]:
    """Lose the answer to the next commit to SQLite; list the lost answers."""
    commit, lost = engine.dialect.do_commit, list[str]()

    def commit_and_lose(connection: Any) -> None:
        commit(connection)
        if not lost:
            lost.append("commit")
            raise transient_error()

    engine.dialect.do_commit = commit_and_lose
    try:
        yield lost
    finally:
        del engine.dialect.do_commit


@contextmanager
def rolled_back(engine: Engine, meanwhile: Callable[[], object]) -> Iterator[None]:
    """Roll back the next transaction of SQLite at its commit; then call `meanwhile`."""
    commit = engine.dialect.do_commit

    def roll_back(connection: Any) -> None:
        engine.dialect.do_commit = commit
        connection.rollback()
        meanwhile()
        raise transient_error()

    engine.dialect.do_commit = roll_back
    try:
        yield
    finally:
        del engine.dialect.do_commit
