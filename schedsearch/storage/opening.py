"""Opening a database well: for Optuna's own calls, and for transactions of ours beside them."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, RDBStorage, get_storage
from sqlalchemy import Connection, Engine, create_engine, event, inspect, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from schedsearch.errors import SchedSearchError, StorageError
from schedsearch.storage.tables import SCHEMA_VERSION, metadata, version_info

#: Seconds that a writer waits for its turn on a SQLite file.
BUSY_TIMEOUT = 60.0


@dataclass(frozen=True)
class Database:
    """One database, opened twice: for Optuna's calls, and for transactions of ours.

    A transaction of ours locks before it reads (BEGIN IMMEDIATE on SQLite, where FOR UPDATE means
    nothing), so what it read still holds when it writes.

    Attributes:
        url: holds the password, if there is one.
        optuna: for Optuna's calls; it remembers finished trials.
        uncached: the same, but asks the database each time.
        engine: for transactions of ours.
        known_schema: whether the tables are those that `storage.tables` describes; if they are not,
            only Optuna's calls may touch them.
    """

    url: str
    optuna: BaseStorage
    uncached: RDBStorage
    engine: Engine
    known_schema: bool

    @property
    def shown(self) -> str:
        """The URL without its password."""
        return shown(self.url)

    @contextmanager
    def creating(self) -> Iterator[None]:
        """Let one process at a time create: Optuna's own steps for it are not atomic."""
        with _creating(self.engine, sqlite_file(make_url(self.url))):
            yield


def shown(url: str) -> str:
    """Return a database URL with its password hidden, for messages.

    >>> shown("postgresql://ann:secret@db/studies")
    'postgresql://ann:***@db/studies'
    """
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return "the storage URL"


def has_password(url: str) -> bool:
    """Tell whether a database URL holds a password."""
    try:
        return make_url(url).password is not None
    except ArgumentError:
        return False


def open_database(url: str, *, create: bool = False) -> Database:
    """Open a database; `create` makes it, and its tables, where they are missing.

    Tables of a later version that the Optuna here accepts are served by its own calls alone.

    Raises:
        StorageError: the URL is wrong, the database is missing or out of reach, or its schema is
            of another Optuna. The message never holds a password.
    """
    parsed = _parse(url)
    file = sqlite_file(parsed)
    if file is not None:
        _check_file(file, create=create)
    try:
        return _open(parsed, file, create=create)
    except ModuleNotFoundError as error:
        raise StorageError(
            f"{shown(url)}: needs the driver `{error.name}`: {_install(error.name)}"
        ) from None
    except ImportError:
        raise StorageError(f"{shown(url)}: needs the Python driver of this database") from None
    except RuntimeError:
        raise StorageError(
            f"{shown(url)}: its tables were made by another version of Optuna than the "
            f"{optuna.__version__} here: upgrade them with `optuna storage upgrade`, or give "
            "another database"
        ) from None
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, OSError) as error:
        raise StorageError(f"{shown(url)}: cannot be opened: {_reason(error, parsed)}") from None


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
        parsed.get_dialect()
    except NoSuchModuleError:
        raise StorageError(
            f"{shown(url)}: there is no database kind `{make_url(url).drivername}`: "
            "use sqlite, postgresql or mysql"
        ) from None
    except ArgumentError:
        raise StorageError(
            "the storage URL cannot be read: write it like sqlite:///studies.db or "
            "postgresql://user@host/database"
        ) from None
    except ModuleNotFoundError as error:
        raise StorageError(
            f"{shown(url)}: needs the driver `{error.name}`: {_install(error.name)}"
        ) from None
    return parsed


def _install(module: str | None) -> str:
    """Return what to type to get a driver: some packages have another name than their module."""
    packages = {"MySQLdb": "mysqlclient", "psycopg": "psycopg[binary]"}
    return f"pip install '{packages.get(str(module), module)}'"


def sqlite_file(url: URL) -> Path | None:
    """Return the file of a SQLite URL; None for every other kind of database."""
    if url.get_backend_name() != "sqlite":
        return None
    if not url.database or url.database == ":memory:":
        raise StorageError("a SQLite database in memory cannot be shared: name a file")
    return Path(url.database)


def _check_file(file: Path, *, create: bool) -> None:
    if file.is_dir():
        raise StorageError(f"{file}: is a folder: name a file in it")
    if not file.exists() and not create:
        raise StorageError(
            f"{file}: there is no such database: `schedsearch start` makes it, "
            "--storage names another"
        )
    if not file.parent.is_dir():
        raise StorageError(f"{file}: the folder {file.parent} does not exist: make it first")
    if create and not os.access(file if file.exists() else file.parent, os.W_OK):
        raise StorageError(f"{file}: cannot be written: check its permissions")


def _open(parsed: URL, file: Path | None, *, create: bool) -> Database:
    url = parsed.render_as_string(hide_password=False)
    options: dict[str, Any] = {"pool_pre_ping": True}
    if file is not None:
        options = {"connect_args": {"timeout": BUSY_TIMEOUT}}
    engine = create_engine(parsed, **options)
    if file is not None:
        _lock_at_begin(engine)
    with _creating(engine, file) if create else nullcontext():
        _check_tables(engine, url, create=create)
        storage = RDBStorage(
            url.replace("{", "{{").replace("}", "}}"),  # Optuna takes the URL for a format string
            engine_kwargs=options,
            skip_table_creation=not create,
        )
        known_schema = _stored_version(engine) == SCHEMA_VERSION
        if create and file is not None:
            _set_journal(engine)
    if file is not None:
        # Only now: Optuna's set-up would wait for itself.
        event.listen(storage.engine, "connect", _relax_synchronous)
        storage.engine.dispose()
    return Database(url, get_storage(storage), storage, engine, known_schema)


def _check_tables(engine: Engine, url: str, *, create: bool) -> None:
    with engine.connect().execution_options(reads_only=True) as connection:
        found = inspect(connection).get_table_names()
    if found and metadata.tables.keys().isdisjoint(found):
        raise StorageError(
            f"{shown(url)}: holds tables of something else ({', '.join(found[:3])}): "
            "studies need a database of their own"
        )
    if not create and version_info.name not in found:
        raise StorageError(f"{shown(url)}: holds no studies: `schedsearch start` begins one")


def _stored_version(engine: Engine) -> int | None:
    with engine.connect().execution_options(reads_only=True) as connection:
        return connection.execute(select(version_info.c.schema_version)).scalar()


def _lock_at_begin(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def _connect(connection: Any, record: object) -> None:
        connection.isolation_level = None  # the driver would begin by itself, and too late
        _relax_synchronous(connection, record)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        if connection.get_execution_options().get("reads_only"):
            connection.exec_driver_sql("BEGIN")
        else:
            connection.exec_driver_sql("BEGIN IMMEDIATE")


def _relax_synchronous(connection: Any, record: object) -> None:
    connection.execute("PRAGMA synchronous=NORMAL")


def _set_journal(engine: Engine) -> None:
    raw = engine.raw_connection()
    try:
        cursor = raw.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.close()
    finally:
        raw.close()


@contextmanager
def _creating(engine: Engine, file: Path | None) -> Iterator[None]:
    """Let one process at a time make the tables: Optuna's own set-up is not atomic."""
    if file is not None:
        with _locked_folder(file.parent):
            yield
        return
    statements = {
        "postgresql": ("SELECT pg_advisory_lock(770411)", "SELECT pg_advisory_unlock(770411)"),
        "mysql": ("SELECT GET_LOCK('schedsearch', 60)", "SELECT RELEASE_LOCK('schedsearch')"),
    }
    lock, unlock = statements.get(engine.dialect.name, ("SELECT 1", "SELECT 1"))
    with engine.connect() as connection:
        connection.exec_driver_sql(lock)
        try:
            yield
        finally:
            connection.exec_driver_sql(unlock)


@contextmanager
def _locked_folder(folder: Path) -> Iterator[None]:
    """Hold a lock on the folder itself, so that no lock file is left behind."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def database_failure(error: BaseException) -> SchedSearchError | None:
    """Return what to tell the person about an error that a database raised; None for another."""
    if not isinstance(error, SQLAlchemyError | optuna.exceptions.StorageInternalError):
        return None
    return SchedSearchError(f"the database failed: {_reason(error)}")


def _reason(error: BaseException, url: URL | None = None) -> str:
    """Return the first line of the driver's own words, without the URL's password."""
    cause = getattr(error, "orig", None) or error.__cause__ or error
    cause = getattr(cause, "orig", None) or cause
    text = next(iter(str(cause).strip().splitlines()), type(cause).__name__)
    password = None if url is None else url.password
    return text.replace(str(password), "***") if password else text
