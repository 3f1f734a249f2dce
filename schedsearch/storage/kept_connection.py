"""A connection that is kept for many transactions, and waits for few answers."""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, event

#: A connection to a server that was not used for so many seconds is tested before it is used.
_LONGEST_PAUSE = 5.0
#: With the isolation level of all connections: see `connections`.
_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"


class KeptConnection:
    """One connection, for one thread at a time.

    So SQLite tells whether other connections wrote since its last query, and a server has prepared
    its statements. With psycopg it waits only for rows and for commits: see `_Pipeline`.

    Args:
        engine: of the database.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None
        self._pipeline: _Pipeline | None = None
        # A file is never lost behind a connection; a server, or the network, may drop an idle one.
        is_file = engine.dialect.name == "sqlite"
        self._longest_pause = math.inf if is_file else _LONGEST_PAUSE
        self._last_used = -math.inf

    @contextmanager
    def transaction(self, *, reads_only: bool = False) -> Iterator[Connection]:
        """Commit what is executed in the block, or roll it back if the block raises an error."""
        connection = self._connect()
        connection.execution_options(reads_only=reads_only)
        transaction = connection.begin()
        try:
            if self._pipeline is not None:
                connection.exec_driver_sql(_BEGIN)
            yield connection
            transaction.commit()
        except BaseException:
            if self._pipeline is not None:
                # What was sent after a failed statement was not executed: drop the answers that
                # say so.
                self._pipeline.answers()
            transaction.rollback()
            raise
        finally:
            self._last_used = time.monotonic()

    def _connect(self) -> Connection:
        if self._connection is not None and not self._is_usable(self._connection):
            if self._pipeline is not None:
                self._pipeline.close()
                self._pipeline = None
            self._connection.close()
            self._connection = None
        if self._connection is None:
            # The pool tests it.
            self._connection = self._engine.connect()
            if _has_pipelines(self._engine):
                self._pipeline = _Pipeline(self._connection)
                weakref.finalize(self, self._pipeline.close)
        return self._connection

    def _is_usable(self, connection: Connection) -> bool:
        if connection.invalidated:
            return False
        if time.monotonic() - self._last_used <= self._longest_pause:
            return True
        return self._pipeline is not None and self._pipeline.answers()


def _has_pipelines(engine: Engine) -> bool:
    if engine.dialect.driver != "psycopg":
        return False
    from psycopg import Pipeline  # an optional dependency

    return Pipeline.is_supported()


class _Pipeline:
    """The pipeline mode of a connection by psycopg: see `HeldPipeline`.

    BEGIN, and a statement that returns no rows, are held back and sent with the next query, or with
    COMMIT. The answers arrive together too; so does an error. So a transaction that locks rows,
    appends to them and commits waits twice.

    Args:
        connection: outside a transaction.
    """

    def __init__(self, connection: Connection) -> None:
        from schedsearch.storage.held_pipeline import hold_statements

        # With AUTOCOMMIT the driver sends no BEGIN itself, for whose answer it would wait.
        self._connection = connection.execution_options(isolation_level="AUTOCOMMIT")
        driver: Any = connection.connection.driver_connection
        self._pipeline = hold_statements(driver)
        # SQLAlchemy knows nothing of pipelines: it needs the rows of a query at once.
        event.listen(connection, "after_cursor_execute", self._wait_for_rows)

    def _wait_for_rows(self, connection: Connection, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("SELECT") or " RETURNING " in statement:
            self._pipeline.sync()

    def answers(self) -> bool:
        """Wait for the answers to all that was sent; return whether there was no error."""
        try:
            self._pipeline.sync()
        except self._connection.dialect.loaded_dbapi.Error:
            return False
        return True

    def close(self) -> None:
        """Close the connection without waiting: the server may be suspended."""
        if not (self._connection.closed or self._connection.invalidated):
            self._connection.invalidate()
