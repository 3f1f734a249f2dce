"""The state of a training loop's run that its engine needs, and can resume from."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from schedsearch.engines.base import EpochResult, Resumed, Snapshot
from schedsearch.engines.rng_state import RngState
from schedsearch.errors import SchedSearchError


@dataclass
class LoopState:
    """The state of a loop's run that the engine needs.

    Attributes:
        epoch: the number of epochs trained.
        restored: the checkpoint to resume from.
        is_resumed: whether there is one; it may be None.
        has_read_restored: whether the loop has read `restored`.
        rng_state: of the global generators, to be set before the first epoch.
        checkpoint: the last one that the loop gave, with the epoch of it.
        is_model: whether that is only the model of a framework, from which no training continues.
        offered: such a model, of the best epoch, that is to be tested without any training.
        results: of the last of these epochs, as far as they are known.
        resumed_at: where the loop continues, until the engine knows it.
        test_metrics: what the loop gave to `run.test`.
    """

    epoch: int = 0
    restored: Any = None
    is_resumed: bool = False
    has_read_restored: bool = False
    rng_state: Mapping[str, Any] | None = None
    checkpoint: tuple[int, Any] | None = None
    is_model: bool = False
    offered: Mapping[str, Any] | None = None
    results: list[EpochResult] = field(default_factory=list)
    resumed_at: Resumed | None = None
    test_metrics: dict[str, float] = field(default_factory=dict)

    @classmethod
    def resumed(cls, snapshot: Snapshot) -> LoopState:
        """Return the state of a run that is resumed from a snapshot."""
        restored = copy.deepcopy(snapshot.extra["state"])
        is_model = snapshot.extra.get("is_model", False)
        return cls(
            epoch=snapshot.epoch,
            restored=None if is_model else restored,
            is_resumed=True,
            rng_state=snapshot.extra.get("generators"),
            checkpoint=(snapshot.epoch - 1, restored),
            is_model=is_model,
            offered=restored["model"] if is_model else None,
        )

    @property
    def is_resumable(self) -> bool:
        """Whether training can continue from the last checkpoint."""
        return self.has_read_restored and not self.is_model

    @property
    def is_recent(self) -> bool:
        """Whether the last checkpoint is that of the last epoch."""
        return self.checkpoint is not None and self.checkpoint[0] == self.epoch - 1

    def check_restored(self) -> None:
        """Raise if the loop is to resume from a checkpoint, but has not read it."""
        if self.is_resumed and not self.has_read_restored:
            raise SchedSearchError(
                f"the loop must resume after epoch = {self.epoch - 1}, but has not read "
                "run.restored: if it is not None, load the state from it before the first epoch"
            )

    def snapshot(self, rng_state: RngState) -> Snapshot | None:
        """Return a copy of the checkpoint of the last epoch; None if the loop gave none."""
        if self.checkpoint is None or not self.is_recent:
            return None
        # "generators" is the key in stored checkpoints.
        extra = {"state": copy.deepcopy(self.checkpoint[1]), "generators": rng_state.to_dict()}
        if self.is_model:
            extra["is_model"] = True
        return Snapshot(self.epoch, {}, extra=extra, resumable=self.is_resumable)
