"""The Engine protocol: what trains epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class EpochResult:
    """What one epoch gave: all validation metrics, and each loss term's mean, unweighted.

    The metrics of a task are named `val_NAME`; those of a loop of the user's own as it reports
    them. All are NaN after an epoch that left a parameter or a loss term not finite: the run has
    diverged. No metric is infinite.
    """

    metrics: Mapping[str, float]
    terms: Mapping[str, float]


@dataclass(frozen=True)
class Snapshot:
    """A run between two epochs, whole: enough to go on bit for bit.

    `epoch` counts the epochs trained, `model` holds parameters and buffers under the names of the
    module's state_dict, `optimizer` its state as `KEY.PARAMETER`, and `extra` the buffers that a
    state_dict leaves out, or what a loop of the user's own gave to `run.checkpoint`. Training can
    go on from it if it is `resumable`: not if that loop never asks what it has to go on from.
    """

    epoch: int
    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    resumable: bool = True


class Engine(Protocol):
    """Trains many runs, a lane each, epoch by epoch."""

    lanes: int

    def fill(self, lane: int, seed: int, snapshot: Snapshot | None = None) -> None:
        """Start a run in a lane, from its seed or from a snapshot of such a run.

        Raises what the user's own code raises while it makes its data and its model.
        """
        ...

    def train_epoch(
        self, values: Sequence[Mapping[str, float] | None]
    ) -> list[EpochResult | Exception | None]:
        """Train each lane for one epoch with the values in force; None stands for an idle lane.

        A hyperparameter that `values` leaves out stays at the task's default. What the user's own
        code raises is returned in its lane's place, so that the other lanes are not disturbed.
        """
        ...

    def test(self, lane: int) -> dict[str, float]:
        """Return the metrics of a lane's model on the test split, named `test_NAME`.

        A loop of the user's own ends with its test, and gives none if it has none. Raises what the
        user's own code raises.
        """
        ...

    def snapshot(self, lane: int) -> Snapshot | None:
        """Return a copy of a lane's run as it stands; None if the user's own loop gave none."""
        ...

    def release(self, lane: int) -> None:
        """End the run in a lane, if any; the lane is idle until it is filled again."""
        ...

    def key(self, values: Mapping[str, float]) -> bytes:
        """Return the values as this engine's arithmetic sees them: equal keys train alike."""
        ...
