"""One round of a worker: what it asks for, and what came of it."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection


class Batch:
    """One round of a worker: what it asks for, and what came of it.

    Attributes:
        claimed: after the round, the ids of the trials that it took for this worker.
        lost: after the round, the ids of trials that were written to, but are no longer this
            worker's: nothing of theirs was written.
    """

    def __init__(self) -> None:
        self.asked = 0
        self.claimed: list[int] = []
        self.lost: set[int] = set()
        self._also: list[tuple[Callable[[Connection], None], Callable[[], None]]] = []

    def ask(self, count: int) -> None:
        """Claim up to `count` trials at the end: queued ones, then new ones within the total."""
        self.asked = count

    def on_commit(self, write: Callable[[Connection], None], written: Callable[[], None]) -> None:
        """Let `write` write to other tables in the round's transaction; then call `written`.

        `written` is called once it is committed, and never if that fails.
        """
        self._also.append((write, written))

    @property
    def has_on_commit(self) -> bool:
        """Whether something is written along with the trials."""
        return bool(self._also)

    def run_on_commit(self, connection: Connection) -> None:
        """Write what is written along with the trials."""
        for write, _ in self._also:
            write(connection)

    def written(self) -> None:
        """Say that it has been committed."""
        for _, written in self._also:
            written()
