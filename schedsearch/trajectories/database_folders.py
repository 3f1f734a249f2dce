"""Which database a folder belongs to: both record an identity, and no other database writes there.

Folders have the name of their database, so two servers with databases of one name would share a
folder, and each would remove the files of the other.

- The identity in a folder is a hash of the identity in the database and of the place where the
  server stores it. So a copy on another server, or restored there, has another identity.
- A database and its folder both record when checkpoints were last added. If the folder's time is
  later, an older state of the database was restored in place; the database gets a new identity.
- A folder of another identity is not touched: the database uses a separate one, whose name
  includes its identity.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard

from optuna.artifacts.exceptions import ArtifactNotFound
from sqlalchemy import Connection, insert, inspect, select, text, update
from sqlalchemy.exc import SQLAlchemyError

from schedsearch.errors import InputError, StorageError
from schedsearch.storage import Database
from schedsearch.trajectories.folder import CHECKPOINT_NAMES, PICTURE_NAMES, Folder
from schedsearch.trajectories.settings import checkpoint_folder, picture_folder
from schedsearch.trajectories.tables import checkpoints, identity, lock_tables, upgrade, versions

_RECORD = "database.json"
_MAX_RECORD = 4096
#: More often than a database can be restored while a worker starts.
_ATTEMPTS = 3


@dataclass(frozen=True)
class FolderRecord:
    """The record in a folder: its database.

    Attributes:
        identity: of the database, 32 hexadecimal digits; see `_identity_of`.
        written: when checkpoints were last added, in seconds by the clock of the database.
        adopted: the time since 1970 when the folder was found with files and without a record; it
            may hold files of other databases that are older. None if the folder was new.
    """

    identity: str
    written: float = 0.0
    adopted: float | None = None


class DatabaseFolder(Folder):
    """A folder that belongs to one database.

    Args:
        path: the folder.
        names: see `Folder`.
        record: of the database; None if the database has no identity.
        recorded: whether the folder has this record; if not, the first artifact brings it.
    """

    def __init__(
        self, path: Path, names: str, record: FolderRecord | None, *, recorded: bool
    ) -> None:
        super().__init__(path, names)
        self._record, self._recorded = record, recorded

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Write an artifact atomically.

        Raises:
            InputError: the folder is refused.
            OSError: the folder has become the folder of another database.
        """
        self._add_record()
        super().write(artifact_id, content_body)

    def make_subfolder(self, name: str) -> Path:
        """Return a subfolder, which is created if it is missing; see `Folder`.

        Raises:
            InputError: the folder or the subfolder is refused.
            OSError: the folder has become the folder of another database.
        """
        self._add_record()
        return super().make_subfolder(name)

    def _add_record(self) -> None:
        if self._record is not None and not self._recorded:
            _record_folder(self.path).create(_RECORD, _to_json(self._record))
            found = _read_record(self.path)
            if found is None or found.identity != self._record.identity:
                raise OSError(f"{self.path} belongs to another database")
            self._recorded = True

    def record_write(self, moment: float) -> None:
        """Record that checkpoints were added, in the transaction that began at this moment."""
        if self._record is not None:
            content = _to_json(replace(self._record, written=moment))
            # This may fail: a database keeps a folder whose time is earlier.
            with suppress(OSError, InputError):
                found = _read_record(self.path)
                if found is None:
                    _record_folder(self.path).create(_RECORD, content)
                elif found.identity == self._record.identity:
                    _record_folder(self.path).write(_RECORD, io.BytesIO(content))

    def older_than(self, seconds: float) -> Iterator[str]:
        """Yield the names of old files that this database may have written."""
        found = super().older_than(seconds)
        if self._record is None or self._record.adopted is None:
            return found
        before = set(super().older_than(time.time() - self._record.adopted))
        return (name for name in found if name not in before)

    def subfolders_older_than(self, seconds: float) -> Iterator[str]:
        """Yield the names of old subfolders that this database may have created."""
        found = super().subfolders_older_than(seconds)
        if self._record is None or self._record.adopted is None:
            return found
        before = set(super().subfolders_older_than(time.time() - self._record.adopted))
        return (name for name in found if name not in before)


class _ServerPictures(DatabaseFolder):
    """The pictures of a database on a server, of which copies may exist."""

    def __init__(self, database: Database, path: Path) -> None:
        super().__init__(path, PICTURE_NAMES, None, recorded=False)
        self._database = database

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Write a picture; see `DatabaseFolder`."""
        if self._record is None and upgrade(self._database):
            stored, _ = self._database.write(_load_identity)
            here, adopted = _identity_of(self._database, stored), None
            usual = picture_folder(self._database.url, self._database.folder)
            found = _read_record(usual)
            self.path = usual if found is None or found.identity == here else _separate(usual, here)
            # Pictures without a record may belong to the database that this one is a copy of.
            if found is None and next(self.names(), None) is not None:
                adopted = time.time()
            self._record = FolderRecord(here, adopted=adopted)
        super().write(artifact_id, content_body)

    def remove(self, artifact_id: str) -> None:
        """Remove a picture that this database wrote; raise ArtifactNotFound otherwise."""
        record, stored = _read_record(self.path), self._database.read(_stored_identity)
        if record is None or record.identity != _identity_of(self._database, stored):
            raise ArtifactNotFound(artifact_id)
        adopted = -math.inf if record.adopted is None else record.adopted
        if artifact_id in set(Folder.older_than(self, time.time() - adopted)):
            raise ArtifactNotFound(artifact_id)
        super().remove(artifact_id)


def open_checkpoint_folder(database: Database, say: Callable[[str], None]) -> DatabaseFolder:
    """Return the folder of a database's checkpoints, which may not exist.

    Args:
        database: its tables exist, see `upgrade`.
        say: called if the folder belongs to another database, and a separate one is begun.

    Raises:
        InputError: the folder is a link or belongs to another user.
        OSError: the folder cannot be used.
    """
    usual = checkpoint_folder(database.url, database.folder)
    for _ in range(_ATTEMPTS):
        # The folders before the database: otherwise their times could be later without a reason.
        record = _read_record(usual)
        stored, written = database.write(_load_identity)
        here = _identity_of(database, stored)
        separate = _separate(usual, here)
        other = _read_record(separate)
        if any(r and r.identity == here and r.written > written for r in (record, other)):
            database.write(partial(_replace_identity, stored))
            continue
        if folder := _open(database, usual, record, here):
            return folder
        if other is None:
            say(
                f"{usual} belongs to another database of this name, or to another state of this "
                f"one: its files are left unchanged, and checkpoints are stored in {separate}"
            )
        if folder := _open(database, separate, other, here):
            return folder
    raise OSError(f"{usual} belongs to another database")


def open_picture_folder(database: Database) -> DatabaseFolder:
    """Return the folder of the pictures of a database's trials, which may not exist.

    Pictures are removed by the names in the database. A copy of a SQLite file has another folder,
    so a folder without a record is used as it is. A copy of a server's database may have the same
    folder, so there each database records its identity before it writes, and removes nothing that
    is older.

    Raises:
        InputError: the folder is a link or belongs to another user.
    """
    usual = picture_folder(database.url, database.folder)
    record, stored = _read_record(usual), database.read(_stored_identity)
    here = _identity_of(database, stored)
    path = usual if record is None or record.identity == here else _separate(usual, here)
    if database.engine.dialect.name != "sqlite":
        return _ServerPictures(database, path)
    return DatabaseFolder(
        path, PICTURE_NAMES, FolderRecord(here) if stored else None, recorded=False
    )


def _open(
    database: Database, path: Path, record: FolderRecord | None, identity_here: str
) -> DatabaseFolder | None:
    """Return a folder if it belongs to a database with this identity, or to none; else None."""
    if record is not None:
        if record.identity != identity_here:
            return None
        return DatabaseFolder(path, CHECKPOINT_NAMES, record, recorded=True)
    files = set(Folder(path, CHECKPOINT_NAMES).names())
    if not files:
        return DatabaseFolder(path, CHECKPOINT_NAMES, FolderRecord(identity_here), recorded=False)
    # An earlier version left the files: they may be of several databases.
    if files.isdisjoint(database.read(_recorded_files)):
        return None
    adopted = FolderRecord(identity_here, adopted=time.time())
    _record_folder(path).create(_RECORD, _to_json(adopted))
    # Another worker may have been faster.
    return _open(database, path, _read_record(path), identity_here)


# --- the folder ----------------------------------------------------------------------------------


def _record_folder(path: Path) -> Folder:
    return Folder(path, re.escape(_RECORD))


def _read_record(path: Path) -> FolderRecord | None:
    """Return the record of a folder; None if it has none.

    A record that cannot be read has an identity that no database has.
    """
    try:
        with _record_folder(path).open_reader(_RECORD) as file:
            found = json.loads(file.read(_MAX_RECORD))
    except ArtifactNotFound:
        return None
    except (ValueError, RecursionError):
        return FolderRecord("")
    return _valid_record(found) or FolderRecord("")


def _valid_record(found: Any) -> FolderRecord | None:
    if not isinstance(found, dict) or not isinstance(found.get("identity"), str):
        return None
    written, adopted = found.get("written"), found.get("adopted")
    if _is_time(written) and (adopted is None or _is_time(adopted)):
        return FolderRecord(found["identity"], written, adopted)
    return None


def _is_time(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value)


def _to_json(record: FolderRecord) -> bytes:
    return json.dumps(asdict(record)).encode()


def _separate(usual: Path, identity_here: str) -> Path:
    """Return the folder of an identity: studies.checkpoints -> studies.0123abcd.checkpoints."""
    return usual.with_name(f"{usual.stem}.{identity_here[:8]}{usual.suffix}")


def _recorded_files(connection: Connection) -> set[Any]:
    return set(connection.scalars(select(checkpoints.c.artifact)))


# --- the database --------------------------------------------------------------------------------


def _load_identity(connection: Connection) -> tuple[str, float]:
    """Return the stored identity, and when checkpoints were last added; create it if missing."""
    lock_tables(connection)
    row = connection.execute(select(identity.c.identity, identity.c.written)).first()
    if row is not None:
        if not _is_time(row.written):
            raise StorageError(
                f"the database is damaged: `written` in its table {identity.name} is "
                f"{row.written!r:.40}, but must be a number: use a copy of it, or pass --no-reuse"
            )
        return str(row.identity), float(row.written)
    new = secrets.token_hex(16)
    connection.execute(insert(identity), {"id": 1, "identity": new, "written": 0.0})
    return new, 0.0


def _replace_identity(replaced: str, connection: Connection) -> None:
    """Give the database a new identity, unless another worker has just done that."""
    lock_tables(connection)
    new = update(identity).where(identity.c.identity == replaced)
    connection.execute(new.values(identity=secrets.token_hex(16)))


def _stored_identity(connection: Connection) -> str:
    """Return the stored identity; an empty text if there is none."""
    if not inspect(connection).has_table(identity.name):
        return ""
    return str(connection.execute(select(identity.c.identity)).scalar() or "")


def _identity_of(database: Database, stored: str) -> str:
    """Return the identity of a database at its place: 32 hexadecimal digits."""
    parts = json.dumps([stored, *_place(database)])
    return hashlib.blake2b(parts.encode(), digest_size=16).hexdigest()


#: Queries that tell a server, and the tables of a database, from copies of them.
_PLACES = {
    "postgresql": (
        "SELECT system_identifier FROM pg_control_system()",
        "SELECT oid FROM pg_database WHERE datname = current_database()",
        f"SELECT CAST(to_regclass('{versions.name}') AS oid)",
    ),
    "mysql": (
        "SELECT @@server_uuid",  # MySQL only
        # `create_time` counts whole seconds.
        "SELECT DATABASE()",
        "SELECT CAST(create_time AS char) FROM information_schema.tables "
        f"WHERE table_schema = DATABASE() AND table_name = '{versions.name}'",
    ),
}


def _place(database: Database) -> list[str]:
    """Return what tells a server and the tables of a database from copies of them.

    A SQLite file has no such place: it may be moved together with its folder.
    """
    dialect = database.engine.dialect.name
    if dialect == "sqlite":
        return []
    return [_answer(database, query) for query in _PLACES[dialect]]


def _answer(database: Database, query: str) -> str:
    try:
        return str(database.read(lambda connection: connection.execute(text(query)).scalar()))
    except SQLAlchemyError:
        return ""  # not permitted, or unknown to this server
