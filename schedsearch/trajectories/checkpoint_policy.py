"""Where a run keeps a checkpoint: where another is likely to part from it, or to go on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class CheckpointPolicy:
    """Decides after each epoch whether the run keeps a checkpoint.

    It does at the horizon (a longer study goes on from there), at the rungs of the pruner, at the
    branches of the space, where a value that was held changes, and every `spacing` epochs, which
    bounds what a lost run, or one that parts elsewhere, trains again.

    Attributes:
        horizon: epochs of a full training.
        rungs: where the pruner decides, see `rungs`.
        branches: where plans of the space part, see `expected_sharing`.
        spacing: epochs between two checkpoints at most, see `affordable_spacing`.

    >>> policy = CheckpointPolicy(horizon=60, branches=frozenset({20, 40}), spacing=15)
    >>> [epoch for epoch in range(1, 61) if policy.should_save(epoch)]
    [15, 20, 30, 40, 45, 60]
    """

    horizon: int
    rungs: frozenset[int] = frozenset()
    branches: frozenset[int] = frozenset()
    spacing: int = 1

    def should_save(
        self,
        epoch: int,
        before: Mapping[str, float] | None = None,
        now: Mapping[str, float] | None = None,
        then: Mapping[str, float] | None = None,
    ) -> bool:
        """Tell whether a checkpoint is kept after so many epochs.

        Args:
            epoch: how many epochs have been trained.
            before: the values in force in the epoch before the last, if there was one.
            now: those in force in the last epoch.
            then: those in force in the next epoch, as far as they are known.
        """
        if epoch in (self.horizon, *self.rungs, *self.branches) or epoch % self.spacing == 0:
            return True
        if before is None or now is None or then is None:
            return False
        # A value that moves in every epoch is no sign: nobody else has had it so far.
        return any(before.get(name) == value != then.get(name) for name, value in now.items())


def rungs(min_epochs: int, reduction_factor: int, horizon: int) -> Iterator[int]:
    """Yield the epochs at which successive halving decides.

    >>> list(rungs(5, 3, 60))
    [5, 15, 45]
    """
    rung = min_epochs
    while rung < horizon:
        yield rung
        rung *= reduction_factor


def affordable_spacing(write_seconds: float, epoch_seconds: float, share: float = 0.05) -> int:
    """Return how many epochs apart checkpoints cost at most a share of the training's time.

    spacing = ceil(write_seconds / (share * epoch_seconds))

    >>> affordable_spacing(write_seconds=0.001, epoch_seconds=0.01)
    2
    """
    return max(1, math.ceil(write_seconds / (share * epoch_seconds)))
