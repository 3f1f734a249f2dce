"""The contents and the results of one batch of a BatchedStorage."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection


class Batch:
    """One batch: what its transaction does beside the writes to trials, and the results.

    Attributes:
        claimed: after the batch, the ids of the trials that it claimed for the worker.
        lost: after the batch, the ids of the trials that no longer belonged to the worker; nothing
            was written to them.
    """

    def __init__(self) -> None:
        self.requested = 0
        self.claimed: list[int] = []
        self.lost: set[int] = set()
        self._writes: list[tuple[Callable[[Connection], None], Callable[[], None]]] = []

    def claim(self, count: int) -> None:
        """Claim up to `count` trials at the end: queued trials first, then new ones."""
        self.requested = count

    def add_write(self, write: Callable[[Connection], None], on_commit: Callable[[], None]) -> None:
        """Write to other tables in the batch's transaction.

        Args:
            write: writes through the connection; it must be idempotent.
            on_commit: is called after the commit, and not if the commit fails.
        """
        self._writes.append((write, on_commit))

    @property
    def has_added_writes(self) -> bool:
        """Whether the batch writes to other tables."""
        return bool(self._writes)

    def run_added_writes(self, connection: Connection) -> None:
        """Write to the other tables."""
        for write, _ in self._writes:
            write(connection)

    def notify_committed(self) -> None:
        """Call the callbacks for the commit."""
        for _, on_commit in self._writes:
            on_commit()
