"""The contents and the results of one batch of a BatchedStorage."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection

from schedsearch.storage.clock import database_time

#: Writes in a transaction at a time, in seconds since 1970.
AddedWrite = Callable[[Connection, float], None]


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
        self._writes: list[tuple[AddedWrite, Callable[[], None]]] = []

    def claim(self, count: int) -> None:
        """Claim up to `count` trials at the end: queued trials first, then new ones."""
        self.requested = count

    def add_write(self, write: AddedWrite, on_commit: Callable[[], None]) -> None:
        """Write to other tables in the batch's transaction.

        Args:
            write: writes through the connection, and gets the time in seconds since 1970 by the
                clock of the database; it must be idempotent.
            on_commit: is called after the commit, and not if the commit fails.
        """
        self._writes.append((write, on_commit))

    @property
    def has_added_writes(self) -> bool:
        """Whether the batch writes to other tables."""
        return bool(self._writes)

    def run_added_writes(self, connection: Connection, moment: float | None) -> None:
        """Write to the other tables; `moment` is the time, if it is known already."""
        if self._writes and moment is None:
            moment = database_time(connection)
        for write, _ in self._writes:
            assert moment is not None
            write(connection, moment)

    def notify_committed(self) -> None:
        """Call the callbacks for the commit."""
        for _, on_commit in self._writes:
            on_commit()
