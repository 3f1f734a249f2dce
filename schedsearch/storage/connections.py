"""The connections to each kind of database, with the settings that concurrent workers need."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL

from schedsearch.errors import StorageError

#: Seconds that a writer waits for the lock of a SQLite file.
SQLITE_BUSY_TIMEOUT = 60.0
#: Seconds after which the server ends an idle transaction, and with it the lock of the study.
_IDLE_TIMEOUT = 60
#: Seconds that a statement may take, and that it may wait for a lock.
_STATEMENT_TIMEOUT, _LOCK_TIMEOUT = 60, 15
#: Seconds that a write may wait for a lock if it is not retried.
_SHORT_LOCK_WAIT = 2
#: Limit the waits of a session of MySQL or MariaDB for locks of rows and of tables; undo that.
_SHORTEN_ON_MYSQL = (
    "SET @usual_for_rows = @@innodb_lock_wait_timeout, @usual_for_tables = @@lock_wait_timeout, "
    f"innodb_lock_wait_timeout = {_SHORT_LOCK_WAIT}, lock_wait_timeout = {_SHORT_LOCK_WAIT}"
)
_RESTORE_ON_MYSQL = (
    "SET innodb_lock_wait_timeout = @usual_for_rows, lock_wait_timeout = @usual_for_tables"
)
#: Seconds to wait for another process that creates the tables.
_CREATION_TIMEOUT = 50

_SERVER: dict[str, Any] = {
    # Detects a lost connection before it is used.
    "pool_pre_ping": True,
    "pool_recycle": 1800,
    "pool_size": 2,
    "pool_use_lifo": True,
    "isolation_level": "READ COMMITTED",
}
_POSTGRESQL: dict[str, Any] = _SERVER | {
    "connect_args": {
        "connect_timeout": 5,
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": _STATEMENT_TIMEOUT * 1000,
        "options": f"-c timezone=UTC -c statement_timeout={_STATEMENT_TIMEOUT}s "
        f"-c lock_timeout={_LOCK_TIMEOUT}s "
        f"-c idle_in_transaction_session_timeout={_IDLE_TIMEOUT}s",
    }
}
_MYSQL: dict[str, Any] = _SERVER | {
    "connect_args": {
        "connect_timeout": 5,
        "read_timeout": _STATEMENT_TIMEOUT,
        "write_timeout": _STATEMENT_TIMEOUT,
        # Only MariaDB reads the part in /*M! */.
        "init_command": f"SET time_zone = '+00:00', innodb_lock_wait_timeout = {_LOCK_TIMEOUT}, "
        f"lock_wait_timeout = {_LOCK_TIMEOUT} /*M! , idle_transaction_timeout = {_IDLE_TIMEOUT} */",
    }
}
_OPTIONS: dict[str, dict[str, Any]] = {
    "sqlite": {"connect_args": {"timeout": SQLITE_BUSY_TIMEOUT}},
    "postgresql": _POSTGRESQL,
    "mysql": _MYSQL,
}


def engine_options(url: URL) -> dict[str, Any]:
    """Return the keyword arguments of `create_engine`; options in the URL take precedence."""
    options = _OPTIONS.get(url.get_backend_name(), {"pool_pre_ping": True})
    defaults = options.get("connect_args", {})
    arguments = {name: value for name, value in defaults.items() if name not in url.query}
    if "options" in defaults and "options" in url.query:
        # PostgreSQL uses the last value of a repeated option.
        arguments["options"] = f"{defaults['options']} {url.query['options']}"
    return options | {"connect_args": arguments}


def create_database_engine(url: URL) -> Engine:
    """Return an engine whose transactions lock a SQLite file when they begin, unless read-only.

    A transaction is read-only with the execution option `reads_only`.
    """
    engine = create_engine(url, **engine_options(url))
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_on_sqlite)
    return engine


def _set_up_sqlite(connection: Any, record: object) -> None:
    connection.isolation_level = None  # else the driver would begin transactions, without a lock
    relax_synchronous(connection, record)


def _begin_on_sqlite(connection: Connection) -> None:
    if connection.get_execution_options().get("reads_only"):
        connection.exec_driver_sql("BEGIN")
    else:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def relax_synchronous(connection: Any, record: object) -> None:
    """Let SQLite commit without waiting for the disk: a power cut may lose the last commits."""
    connection.execute("PRAGMA synchronous=NORMAL")


@contextmanager
def short_lock_wait(connection: Connection) -> Iterator[None]:
    """Let the next transaction of a connection wait for locks for two seconds at most.

    The transaction starts with `limit_lock_wait`.
    """
    if connection.dialect.name == "sqlite":
        with _short_wait_on_sqlite(connection):
            yield
        return
    try:
        yield
    finally:
        # A lost connection has no settings any more.
        if connection.dialect.name == "mysql" and not connection.invalidated:
            connection.exec_driver_sql(_RESTORE_ON_MYSQL)


@contextmanager
def _short_wait_on_sqlite(connection: Connection) -> Iterator[None]:
    driver: Any = connection.connection.dbapi_connection
    [usual] = driver.execute("PRAGMA busy_timeout").fetchone()
    driver.execute(f"PRAGMA busy_timeout={_SHORT_LOCK_WAIT * 1000}")
    try:
        yield
    finally:
        driver.execute(f"PRAGMA busy_timeout={usual}")


def limit_lock_wait(connection: Connection) -> None:
    """Limit the waits for locks in this transaction; see `short_lock_wait`."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_SHORT_LOCK_WAIT}s'")
    elif connection.dialect.name == "mysql":
        connection.exec_driver_sql(_SHORTEN_ON_MYSQL)


def enable_wal(engine: Engine) -> None:
    """Let SQLite use a write-ahead log, so that reads do not wait for a writer."""
    raw = engine.raw_connection()
    try:
        cursor = raw.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.close()
    finally:
        raw.close()


@contextmanager
def creation_lock(engine: Engine, file: Path | None) -> Iterator[None]:
    """Let one process at a time create tables or studies: Optuna's own steps are not atomic.

    Args:
        engine: of the database.
        file: the file of a SQLite database; None for a server.
    """
    if file is not None:
        # Without links, since other processes may open the file by another path.
        with _lock_folder(file.resolve().parent):
            yield
        return
    lock = _lock_on_mysql if engine.dialect.name == "mysql" else _lock_on_postgresql
    with lock(engine):
        yield


@contextmanager
def _lock_on_postgresql(engine: Engine) -> Iterator[None]:
    with engine.begin() as connection:
        connection.execute(text(f"SET LOCAL lock_timeout = '{_CREATION_TIMEOUT}s'"))
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(770411)"))
        yield


@contextmanager
def _lock_on_mysql(engine: Engine) -> Iterator[None]:
    # The lock belongs to the whole server, so its name contains the name of the database.
    bound = {"name": f"schedsearch {engine.url.database}"[:64], "seconds": _CREATION_TIMEOUT}
    # No transaction, since the server would end an idle one.
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if connection.execute(text("SELECT GET_LOCK(:name, :seconds)"), bound).scalar() != 1:
            raise StorageError(
                f"{engine.url.render_as_string()}: other processes have been creating tables or "
                f"studies for {_CREATION_TIMEOUT} s; try again"
            )
        try:
            yield
        finally:
            connection.execute(text("SELECT RELEASE_LOCK(:name)"), bound)


@contextmanager
def _lock_folder(folder: Path) -> Iterator[None]:
    """Lock the folder itself, so that no lock file remains."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
