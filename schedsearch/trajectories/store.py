"""The store of trajectories: what is known is replayed, and the rest is trained once."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import ByteSize, TypeAdapter, ValidationError
from sqlalchemy import Connection
from sqlalchemy.engine import make_url

from schedsearch.engines import EpochResult, Snapshot
from schedsearch.errors import InputError
from schedsearch.storage import Database
from schedsearch.storage.urls import sqlite_file
from schedsearch.trajectories.checkpoints import BUDGET, Artifacts, Checkpoints
from schedsearch.trajectories.folder import Folder
from schedsearch.trajectories.leases import lease, release, renew, unpin
from schedsearch.trajectories.node_hashes import child_of
from schedsearch.trajectories.nodes import Node, Nodes
from schedsearch.trajectories.tables import lock, upgrade

#: Seconds that a lease and a pin last unless they are renewed.
LEASE = 60.0
_FOLDER = "SCHEDSEARCH_CHECKPOINTS"
_BUDGET_VARIABLE = "SCHEDSEARCH_CHECKPOINT_BUDGET"


def open_store(
    database: Database,
    say: Callable[[str], None],
    *,
    artifacts: Artifacts | None = None,
    budget: int | None = None,
    seconds: float = LEASE,
) -> TrajectoryStore | None:
    """Open the trajectories of a database, whose tables are made where they are missing.

    Args:
        database: holds the studies, too.
        say: is told what a person should know: lost checkpoints, tables of a later version.
        artifacts: keeps the checkpoints; by default a folder, see `checkpoint_folder`.
        budget: bytes of all checkpoints; by default see `checkpoint_budget`.
        seconds: how long a lease lasts unless it is renewed.

    Returns:
        None where the tables are of a later schedsearch: then nothing is reused.

    Raises:
        InputError: the variable of the budget holds no number of bytes.
    """
    budget = checkpoint_budget() if budget is None else budget
    if not upgrade(database):
        say(
            f"{database.shown}: its trajectories are kept by a later schedsearch: "
            "nothing is reused; upgrade, or search without them"
        )
        return None
    kept_in = artifacts or Folder(checkpoint_folder(database.url))
    checkpoints = Checkpoints(database, kept_in, budget, say)
    checkpoints.sweep()
    return TrajectoryStore(database, checkpoints, seconds=seconds)


def checkpoint_folder(url: str) -> Path:
    """Return where a database's checkpoints are kept.

    Beside an SQLite file, in the current folder for a server's database, or in the folder that
    SCHEDSEARCH_CHECKPOINTS names: each database in a folder of its own, for it is swept.

    >>> checkpoint_folder("sqlite:///runs/studies.db").as_posix()
    'runs/studies.db.checkpoints'
    >>> checkpoint_folder("postgresql://ann@db/studies").as_posix()
    'studies.checkpoints'
    """
    parsed, within = make_url(url), os.environ.get(_FOLDER)
    file = sqlite_file(parsed)
    if file is None:
        return Path(within or "", f"{parsed.database or 'schedsearch'}.checkpoints")
    if not within:
        return file.with_name(f"{file.name}.checkpoints")
    place = hashlib.sha256(bytes(file.resolve())).hexdigest()[:8]
    return Path(within, f"{file.name}.{place}.checkpoints")


def picture_folder(url: str) -> Path:
    """Return where a database's pictures of trials are kept: beside its checkpoints.

    >>> picture_folder("sqlite:///runs/studies.db").as_posix()
    'runs/studies.db.pictures'
    """
    return checkpoint_folder(url).with_suffix(".pictures")


def checkpoint_budget() -> int:
    """Return the bytes of all checkpoints: SCHEDSEARCH_CHECKPOINT_BUDGET, or 2 GiB.

    Raises:
        InputError: it holds no number of bytes.
    """
    given = os.environ.get(_BUDGET_VARIABLE)
    if given is None:
        return BUDGET
    try:
        return int(TypeAdapter(ByteSize).validate_python(given))
    except ValidationError:
        raise InputError(
            f"{_BUDGET_VARIABLE}: {given!r} is no size: write a number of bytes, or 500MB, 20GiB"
        ) from None


class TrajectoryStore:
    """The trajectories of a database, as one worker reads and writes them.

    Runs walk it along paths. What they add waits for `write`, in a transaction of the caller's, or
    for `flush`, in one of its own; if that transaction fails, it goes on waiting.

    Args:
        database: its tables are there, see `upgrade`.
        checkpoints: those of the same database.
        seconds: how long a lease lasts unless it is renewed.
    """

    def __init__(
        self, database: Database, checkpoints: Checkpoints, *, seconds: float = LEASE
    ) -> None:
        self.nodes = Nodes(database)
        self.checkpoints = checkpoints
        self._database = database
        self._seconds = seconds
        # By run: what it is to train next, as far as asked for, granted in a transaction that is
        # not yet committed, and granted.
        self._asked: dict[str, str] = {}
        self._granting: dict[str, str] = {}
        self._granted: dict[str, str] = {}
        # Runs that trained a node since the last write, that hold or pin something, and that ended.
        self._moved: set[str] = set()
        self._live: set[str] = set()
        self._ended: set[str] = set()

    def path(self, root: str) -> TrieCursor:
        """Return the trail of a run that has not begun; for its name see `root_of`."""
        return TrieCursor(self, root)

    # --- leases ----------------------------------------------------------------------------------

    def lease(self, wanted: Mapping[TrieCursor, bytes]) -> set[TrieCursor]:
        """Lease to each run its next node, and return those that may train it now.

        The others wait: another run trains the node, or has just done so. What `Trail.ask` got in
        the last write costs nothing; the rest takes one transaction.

        Args:
            wanted: the values that each run is to train with next, see `Engine.key`.
        """
        names = {cursor.run: child_of(cursor.name, key) for cursor, key in wanted.items()}
        missing = {run: name for run, name in names.items() if self._granted.get(run) != name}
        if missing:
            granted = self._database.write(
                lambda connection: lease(connection, missing, lock(connection), self._seconds)
            )
            self._granted.update(granted)
            self._live.update(granted)
        return {cursor for cursor in wanted if self._granted.get(cursor.run) == names[cursor.run]}

    def renew(self) -> None:
        """Let what this worker's runs hold last from now on; to be called well within a lease."""
        if runs := list(self._live):
            self._database.write(
                lambda connection: renew(connection, runs, lock(connection) + self._seconds)
            )

    # --- writing ---------------------------------------------------------------------------------

    def write(self, connection: Connection) -> None:
        """Write all that waits, in the caller's transaction, and grant leases that were asked for.

        Once that is committed, `written` is to be called.
        """
        if not (self._moved or self._asked or self._ended or self.checkpoints.waiting):
            return
        moment = lock(connection)
        self.nodes.write(connection)
        self.checkpoints.write(connection, moment, moment + self._seconds)
        release(connection, self._moved | self._ended)
        unpin(connection, self._ended)
        self._granting = lease(connection, self._asked, moment, self._seconds)

    def written(self) -> None:
        """Let go of what was written: its transaction has been committed."""
        self.nodes.written()
        self.checkpoints.written()
        self._granted.update(self._granting)
        for waiting in (self._granting, self._asked, self._moved, self._ended):
            waiting.clear()

    def flush(self) -> None:
        """Write all that waits in a transaction of its own."""
        self._database.write(self.write)
        self.written()


class TrieCursor:
    """Where a run stands in the trie, and how it came there.

    A run first follows what is known with `find`, until that returns None; from there on it trains,
    and adds what it trained.

    Attributes:
        run: names this training, and no other.
        names: the nodes that it came through, the root first.
    """

    def __init__(self, store: TrajectoryStore, root: str) -> None:
        self.run = secrets.token_hex(16)
        self.names = [root]
        self._store = store

    @property
    def name(self) -> str:
        """The node where the run stands."""
        return self.names[-1]

    @property
    def epoch(self) -> int:
        """How many epochs lead to there."""
        return len(self.names) - 1

    def find(self, key: bytes) -> EpochResult | None:
        """Return what an epoch with these values gave, and go there; None if it is not known."""
        name = child_of(self.name, key)
        result = self._store.nodes.find(name)
        if result is not None:
            self.names.append(name)
        return result

    def holds(self, key: bytes) -> bool:
        """Tell whether the next node, with these values, is leased to this run: nobody knows it."""
        return self._store._granted.get(self.run) == child_of(self.name, key)

    def ask(self, key: bytes) -> None:
        """Ask for the lease of the next node, to be granted in the next write."""
        self._store._asked[self.run] = child_of(self.name, key)
        self._store._live.add(self.run)

    def add(self, key: bytes, result: EpochResult) -> None:
        """Keep what an epoch with these values gave, and go there; its lease is over."""
        name = child_of(self.name, key)
        root, epoch = self.names[0], self.epoch + 1
        self._store.nodes.add(Node(name, self.name, root, self.run, epoch, result))
        self._store._granted.pop(self.run, None)
        self._store._moved.add(self.run)
        self.names.append(name)

    def keep(self, snapshot: Snapshot) -> bool:
        """Keep a checkpoint of the run as it was after `snapshot.epoch` epochs.

        The run goes on from there if it is lost, so it is not evicted while the run lives.

        Returns:
            False if the snapshot holds what cannot be stored, see `encode`.
        """
        from schedsearch.trajectories.snapshots import encode

        content = encode(snapshot)
        if content is None:
            return False
        self._store.checkpoints.add(self.names[snapshot.epoch], self.run, content)
        self._store._live.add(self.run)
        return True

    def restore(self) -> Snapshot | None:
        """Return the deepest checkpoint on the way here; None if there is none.

        It is not evicted while the run lives, or until the run keeps another one.
        """
        from schedsearch.trajectories.snapshots import decode

        found = self._store.checkpoints.load(self.names[1:], self.run, self._store._seconds)
        if found is None:
            return None
        self._store._live.add(self.run)
        return decode(found)

    def end(self) -> None:
        """End the run: what it leased and pinned is released with the next write."""
        store = self._store
        for of_run in (store._asked, store._granted):
            of_run.pop(self.run, None)
        if self.run in store._live:
            store._live.discard(self.run)
            store._ended.add(self.run)
