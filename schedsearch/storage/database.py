"""Opening a database well: for Optuna's own calls, and for transactions of ours beside them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import optuna
from optuna.storages import BaseStorage, RDBStorage, get_storage
from sqlalchemy import Connection, Engine, event, inspect, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from schedsearch.errors import SchedSearchError, StorageError
from schedsearch.storage.connections import (
    creating,
    make_engine,
    options_of,
    relax_synchronous,
    set_journal,
)
from schedsearch.storage.retrier import Retrier, reason
from schedsearch.storage.retrying_storage import RetryingStorage
from schedsearch.storage.tables import OPTUNA_VERSIONS, SCHEMA_VERSION, metadata, version_info
from schedsearch.storage.urls import parse_url, password_of, shown, sqlite_file

#: File systems of other machines, as the kernel names them.
_REMOTE = (
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
#: Where the kernel lists what is mounted.
_MOUNTS = Path("/proc/mounts")
#: How the kernel writes a blank there, for one: \040.
_ESCAPED = re.compile(r"\\([0-7]{3})")

_Found = TypeVar("_Found")


@dataclass(frozen=True)
class Database:
    """One database, opened twice: for Optuna's calls, and for transactions of ours.

    A transaction of ours locks before it reads (BEGIN IMMEDIATE on SQLite, where FOR UPDATE means
    nothing), so what it read still holds when it writes.

    Attributes:
        url: holds the password, if there is one.
        optuna: for Optuna's calls; it remembers finished trials.
        rdb: Optuna's storage of this database, without a cache and without retries.
        engine: for transactions of ours.
        outages: waits while the database is away; all calls and transactions here go by it.
    """

    url: str = field(repr=False)
    optuna: BaseStorage
    rdb: RDBStorage
    engine: Engine
    retrier: Retrier

    @property
    def shown(self) -> str:
        """The URL without its password."""
        return shown(self.url)

    @contextmanager
    def creating(self) -> Iterator[None]:
        """Let one process at a time create: Optuna's own steps for it are not atomic."""
        with creating(self.engine, sqlite_file(make_url(self.url))):
            yield

    def read(self, work: Callable[[Connection], _Found]) -> _Found:
        """Do some work in a transaction that only reads."""
        return self.retrier.retry(lambda: self._do(work, reads_only=True))

    def write(self, work: Callable[[Connection], _Found]) -> _Found:
        """Do some work in one transaction; it is done anew if it may not have been committed."""
        return self.retrier.retry(lambda: self._do(work, reads_only=False))

    def _do(self, work: Callable[[Connection], _Found], *, reads_only: bool) -> _Found:
        connecting = self.engine.connect().execution_options(reads_only=reads_only)
        with connecting as connection, connection.begin():
            return work(connection)


def open_database(url: str, *, create: bool = False) -> Database:
    """Open a database; `create` makes it, and its tables, where they are missing.

    Raises:
        StorageError: the URL is wrong, the database is missing or cannot be reached, or its tables
            have another schema version. The message never contains a password.
    """
    parsed = parse_url(url)
    file = sqlite_file(parsed)
    if file is not None:
        _check_file(file, create=create)
    try:
        return _open(parsed, file, create=create)
    except RuntimeError:  # raised by Optuna for tables of another of its schema revisions
        raise _unsupported_schema(url, "of another version of Optuna") from None
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, OSError) as error:
        said = reason(error, password_of(parsed))
        raise StorageError(f"{shown(url)}: cannot be opened: {said}") from None


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
    remote = _remote_file_system(file.parent.resolve())
    if remote is not None:
        raise StorageError(
            f"{file}: lies on a network file system ({remote}), where SQLite loses what is "
            "written: use a local folder, or a PostgreSQL or MySQL server"
        )


def _remote_file_system(folder: Path) -> str | None:
    """Return the kind of a network file system that holds a folder; None for a local one."""
    if not _MOUNTS.exists():
        return None
    kinds: dict[Path, str] = {}
    for line in _MOUNTS.read_text(errors="replace").splitlines():
        _, place, kind, *_ = line.split()
        kinds[Path(_ESCAPED.sub(lambda found: chr(int(found[1], 8)), place))] = kind
    holder = next(
        place for place in (folder, *folder.parents, None) if place is None or place in kinds
    )
    kind = "" if holder is None else kinds[holder]
    return kind if kind.startswith(_REMOTE) else None


def _open(parsed: URL, file: Path | None, *, create: bool) -> Database:
    url = parsed.render_as_string(hide_password=False)
    engine = make_engine(parsed)
    with creating(engine, file) if create else nullcontext():
        _check_tables(engine, url, create=create)
        storage = RDBStorage(
            url.replace("{", "{{").replace("}", "}}"),  # Optuna takes the URL for a format string
            engine_kwargs=options_of(parsed),
            skip_table_creation=not create,
        )
        _check_schema_version(engine, url)
        if create and file is not None:
            set_journal(engine)
    if file is not None:
        # Only now: Optuna's set-up would wait for itself.
        event.listen(storage.engine, "connect", relax_synchronous)
        storage.engine.dispose()
    retrier = Retrier(shown(url))
    cached = RetryingStorage(get_storage(storage), retrier)
    return Database(url, cached, storage, engine, retrier)


def _check_tables(engine: Engine, url: str, *, create: bool) -> None:
    with engine.connect().execution_options(reads_only=True) as connection:
        found = inspect(connection).get_table_names()
    if found and metadata.tables.keys().isdisjoint(found):
        raise StorageError(
            f"{shown(url)}: holds tables of something else ({', '.join(found[:3])}): "
            "studies need a database of their own"
        )
    if version_info.name in found:
        # Before Optuna opens the database, since it would create the tables that it misses.
        _check_schema_version(engine, url)
    elif not create:
        raise StorageError(f"{shown(url)}: holds no studies: `schedsearch start` begins one")


def _check_schema_version(engine: Engine, url: str) -> None:
    with engine.connect().execution_options(reads_only=True) as connection:
        stored = connection.execute(select(version_info.c.schema_version)).scalar()
    # Without a version, another process was stopped while it created the tables.
    if stored not in (None, SCHEMA_VERSION):
        raise _unsupported_schema(url, f"of schema version {stored}")


def _unsupported_schema(url: str, found: str) -> StorageError:
    return StorageError(
        f"{shown(url)}: its tables are {found}; schedsearch works with schema version "
        f"{SCHEMA_VERSION} (Optuna {OPTUNA_VERSIONS}): upgrade older tables with "
        "`optuna storage upgrade`, or use another database"
    )


_FULL = "; make room and start again: all that was written before is there"
_READ_ONLY = "; it may only be read: check its permissions and settings"
#: What to do about what drivers say.
_HINTS = {
    "full": _FULL,
    "no space left": _FULL,
    "readonly": _READ_ONLY,
    "read-only": _READ_ONLY,
    "denied": _READ_ONLY,
}


def database_failure(error: BaseException) -> SchedSearchError | None:
    """Return what to tell the person about an error that a database raised; None for another."""
    if not isinstance(error, SQLAlchemyError | optuna.exceptions.StorageInternalError):
        return None
    said = reason(error)
    hint = next((hint for sign, hint in _HINTS.items() if sign in said.lower()), "")
    return SchedSearchError(f"the database failed: {said}{hint}")
