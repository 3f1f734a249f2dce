"""The store of trajectories: cached epochs are replayed, and the others are trained once."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlalchemy import Connection

from schedsearch.engines import EpochResult, Snapshot
from schedsearch.errors import InputError, summarize_exception
from schedsearch.storage import Database
from schedsearch.storage.clock import database_time
from schedsearch.trajectories.checkpoints import Artifacts, Checkpoints
from schedsearch.trajectories.database_folders import DatabaseFolder, open_checkpoint_folder
from schedsearch.trajectories.leases import LEASE, Leases, name_run
from schedsearch.trajectories.node_hashes import child_hash
from schedsearch.trajectories.nodes import Node, Nodes
from schedsearch.trajectories.settings import checkpoint_budget
from schedsearch.trajectories.tables import lock_tables, upgrade
from schedsearch.trajectories.trial_directories import TrialDirectories


def open_store(
    database: Database,
    say: Callable[[str], None],
    *,
    artifacts: Artifacts | None = None,
    budget: int | None = None,
    lease_seconds: float = LEASE,
) -> TrajectoryStore | None:
    """Open the trajectories of a database, and create their tables if they are missing.

    Args:
        database: also holds the studies.
        say: called with warnings: lost checkpoints, a folder that cannot be used, tables of a later
            version.
        artifacts: stores the checkpoints; by default a folder, see `open_checkpoint_folder`.
        budget: bytes of all checkpoints; by default see `checkpoint_budget`.
        lease_seconds: how long a lease lasts unless it is renewed.

    Returns:
        None if a later schedsearch made the tables: then nothing can be reused.

    Raises:
        InputError: SCHEDSEARCH_CHECKPOINT_BUDGET is not a number of bytes.
    """
    budget = checkpoint_budget() if budget is None else budget
    if not upgrade(database):
        say(
            f"{database.display_url}: a later schedsearch made its tables of trained epochs, so "
            "nothing is reused; upgrade schedsearch, or pass --no-reuse"
        )
        return None
    folder = artifacts or _folder(database, say)
    checkpoints = Checkpoints(database, folder, budget, say)
    checkpoints.sweep()
    directories = None
    if isinstance(folder, DatabaseFolder):
        directories = TrialDirectories(database, folder, budget, say)
        directories.sweep()
    return TrajectoryStore(
        database, checkpoints, lease_seconds=lease_seconds, directories=directories
    )


def _folder(database: Database, say: Callable[[str], None]) -> Artifacts | None:
    """Return the folder of a database's checkpoints; None if it cannot be used."""
    try:
        return open_checkpoint_folder(database, say)
    except (InputError, OSError) as error:
        reason = error if isinstance(error, InputError) else summarize_exception(error)
        say(f"warning: no checkpoint is read or written: {reason}")
    return None


class TrajectoryStore:
    """The trajectories of a database, as one worker reads and writes them.

    Each run has a `TrieCursor`. What the runs add is pending until `write`, in a transaction of
    the caller, or `flush`. If that transaction fails, it stays pending.

    Args:
        database: its tables exist, see `upgrade`.
        checkpoints: of the same database.
        lease_seconds: how long a lease lasts unless it is renewed.
        directories: the folders of runs; None: they have only temporary ones.
    """

    def __init__(
        self,
        database: Database,
        checkpoints: Checkpoints,
        *,
        lease_seconds: float = LEASE,
        directories: TrialDirectories | None = None,
    ) -> None:
        self.directories = directories
        self.nodes = Nodes(database)
        self.checkpoints = checkpoints
        self.leases = Leases(database, lease_seconds)
        self._database = database

    def cursor(self, root: str, trial_id: int | None = None) -> TrieCursor:
        """Return the cursor of a run before its first epoch.

        Args:
            root: see `root_hash`.
            trial_id: of the run's trial; if that ends, other runs no longer wait for this one.
        """
        return TrieCursor(self, root, trial_id)

    # --- runs ------------------------------------------------------------------------------------

    def add(self, node: Node) -> None:
        """Add a node that a run has trained, and release the run's lease on it."""
        self.nodes.add(node)
        self.leases.release_trained(node.run)

    def save_checkpoint(self, node: str, run: str, content: bytes) -> None:
        """Save a checkpoint of a node, and pin it while the run lives."""
        self.checkpoints.save(node, run, content)
        self.leases.mark_live(run)

    def load_checkpoint(
        self, path: list[str], run: str, decode: Callable[[str, bytes], Snapshot]
    ) -> Snapshot | None:
        """Return the deepest checkpoint of these nodes, and pin it while the run lives."""
        found = self.checkpoints.load(path, run, self.leases.seconds, decode)
        if found is not None:
            self.leases.mark_live(run)
        return found

    def lease(self, wanted: Mapping[TrieCursor, bytes]) -> set[TrieCursor]:
        """Lease to each run its next node, and return those that may train it now.

        The other runs wait: another run trains the node, or has just trained it. A lease that
        `TrieCursor.request_lease` got in the last write costs nothing; the others take one
        transaction.

        Args:
            wanted: the key of each run's next epoch, see `Engine.key`.
        """
        nodes = {cursor.run: child_hash(cursor.node, key) for cursor, key in wanted.items()}
        granted = self.leases.acquire(nodes)
        return {cursor for cursor in wanted if cursor.run in granted}

    def renew(self) -> None:
        """Extend the leases and pins of this worker's runs; to be called well within a lease."""
        self.leases.renew()

    # --- writing ---------------------------------------------------------------------------------

    @property
    def has_pending(self) -> bool:
        """Whether `write` has something to do."""
        return bool(
            self.nodes.has_pending or self.leases.has_pending or self.checkpoints.has_pending
        )

    def write(self, connection: Connection, moment: float) -> None:
        """Write what is pending in the caller's transaction, and grant the requested leases.

        `moment` is the time in seconds since 1970, by the clock of the database.

        After the commit, call `mark_committed` before anything else is added.
        """
        if not self.has_pending:
            return
        if self.checkpoints.has_pending:
            moment = lock_tables(connection)  # they have a budget
        self.nodes.write(connection, moment)
        self.checkpoints.write(connection, moment, moment + self.leases.seconds)
        self.leases.write(connection, moment)

    def mark_committed(self) -> None:
        """Drop what the last `write` wrote: its transaction has been committed."""
        self.nodes.mark_committed()
        self.checkpoints.mark_committed()
        self.leases.mark_committed()

    def flush(self) -> None:
        """Write what is pending in a separate transaction."""
        self._database.write(lambda connection: self.write(connection, database_time(connection)))
        self.mark_committed()


class TrieCursor:
    """The position of one run in the trie of trained epochs, and the path to it.

    A run first calls `find` for each epoch until that returns None. From there on it trains, and
    calls `add` for each epoch.

    Attributes:
        run: an identifier of this training, unique among all.
        path: the hashes of the nodes on the way, the root first.
    """

    def __init__(self, store: TrajectoryStore, root: str, trial_id: int | None = None) -> None:
        self.run = name_run(trial_id)
        self.path = [root]
        self._store = store

    @property
    def node(self) -> str:
        """The hash of the node at this position."""
        return self.path[-1]

    @property
    def epoch(self) -> int:
        """The number of epochs on the path."""
        return len(self.path) - 1

    def find(self, key: bytes) -> EpochResult | None:
        """Advance by one epoch and return its result; None, without moving, if it is not cached.

        Args:
            key: the values of the epoch, see `Engine.key`.
        """
        child = child_hash(self.node, key)
        result = self._store.nodes.find(child)
        if result is not None:
            self.path.append(child)
        return result

    def add(self, key: bytes, result: EpochResult) -> None:
        """Add the result of the next epoch, advance by it, and release the lease on it."""
        child = child_hash(self.node, key)
        self._store.add(Node(child, self.node, self.path[0], self.run, self.epoch + 1, result))
        self.path.append(child)

    def has_lease(self, key: bytes) -> bool:
        """Return whether the next node is leased to this run, which implies it is not cached."""
        return self._store.leases.holds(self.run, child_hash(self.node, key))

    def request_lease(self, key: bytes) -> None:
        """Request a lease on the next node, to be granted in the next write."""
        self._store.leases.request(self.run, child_hash(self.node, key))

    def save(self, snapshot: Snapshot) -> bool:
        """Save a checkpoint of the run after `snapshot.epoch` epochs.

        It is pinned, that is, not evicted while the run lives or until it saves another one:
        another worker resumes the run from it if this worker is lost.

        Returns:
            False if the snapshot holds values that cannot be stored, see `encode`.
        """
        from schedsearch.trajectories.snapshots import encode

        content = encode(snapshot)
        if content is None:
            return False
        self._store.save_checkpoint(self.path[snapshot.epoch], self.run, content)
        return True

    def restore(self) -> Snapshot | None:
        """Return the deepest checkpoint on the path, if there is one, and pin it."""
        from schedsearch.trajectories.snapshots import decode

        def decode_node(node: str, content: bytes) -> Snapshot:
            snapshot = decode(content)
            if snapshot.epoch != self.path.index(node):
                raise ValueError(f"the checkpoint is of epoch {snapshot.epoch}")
            return snapshot

        return self._store.load_checkpoint(self.path[1:], self.run, decode_node)

    def time_of_node(self) -> float | None:
        """Return when the epoch at this position was trained, in seconds since 1970.

        None if it is not stored, or if version 0.1 stored it.
        """
        return self._store.nodes.time_of(self.node)

    def end(self) -> None:
        """End the run: its lease and its pin are released with the next write."""
        self._store.leases.end(self.run)
