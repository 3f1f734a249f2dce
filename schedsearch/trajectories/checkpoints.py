"""Checkpoints: files within a budget of bytes, each with a row in the database.

A file is written before its row and removed after it. So a row never names a partial file, and a
crash in between leaves at most an orphan: a file without a row, which `sweep` removes. A file that
is lost or damaged later is detected by its hash.
"""

from __future__ import annotations

import hashlib
import io
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, BinaryIO, Protocol, TypeVar

from optuna.artifacts.exceptions import ArtifactNotFound
from sqlalchemy import Connection, bindparam, delete, func, select, update

from schedsearch.errors import InputError, summarize_exception
from schedsearch.storage import Database
from schedsearch.storage.rows import split_ids
from schedsearch.trajectories.database_folders import DatabaseFolder
from schedsearch.trajectories.folder import is_checkpoint_name
from schedsearch.trajectories.leases import latest_end
from schedsearch.trajectories.tables import (
    checkpoints,
    identity,
    insert_if_missing,
    lock_tables,
    pins,
)

#: Seconds after which a file without a row is an orphan: longer than any batch takes.
_ORPHAN_AGE = 3600.0

#: A size beyond this cannot be one that was written; sums of such numbers would overflow.
_MAX_BYTES = 2**50
_TOTAL = select(func.coalesce(func.sum(checkpoints.c.bytes), 0)).where(
    checkpoints.c.bytes.between(0, _MAX_BYTES)
)
_EVICTABLE = (
    select(checkpoints.c.hash, checkpoints.c.artifact, checkpoints.c.bytes)
    .where(
        checkpoints.c.hash.not_in(
            select(pins.c.hash).where(
                pins.c.expires > bindparam("moment"), pins.c.expires <= bindparam("latest")
            )
        )
    )
    .order_by(checkpoints.c.used)
)
_BY_HASH = select(checkpoints).where(checkpoints.c.hash.in_(bindparam("names", expanding=True)))
_DROP = delete(checkpoints).where(
    checkpoints.c.hash == bindparam("name"), checkpoints.c.artifact == bindparam("file")
)
_USE = update(checkpoints).where(checkpoints.c.hash == bindparam("name"))
_RECORD_WRITE = update(identity).values(written=bindparam("moment"))
_UNPIN = delete(pins).where(pins.c.run.in_(bindparam("runs", expanding=True)))

_Decoded = TypeVar("_Decoded")


class Artifacts(Protocol):
    """Stores the files: Optuna's artifact store protocol, which all stores of Optuna implement.

    Orphans are removed from a store that also has `older_than`, as `Folder` does. Only names of
    checkpoints are passed to a store, whatever the database holds.
    """

    def open_reader(self, artifact_id: str) -> BinaryIO: ...

    def write(self, artifact_id: str, content_body: BinaryIO) -> None: ...

    def remove(self, artifact_id: str) -> None: ...


class Checkpoints:
    """The checkpoints of a database's nodes.

    Args:
        database: has the rows.
        artifacts: stores the files; None: no checkpoint is read or written.
        budget: bytes of all files together.
        say: called once for each kind of problem: checkpoints that are lost, cannot be written, or
            cannot be read.
    """

    def __init__(
        self,
        database: Database,
        artifacts: Artifacts | None,
        budget: int,
        say: Callable[[str], None],
    ) -> None:
        self._database = database
        self._artifacts = artifacts
        self._budget = budget
        self._say = say
        self._reported: set[str] = set()
        self._pending: list[tuple[str, dict[str, Any]]] = []
        self._unreferenced: list[str] = []
        self._written: float | None = None
        # Bytes that may be added before the total is counted again: other workers add files too.
        self._room = 0

    # --- writing ---------------------------------------------------------------------------------

    def save(self, node: str, run: str, content: bytes) -> None:
        """Write the file of a node's checkpoint now, and its row later, pinned for a run."""
        if self._artifacts is None:
            return
        artifact = f"{node}.{secrets.token_hex(4)}.safetensors"
        try:
            self._artifacts.write(artifact, io.BytesIO(content))
        except Exception as error:  # artifact stores raise different errors
            self._report_failure("written", error)
            return
        row = {
            "hash": node,
            "artifact": artifact,
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        self._pending.append((run, row))

    @property
    def has_pending(self) -> bool:
        """Whether there are rows to write."""
        return bool(self._pending)

    def write(self, connection: Connection, moment: float, until: float) -> None:
        """Write the pending rows and pin them; drop checkpoints that exceed the budget.

        The least recently used checkpoints are evicted to make room, except pinned ones. A pin
        that ends later than any pin can has expired.
        """
        if not self._pending:
            return
        self._unreferenced, self._written = [], None
        room = self._make_room(connection, moment, latest_end(moment, until - moment))
        rows, pinned = [], {}
        for run, row in self._pending:
            if row["bytes"] <= room:
                room -= row["bytes"]
                rows.append(row | {"used": moment})
                pinned[run] = row["hash"]
        if rows:
            connection.execute(insert_if_missing(checkpoints, connection.dialect.name), rows)
            connection.execute(_RECORD_WRITE, {"moment": moment})
            self._written = moment
        self._room = min(room, self._budget // 64)
        _pin(connection, pinned, until)
        referenced = self._referenced(connection)
        files = [row["artifact"] for _, row in self._pending]
        self._unreferenced += [file for file in files if file not in referenced]

    def mark_committed(self) -> None:
        """Drop the rows that `write` wrote, and remove files that no row names any more."""
        self._pending.clear()
        if self._written is not None and isinstance(self._artifacts, DatabaseFolder):
            self._artifacts.record_write(self._written)
            self._written = None
        for artifact in self._unreferenced:
            self._remove(artifact)
        self._unreferenced = []

    def _referenced(self, connection: Connection) -> set[str]:
        """Return the files in the rows of the pending nodes: the first file of each node."""
        referenced = set()
        for names in split_ids(row["hash"] for _, row in self._pending):
            referenced |= {row.artifact for row in connection.execute(_BY_HASH, {"names": names})}
        return referenced

    def _make_room(self, connection: Connection, moment: float, latest: float) -> int:
        """Evict until the pending files fit, as far as possible; return the free bytes."""
        needed = sum(row["bytes"] for _, row in self._pending)
        if needed <= self._room:
            return self._room
        room = self._budget - int(connection.execute(_TOTAL).scalar_one()) - self._bytes_of_runs()
        if needed <= room:
            return room
        # More than is needed now, so that not every batch has to evict.
        wanted = max(needed, self._budget // 16)
        evicted = []
        for row in connection.execute(_EVICTABLE, {"moment": moment, "latest": latest}):
            if room >= wanted:
                break
            room += _valid_size(row.bytes) or 0
            evicted.append({"name": row.hash, "file": row.artifact})
        if evicted:
            connection.execute(_DROP, evicted)
        self._unreferenced += [row["file"] for row in evicted]
        return room

    def _bytes_of_runs(self) -> int:
        """Return the bytes of the files that training loops keep in the folders of their runs."""
        measured = getattr(self._artifacts, "subfolder_bytes", None)
        if measured is None:
            return 0
        with suppress(InputError, OSError):
            taken = int(measured())
            if taken >= self._budget:
                self._report_once(
                    "runs",
                    f"the files in run.directory take {taken} of {self._budget} bytes, so no "
                    "checkpoint is stored beside them: keep fewer, or set "
                    "SCHEDSEARCH_CHECKPOINT_BUDGET",
                )
            return taken
        return 0

    # --- reading ---------------------------------------------------------------------------------

    def load(
        self,
        names: Sequence[str],
        run: str,
        seconds: float,
        decode: Callable[[str, bytes], _Decoded],
    ) -> _Decoded | None:
        """Return the checkpoint of the last of these nodes that has one, pinned for a run.

        A checkpoint that is lost, damaged or invalid is reported and its row deleted; one that
        cannot be read now is only reported. In both cases the checkpoint before it is tried.

        Args:
            names: the nodes.
            run: the run that needs the checkpoint.
            seconds: how long it is pinned.
            decode: called with a node and the bytes of its file; raises ValueError if they are not
                a checkpoint of this node.
        """
        rest = [] if self._artifacts is None else list(names)
        while rest:
            row = self._database.write(partial(self._pin_last, rest, run, seconds))
            if row is None:
                return None
            try:
                content = self._read(row)
            except Exception as error:  # artifact stores raise different errors
                self._report_failure("read", error)
            else:
                if content is not None:
                    with suppress(ValueError):
                        return decode(row.hash, content)
                self._delete(row)
            del rest[rest.index(row.hash) :]
        return None

    def _pin_last(
        self, names: Sequence[str], run: str, seconds: float, connection: Connection
    ) -> Any:
        moment = lock_tables(connection)
        for chunk in split_ids(reversed(names)):
            found = {row.hash: row for row in connection.execute(_BY_HASH, {"names": chunk})}
            for name in chunk:
                if name in found:
                    connection.execute(_USE, {"name": name, "used": moment})
                    _pin(connection, {run: name}, moment + seconds)
                    return found[name]
        return None

    def _read(self, row: Any) -> bytes | None:
        """Return the content of a row's file; None if the row or the file is invalid."""
        size = _valid_size(row.bytes)
        if self._artifacts is None or not is_checkpoint_name(row.artifact):
            return None
        if size is None or size > self._budget:
            return None
        try:
            with self._artifacts.open_reader(row.artifact) as file:
                # One byte more: a longer file is damaged, and may be endless.
                content = file.read(size + 1)
        except ArtifactNotFound:
            return None
        return content if hashlib.sha256(content).hexdigest() == row.sha256 else None

    def _delete(self, row: Any) -> None:
        dropped = {"name": row.hash, "file": row.artifact}

        def drop(connection: Connection) -> None:
            lock_tables(connection)
            connection.execute(_DROP, dropped)

        self._database.write(drop)
        self._report_once(
            "lost",
            f"checkpoint {_shown(row.artifact)} is missing or damaged: "
            "its epochs are trained again",
        )
        self._remove(row.artifact)

    # --- files -----------------------------------------------------------------------------------

    def sweep(self, seconds: float = _ORPHAN_AGE) -> int:
        """Remove files without a row that are older than `seconds`; return how many.

        Artifact stores that cannot list their files keep their orphans.
        """
        listed = getattr(self._artifacts, "older_than", None)
        if self._artifacts is None or listed is None:
            return 0
        # List the files before the rows: a file that old has had time to get its row.
        try:
            files = set(listed(seconds))
        except InputError as error:
            self._report_failure("read", error)
            return 0
        except OSError:
            return 0  # reported when a checkpoint cannot be read or written
        if not files:
            return 0
        named = self._database.read(
            lambda connection: connection.scalars(select(checkpoints.c.artifact)).all()
        )
        orphans = files.difference(named)
        for artifact in orphans:
            with suppress(Exception):  # another worker may have removed it
                self._artifacts.remove(artifact)
        return len(orphans)

    def _remove(self, artifact: str) -> None:
        # Another worker may have removed it; a file that cannot be removed now is swept later.
        if self._artifacts is not None and is_checkpoint_name(artifact):
            with suppress(Exception):
                self._artifacts.remove(artifact)

    def _report_failure(self, action: str, error: Exception) -> None:
        if isinstance(error, InputError):
            # The folder is refused, for reading and for writing.
            self._report_once("refused", f"no checkpoint is read or written: {error}")
        else:
            reason = summarize_exception(error)
            self._report_once(action, f"checkpoints cannot be {action}: {reason}")

    def _report_once(self, kind: str, message: str) -> None:
        if kind not in self._reported:
            self._reported.add(kind)
            self._say(message)


def _pin(connection: Connection, pinned: Mapping[str, str], until: float) -> None:
    """Pin one checkpoint for each run, in place of the run's earlier pin."""
    if pinned:
        connection.execute(_UNPIN, {"runs": list(pinned)})
        rows = [{"run": run, "hash": name, "expires": until} for run, name in pinned.items()]
        connection.execute(pins.insert(), rows)


def _valid_size(value: object) -> int | None:
    """Return a size from the database; None if no file can have it."""
    return value if type(value) is int and 0 <= value <= _MAX_BYTES else None


def _shown(name: object) -> str:
    return str(name) if is_checkpoint_name(name) else f"with the invalid name {str(name)[:80]!a}"
