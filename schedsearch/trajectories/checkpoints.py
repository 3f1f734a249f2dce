"""Checkpoints: files that rows name, within a budget of bytes.

A file is written before its row, and removed after it, so a row names a file that was whole, and a
crash in between leaves at most a file without a row: an orphan, which `sweep` removes. A file that
is lost or damaged later is noticed by its hash.
"""

from __future__ import annotations

import hashlib
import io
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, BinaryIO, Protocol

from optuna.artifacts.exceptions import ArtifactNotFound
from sqlalchemy import Connection, bindparam, delete, func, select, update

from schedsearch.errors import summarize_exception
from schedsearch.storage import Database
from schedsearch.storage.rows import chunks
from schedsearch.trajectories.tables import add_missing, checkpoints, lock, pins

#: Bytes of all checkpoints of a database, unless told otherwise.
BUDGET = 2 * 2**30
#: Seconds after which a file without a row is an orphan: more than any round lasts.
_ORPHANED = 3600.0

_TOTAL = select(func.coalesce(func.sum(checkpoints.c.bytes), 0))
_EVICTABLE = (
    select(checkpoints.c.hash, checkpoints.c.artifact, checkpoints.c.bytes)
    .where(
        checkpoints.c.hash.not_in(select(pins.c.hash).where(pins.c.expires > bindparam("moment")))
    )
    .order_by(checkpoints.c.used)
)
_NAMED = select(checkpoints).where(checkpoints.c.hash.in_(bindparam("names", expanding=True)))
_DROP = delete(checkpoints).where(
    checkpoints.c.hash == bindparam("name"), checkpoints.c.artifact == bindparam("file")
)
_USE = update(checkpoints).where(checkpoints.c.hash == bindparam("name"))
_UNPIN = delete(pins).where(pins.c.run.in_(bindparam("runs", expanding=True)))


class Artifacts(Protocol):
    """What keeps the files: Optuna's protocol of an artifact store, satisfied by each of its own.

    One that also has `older_than`, as `Folder` does, can be swept.
    """

    def open_reader(self, artifact_id: str) -> BinaryIO: ...

    def write(self, artifact_id: str, content_body: BinaryIO) -> None: ...

    def remove(self, artifact_id: str) -> None: ...


class Checkpoints:
    """The checkpoints of a database's nodes.

    Args:
        database: has the rows.
        artifacts: keeps the files.
        budget: bytes of all of them together.
        say: is told, once, that a checkpoint was lost or could not be written.
    """

    def __init__(
        self, database: Database, artifacts: Artifacts, budget: int, say: Callable[[str], None]
    ) -> None:
        self._database = database
        self._artifacts = artifacts
        self._budget = budget
        self._say = say
        self._said: set[str] = set()
        self._waiting: list[tuple[str, dict[str, Any]]] = []
        self._useless: list[str] = []
        # Bytes that may be added before all must be counted again: others add, too.
        self._room = 0

    # --- writing ---------------------------------------------------------------------------------

    def add(self, name: str, run: str, content: bytes) -> None:
        """Write a file now, and keep its row to be written; the run is to go on from there."""
        artifact = f"{name}.{secrets.token_hex(4)}.safetensors"
        try:
            self._artifacts.write(artifact, io.BytesIO(content))
        except Exception as error:  # each kind of store has errors of its own
            self._say_once(
                "written", f"checkpoints cannot be written: {summarize_exception(error)}"
            )
            return
        row = {
            "hash": name,
            "artifact": artifact,
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        self._waiting.append((run, row))

    @property
    def waiting(self) -> bool:
        """Whether there are rows to be written."""
        return bool(self._waiting)

    def write(self, connection: Connection, moment: float, until: float) -> None:
        """Write the rows that wait, and pin them; what the budget has no room for is dropped.

        To make room, what was not used for longest goes first, but nothing that is pinned.
        """
        if not self._waiting:
            return
        self._useless = []
        room = self._make_room(connection, moment)
        rows, pinned = [], {}
        for run, row in self._waiting:
            if row["bytes"] <= room:
                room -= row["bytes"]
                rows.append(row | {"used": moment})
                pinned[run] = row["hash"]
        if rows:
            connection.execute(add_missing(checkpoints, connection.dialect.name), rows)
        self._room = min(room, self._budget // 64)
        _pin(connection, pinned, until)
        named = self._named(connection)
        files = [row["artifact"] for _, row in self._waiting]
        self._useless += [file for file in files if file not in named]

    def written(self) -> None:
        """Drop what was written, and the files that no row names any more: it is committed."""
        self._waiting.clear()
        for artifact in self._useless:
            self._remove(artifact)
        self._useless = []

    def _named(self, connection: Connection) -> set[str]:
        """Return the files that the rows of what waits name: of two of one node, the first."""
        named = set()
        for names in chunks(row["hash"] for _, row in self._waiting):
            named |= {row.artifact for row in connection.execute(_NAMED, {"names": names})}
        return named

    def _make_room(self, connection: Connection, moment: float) -> int:
        """Evict until what waits has room, if anything may be evicted; return the bytes of room."""
        needed = sum(row["bytes"] for _, row in self._waiting)
        if needed <= self._room:
            return self._room
        room = self._budget - int(connection.execute(_TOTAL).scalar_one())
        if needed <= room:
            return room
        # More than is needed now, so that it is not needed at each round.
        wanted = max(needed, self._budget // 16)
        evicted = []
        for row in connection.execute(_EVICTABLE, {"moment": moment}):
            if room >= wanted:
                break
            room += row.bytes
            evicted.append({"name": row.hash, "file": row.artifact})
        if evicted:
            connection.execute(_DROP, evicted)
        self._useless += [row["file"] for row in evicted]
        return room

    # --- reading ---------------------------------------------------------------------------------

    def load(self, names: Sequence[str], run: str, seconds: float) -> bytes | None:
        """Return the checkpoint of the last of these nodes that has one, pinned for a run.

        One that is lost or damaged is reported and forgotten; one that cannot be read now is only
        reported. In place of either, the one before it is taken.
        """
        rest = list(names)
        while rest:
            row = self._database.write(partial(self._pin_last, rest, run, seconds))
            if row is None:
                return None
            try:
                content = self._read(row)
            except Exception as error:  # each kind of store has errors of its own
                self._say_once("read", f"checkpoints cannot be read: {summarize_exception(error)}")
            else:
                if content is not None:
                    return content
                self._forget(row)
            del rest[rest.index(row.hash) :]
        return None

    def _pin_last(
        self, names: Sequence[str], run: str, seconds: float, connection: Connection
    ) -> Any:
        moment = lock(connection)
        for asked in chunks(reversed(names)):
            found = {row.hash: row for row in connection.execute(_NAMED, {"names": asked})}
            for name in asked:
                if name in found:
                    connection.execute(_USE, {"name": name, "used": moment})
                    _pin(connection, {run: name}, moment + seconds)
                    return found[name]
        return None

    def _read(self, row: Any) -> bytes | None:
        """Return the file that a row names; None if it is missing, or not what was written."""
        try:
            with self._artifacts.open_reader(row.artifact) as file:
                content = file.read()
        except ArtifactNotFound:
            return None
        return content if hashlib.sha256(content).hexdigest() == row.sha256 else None

    def _forget(self, row: Any) -> None:
        dropped = {"name": row.hash, "file": row.artifact}

        def drop(connection: Connection) -> None:
            lock(connection)
            connection.execute(_DROP, dropped)

        self._database.write(drop)
        self._say_once(
            "lost",
            f"the checkpoint {row.artifact} is missing or damaged: its epochs are trained again",
        )
        self._remove(row.artifact)

    # --- files -----------------------------------------------------------------------------------

    def sweep(self, seconds: float = _ORPHANED) -> int:
        """Remove the files that no row has named for so long; return how many.

        A store of artifacts that cannot list its files keeps its orphans.
        """
        listed = getattr(self._artifacts, "older_than", None)
        if listed is None:
            return 0
        # The files before the rows: whatever gets its row in between is old enough to have one.
        files = set(listed(seconds))
        if not files:
            return 0
        named = self._database.read(
            lambda connection: connection.scalars(select(checkpoints.c.artifact)).all()
        )
        orphans = files.difference(named)
        for artifact in orphans:
            self._remove(artifact)
        return len(orphans)

    def _remove(self, artifact: str) -> None:
        # Whoever else removed it was right, too; what cannot be removed now is swept later.
        with suppress(Exception):
            self._artifacts.remove(artifact)

    def _say_once(self, about: str, message: str) -> None:
        if about not in self._said:
            self._said.add(about)
            self._say(message)


def _pin(connection: Connection, pinned: Mapping[str, str], until: float) -> None:
    """Let each run keep one checkpoint from being evicted, in place of the one before."""
    if pinned:
        connection.execute(_UNPIN, {"runs": list(pinned)})
        rows = [{"run": run, "hash": name, "expires": until} for run, name in pinned.items()]
        connection.execute(pins.insert(), rows)
