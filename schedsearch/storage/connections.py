"""How connections are made: what each kind of database needs to be safe under many workers."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL

#: Seconds that a writer waits for its turn on a SQLite file.
BUSY_TIMEOUT = 60.0
#: Seconds until who dies or hangs in a transaction loses it, and with it the study's lock.
_IDLE = 60
#: Seconds that a statement may take, and that it may wait for a lock.
_STATEMENT, _LOCK = 60, 15
#: Seconds that the making of tables may wait for others who make them.
_CREATING = 50

_SERVER: dict[str, Any] = {
    # A connection that was cut, by the server or in between, is noticed before it is used.
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
        "tcp_user_timeout": _STATEMENT * 1000,
        "options": f"-c timezone=UTC -c statement_timeout={_STATEMENT}s "
        f"-c lock_timeout={_LOCK}s -c idle_in_transaction_session_timeout={_IDLE}s",
    }
}
_MYSQL: dict[str, Any] = _SERVER | {
    "connect_args": {
        "connect_timeout": 5,
        "read_timeout": _STATEMENT,
        "write_timeout": _STATEMENT,
        # What follows the exclamation mark is MariaDB's alone.
        "init_command": f"SET time_zone = '+00:00', innodb_lock_wait_timeout = {_LOCK}"
        f"/*M! , idle_transaction_timeout = {_IDLE} */",
    }
}
_OPTIONS: dict[str, dict[str, Any]] = {
    "sqlite": {"connect_args": {"timeout": BUSY_TIMEOUT}},
    "postgresql": _POSTGRESQL,
    "mysql": _MYSQL,
}


def options_of(url: URL) -> dict[str, Any]:
    """Return what `create_engine` is to be told about a database; the URL's own options hold."""
    options = _OPTIONS.get(url.get_backend_name(), {"pool_pre_ping": True})
    ours = options.get("connect_args", {})
    arguments = {name: value for name, value in ours.items() if name not in url.query}
    if "options" in ours and "options" in url.query:
        # PostgreSQL's own, of which the later ones win.
        arguments["options"] = f"{ours['options']} {url.query['options']}"
    return options | {"connect_args": arguments}


def make_engine(url: URL) -> Engine:
    """Return an engine whose transactions lock before they read, if they say so, on SQLite too."""
    engine = create_engine(url, **options_of(url))
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _begin_by_hand)
        event.listen(engine, "begin", _lock_at_begin)
    return engine


def _begin_by_hand(connection: Any, record: object) -> None:
    connection.isolation_level = None  # the driver would begin by itself, and too late
    relax_synchronous(connection, record)


def _lock_at_begin(connection: Connection) -> None:
    if connection.get_execution_options().get("reads_only"):
        connection.exec_driver_sql("BEGIN")
    else:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def relax_synchronous(connection: Any, record: object) -> None:
    """Let a commit to SQLite's log not wait for the disk: a lost machine loses no whole file."""
    connection.execute("PRAGMA synchronous=NORMAL")


def set_journal(engine: Engine) -> None:
    """Let SQLite write ahead, so that reading goes on while somebody writes."""
    raw = engine.raw_connection()
    try:
        cursor = raw.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.close()
    finally:
        raw.close()


@contextmanager
def creating(engine: Engine, file: Path | None) -> Iterator[None]:
    """Let one process at a time make the tables: Optuna's own set-up is not atomic."""
    if file is not None:
        with _locked_folder(file.parent):
            yield
        return
    lock = _creating_on_mysql if engine.dialect.name == "mysql" else _creating_on_postgresql
    with lock(engine):
        yield


@contextmanager
def _creating_on_postgresql(engine: Engine) -> Iterator[None]:
    with engine.begin() as connection:
        connection.execute(text(f"SET LOCAL lock_timeout = '{_CREATING}s'"))
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(770411)"))
        yield


@contextmanager
def _creating_on_mysql(engine: Engine) -> Iterator[None]:
    # A lock of MySQL's belongs to its server: the database's name keeps others apart.
    bound = {"name": f"schedsearch {engine.url.database}"[:64], "seconds": _CREATING}
    # Outside of transactions, which may not be idle for long.
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if connection.execute(text("SELECT GET_LOCK(:name, :seconds)"), bound).scalar() != 1:
            raise TimeoutError("others have been making its tables for too long")
        try:
            yield
        finally:
            connection.execute(text("SELECT RELEASE_LOCK(:name)"), bound)


@contextmanager
def _locked_folder(folder: Path) -> Iterator[None]:
    """Hold a lock on the folder itself, so that no lock file is left behind."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
