"""Commits whose answer is lost: the database has committed, but the client gets an error."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine


@contextmanager
def lost_answer(engine: Engine) -> Iterator[list[str]]:
    """Lose the answer to the next commit to SQLite; list the lost answers."""
    commit, lost = engine.dialect.do_commit, list[str]()

    def commit_and_lose(connection: Any) -> None:
        commit(connection)
        if not lost:
            lost.append("commit")
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode = sqlite3.SQLITE_BUSY
            raise error

    engine.dialect.do_commit = commit_and_lose
    try:
        yield lost
    finally:
        del engine.dialect.do_commit
