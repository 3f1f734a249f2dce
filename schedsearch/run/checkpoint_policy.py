"""When a run saves a checkpoint: where other runs are likely to branch off or to continue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from schedsearch.epoch_values import values_within_epoch


@dataclass(frozen=True)
class CheckpointPolicy:
    """Decides after each epoch whether a run saves a checkpoint.

    A checkpoint is saved at the horizon (an extended study continues there), at the rungs of the
    pruner, at the epochs where plans of the space branch, before the first epoch in which a value
    that was constant changes, and every `spacing` epochs. The spacing bounds how many epochs are
    trained again after a run is lost, or when another run branches off elsewhere.

    Attributes:
        horizon: epochs of a full training.
        rungs: the epochs at which the pruner decides, see `rungs`.
        branches: the epochs after which plans of the space branch, see `estimate_prefix_sharing`.
        spacing: the largest number of epochs between two checkpoints.

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
        """Return whether to save a checkpoint after `epoch` epochs.

        Args:
            epoch: the number of epochs trained.
            before: the values of the last epoch but one, if there was one.
            now: the values of the last epoch.
            then: the values of the next epoch, if there is one.
        """
        if epoch in (self.horizon, *self.rungs, *self.branches) or epoch % self.spacing == 0:
            return True
        if before is None or now is None or then is None:
            return False
        # A value that moves in every epoch is no reason: each of its epochs would be saved.
        was, follows = values_within_epoch(before), values_within_epoch(then)
        return any(
            was.get(name) == value != follows.get(name)
            for name, value in values_within_epoch(now).items()
        )
