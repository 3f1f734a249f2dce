"""The cache of one run: epochs that are replayed instead of trained, and checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from schedsearch.engines import EpochResult, Snapshot
from schedsearch.run.checkpoint_policy import CheckpointPolicy


class EpochCursor(Protocol):
    """A run's position among all cached epochs; `trajectories.TrieCursor` implements it.

    A key is what `Engine.key` returns for the values of an epoch.
    """

    def find(self, key: bytes) -> EpochResult | None:
        """Advance by one epoch and return its result; None, without moving, if it is not cached."""
        ...

    def add(self, key: bytes, result: EpochResult) -> None:
        """Cache the result of the next epoch, and advance by it."""
        ...

    def save(self, snapshot: Snapshot) -> bool:
        """Save a checkpoint of the run; return False if it cannot be stored."""
        ...

    def restore(self) -> Snapshot | None:
        """Return the last checkpoint on the path to this position, if there is one."""
        ...


@dataclass(frozen=True)
class RunCache:
    """Where a run finds cached epochs, and what it adds to them.

    Attributes:
        cursor: the position of the run.
        checkpoint_policy: after which epochs a checkpoint is saved; None makes the cache
            read-only: the run replays what is cached at its beginning, and adds nothing.
    """

    cursor: EpochCursor
    checkpoint_policy: CheckpointPolicy | None = None

    @property
    def is_read_only(self) -> bool:
        """Whether the run adds nothing."""
        return self.checkpoint_policy is None

    def save(self, take_snapshot: Callable[[], Snapshot | None]) -> None:
        """Save a checkpoint, unless the cache is read-only or the run cannot be resumed from it."""
        if not self.is_read_only:
            save_if_resumable(self.cursor, take_snapshot())


def save_if_resumable(cursor: EpochCursor, snapshot: Snapshot | None) -> None:
    """Save a checkpoint if there is one and training can be resumed from it."""
    if snapshot is not None and snapshot.resumable:
        cursor.save(snapshot)
