"""Opening a database: for Optuna's calls, and for transactions beside them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import optuna
from optuna.storages import BaseStorage, RDBStorage, get_storage
from sqlalchemy import Connection, Engine, event, inspect, literal, select, table
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from schedsearch.errors import SchedSearchError, StorageError
from schedsearch.storage.connections import (
    create_database_engine,
    creation_lock,
    enable_wal,
    engine_options,
    limit_lock_wait,
    relax_synchronous,
    short_lock_wait,
)
from schedsearch.storage.file_guard import FileGuard
from schedsearch.storage.retrier import Retrier, driver_message, is_transient
from schedsearch.storage.retrying_storage import RetryingStorage
from schedsearch.storage.tables import OPTUNA_VERSIONS, SCHEMA_VERSION, metadata, version_info
from schedsearch.storage.urls import hide_password, parse_url, password_of, sqlite_file

#: The kernel's names of network file systems.
_NETWORK_FILE_SYSTEMS = (
    "nfs",
    "cifs",
    "smb",
    "afs",
    "ceph",
    "lustre",
    "gpfs",
    "beegfs",
    "fuse.sshfs",
    "glusterfs",
)
#: The kernel's list of mounted file systems.
_MOUNTS = Path("/proc/mounts")
#: An escaped character in that list, such as \040 for a blank.
_ESCAPED = re.compile(r"\\([0-7]{3})")

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Database:
    """One database, opened for Optuna's calls and for schedsearch's own transactions.

    A writing transaction takes its lock before it reads (BEGIN IMMEDIATE on SQLite, which ignores
    FOR UPDATE), so what it read is still true when it writes.

    Attributes:
        url: the URL, with the password; the path of a SQLite file is absolute, since the user's
            code may change the current folder.
        given_url: the URL as it was given, with the password.
        folder: the current folder when the database was opened: relative paths start from it.
        optuna: Optuna's storage, with its cache of finished trials and with retries.
        rdb: Optuna's storage without cache and retries.
        engine: connects schedsearch's own transactions; no retries.
        retrier: retries calls and transactions while the database is unavailable.
    """

    url: str = field(repr=False)
    given_url: str = field(repr=False)
    folder: Path
    optuna: BaseStorage
    rdb: RDBStorage
    engine: Engine
    retrier: Retrier

    @property
    def display_url(self) -> str:
        """The URL without the password, for messages."""
        return hide_password(self.given_url)

    @contextmanager
    def creation_lock(self) -> Iterator[None]:
        """Let one process at a time create studies: Optuna's own steps are not atomic."""
        with creation_lock(self.engine, sqlite_file(make_url(self.url))):
            yield

    def read(self, work: Callable[[Connection], _Result]) -> _Result:
        """Run `work` in a read-only transaction, with retries."""
        return self.retrier.retry(lambda: self._run(work, reads_only=True))

    def write(self, work: Callable[[Connection], _Result]) -> _Result:
        """Run `work` in a transaction, with retries: it must be idempotent."""
        return self.retrier.retry(lambda: self._run(work, reads_only=False))

    def try_write(self, work: Callable[[Connection], object]) -> bool:
        """Run `work` in a transaction without retries; return False after a transient error.

        It waits for locks for two seconds at most.
        """
        try:
            opened = self.engine.connect()
            with opened as connection, short_lock_wait(connection), connection.begin():
                limit_lock_wait(connection)
                work(connection)
        except DBAPIError as error:
            if not is_transient(error):
                raise
            return False
        return True

    def _run(self, work: Callable[[Connection], _Result], *, reads_only: bool) -> _Result:
        opened = self.engine.connect().execution_options(reads_only=reads_only)
        with opened as connection, connection.begin():
            return work(connection)


def open_database(url: str, *, create: bool = False) -> Database:
    """Open a database; `create` creates a missing file and missing tables.

    Raises:
        StorageError: the URL is wrong, the database is missing or cannot be reached, or its tables
            have another schema version. The message never contains a password.
    """
    parsed = parse_url(url)
    file, folder = sqlite_file(parsed), Path.cwd()
    if file is not None:
        _check_file(file, create=create)
    try:
        return _open(parsed, folder, create=create)
    except RuntimeError:  # raised by Optuna for tables of another of its schema revisions
        raise _unsupported_schema(url, "of another version of Optuna") from None
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, OSError) as error:
        message = driver_message(error, password_of(parsed))
        raise StorageError(f"{hide_password(url)}: cannot be opened: {message}") from None


def _check_file(file: Path, *, create: bool) -> None:
    if file.is_dir():
        raise StorageError(f"{file}: is a folder: give the path of a file")
    if not file.exists() and not create:
        raise StorageError(
            f"{file}: the database does not exist: create it with `schedsearch start`, or name "
            "another one with --storage"
        )
    if not file.parent.is_dir():
        raise StorageError(f"{file}: the folder {file.parent} does not exist: create it first")
    if create and not os.access(file if file.exists() else file.parent, os.W_OK):
        raise StorageError(f"{file}: is not writable: check its permissions")
    network = _network_file_system(file.resolve())
    if network is not None:
        raise StorageError(
            f"{file}: is on a network file system ({network}), where SQLite loses data: "
            "use a local folder, or a PostgreSQL or MySQL server"
        )


def _network_file_system(file: Path) -> str | None:
    """Return the name of the network file system of a file without links; None for a local one."""
    if not _MOUNTS.exists():
        return None
    kinds: dict[Path, str] = {}
    for line in _MOUNTS.read_text(errors="replace").splitlines():
        _, mount_point, kind, *_ = line.split()
        kinds[Path(_ESCAPED.sub(lambda found: chr(int(found[1], 8)), mount_point))] = kind
    kind = next((kinds[path] for path in (file, *file.parents) if path in kinds), "")
    return kind if kind.startswith(_NETWORK_FILE_SYSTEMS) else None


def _open(given: URL, folder: Path, *, create: bool) -> Database:
    shown, parsed = given.render_as_string(hide_password=False), _absolute(given, folder)
    url, file = parsed.render_as_string(hide_password=False), sqlite_file(parsed)
    engine = create_database_engine(parsed)
    with creation_lock(engine, file) if create else nullcontext():
        _check_tables(engine, shown, create=create)
        storage = RDBStorage(
            url.replace("{", "{{").replace("}", "}}"),  # Optuna formats the URL
            engine_kwargs=engine_options(parsed),
            skip_table_creation=not create,
        )
        _check_schema_version(engine, shown)
        if create and file is not None:
            enable_wal(engine)
    if file is not None:
        # Not before: otherwise Optuna's set-up blocks itself.
        event.listen(storage.engine, "connect", relax_synchronous)
        storage.engine.dispose()
        guard = FileGuard.of(folder / file)
        guard.watch(engine)
        guard.watch(storage.engine)
    retrier = Retrier(hide_password(shown))
    cached = RetryingStorage(get_storage(storage), retrier)
    return Database(url, shown, folder, cached, storage, engine, retrier)


def is_same_database(url: str, other: str) -> bool:
    """Return whether two URLs name the same database, by any user and driver."""
    return _place(url) == _place(other)


def _place(url: str) -> tuple[object, ...]:
    parsed = parse_url(url)
    if (file := sqlite_file(parsed)) is not None:
        return ("sqlite", file.resolve())
    return parsed.get_backend_name(), parsed.host, parsed.port, parsed.database


def _absolute(url: URL, folder: Path) -> URL:
    """Return the URL of a SQLite file with its absolute path, if a URL can hold that path."""
    file = sqlite_file(url)
    path = None if file is None else str(folder / file)
    return url if path is None or "?" in path else url.set(database=path)


def _check_tables(engine: Engine, url: str, *, create: bool) -> None:
    with engine.connect().execution_options(reads_only=True) as connection:
        found = inspect(connection).get_table_names()
    if found and metadata.tables.keys().isdisjoint(found):
        raise StorageError(
            f"{hide_password(url)}: contains tables of another program ({', '.join(found[:3])}): "
            "use a separate database for studies"
        )
    if version_info.name in found:
        # Before Optuna opens the database, since it would create the tables that it misses.
        _check_schema_version(engine, url)
    if not create and not _is_created(engine, found):
        raise StorageError(
            f"{hide_password(url)}: contains no studies: create one with `schedsearch start`"
        )


def _is_created(engine: Engine, tables: Sequence[str]) -> bool:
    """Return whether Optuna has recorded its two versions, which ends the creation of its tables.

    Opened before, Optuna would record them as well, and the process that creates the tables would
    fail.
    """
    if not {version_info.name, _REVISION.name} <= set(tables):
        return False
    with engine.connect().execution_options(reads_only=True) as connection:
        recorded = (select(literal(1)).select_from(each) for each in (version_info, _REVISION))
        return all(connection.execute(one).first() is not None for one in recorded)


def _check_schema_version(engine: Engine, url: str) -> None:
    with engine.connect().execution_options(reads_only=True) as connection:
        stored = connection.execute(select(version_info.c.schema_version)).scalar()
    # Without a version, another process was stopped while it created the tables.
    if stored not in (None, SCHEMA_VERSION):
        raise _unsupported_schema(url, f"of schema version {stored}")


def _unsupported_schema(url: str, found: str) -> StorageError:
    return StorageError(
        f"{hide_password(url)}: its tables are {found}; schedsearch works with schema version "
        f"{SCHEMA_VERSION} (Optuna {OPTUNA_VERSIONS}): upgrade older tables with "
        "`optuna storage upgrade`, or use another database"
    )


#: The table in which Alembic records the revision of Optuna's tables.
_REVISION = table("alembic_version")
_FULL = "; free some space and run the command again: earlier results are stored"
_READ_ONLY = "; it is read-only: check its permissions and settings"
#: Hints by parts of the messages of drivers.
_HINTS = {
    "full": _FULL,
    "no space left": _FULL,
    "readonly": _READ_ONLY,
    "read-only": _READ_ONLY,
    "denied": _READ_ONLY,
}


def translate_database_error(error: BaseException) -> SchedSearchError | None:
    """Return an error of a database as an error for the user; None if it is another error."""
    if not isinstance(error, SQLAlchemyError | optuna.exceptions.StorageInternalError):
        return None
    message = driver_message(error)
    hint = next((hint for part, hint in _HINTS.items() if part in message.lower()), "")
    return SchedSearchError(f"the database failed: {message}{hint}")
