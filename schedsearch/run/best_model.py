"""The model of a run's best epoch."""

from __future__ import annotations

import math
from collections.abc import Callable

from schedsearch.engines import Snapshot


class BestModel:
    """Keeps the snapshot of the epoch with the lowest rank so far.

    Attributes:
        snapshot: of that epoch; None before the first epoch with a finite rank.
    """

    def __init__(self) -> None:
        self.snapshot: Snapshot | None = None
        self._rank = math.inf

    def update(self, rank: float, take_snapshot: Callable[[], Snapshot]) -> None:
        """Replace the snapshot if this epoch's rank is lower than all before."""
        if rank < self._rank:
            self._rank, self.snapshot = rank, take_snapshot()
