"""The Engine protocol, and the results and snapshots that engines return."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class EpochResult:
    """The result of one epoch: all validation metrics, and the unweighted mean of each loss term.

    The metrics of a task are named `val_NAME`; a training loop chooses its names. If a parameter
    or a loss term is not finite after the epoch, the run has diverged and all metrics are NaN. No
    metric is infinite.

    A training loop may end before the horizon: then `stopped` is set in the result of its last
    epoch. If it ended within an epoch before it reported, that result has no metrics.
    """

    metrics: Mapping[str, float]
    terms: Mapping[str, float]
    stopped: bool = False


@dataclass(frozen=True)
class Resumed:
    """A training loop says, in place of an epoch's result, that it continues after other epochs.

    It has loaded a state that it saved itself, in `run.directory` for instance.

    Attributes:
        epoch: the number of epochs trained.
        results: of the last of these epochs, as far as the state has them.
    """

    epoch: int
    results: Sequence[EpochResult]


@dataclass(frozen=True)
class Snapshot:
    """The complete state of a run between two epochs: a resumed run gives the same bits.

    Attributes:
        epoch: the number of epochs trained.
        model: parameters and buffers, under the names of the module's state_dict.
        optimizer: the state of the optimizer, as `KEY.PARAMETER`.
        extra: the buffers that a state_dict leaves out, or what a training loop gave to
            `run.checkpoint`.
        resumable: whether training can be resumed; not if a training loop never reads
            `run.restored`.
    """

    epoch: int
    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    resumable: bool = True


class Engine(Protocol):
    """Trains several runs, one per lane, epoch by epoch."""

    lanes: int

    def fill(self, lane: int, seed: int, snapshot: Snapshot | None = None) -> None:
        """Start a run in a lane, from its seed or from a snapshot of a run with that seed.

        Raises what the user's code raises while it makes its data and its model.
        """
        ...

    def train_epoch(
        self, values: Sequence[Mapping[str, float] | None]
    ) -> Sequence[EpochResult | Resumed | Exception | None]:
        """Train each lane for one epoch with its scheduled values; None means an idle lane.

        Values that are `EpochValues` may move within the epoch, from step to step. A hyperparameter
        that is missing in `values` has the task's default. An exception of the user's code is
        returned as the result of its lane, so that the other lanes can continue. A training loop
        may instead say where it continues; its next epoch is trained in the next call.
        """
        ...

    def test(self, lane: int) -> dict[str, float]:
        """Return the metrics of a lane's model on the test split, named `test_NAME`.

        A training loop ends with its test; without one, the result is empty. Raises what the
        user's code raises.
        """
        ...

    def snapshot(self, lane: int) -> Snapshot | None:
        """Return a copy of a lane's state; None if a training loop gave no checkpoint."""
        ...

    def release(self, lane: int) -> None:
        """End the run in a lane, if there is one; the lane is idle until it is filled again."""
        ...

    def key(self, values: Mapping[str, float], seed: int) -> bytes:
        """Return all values of an epoch in the engine's precision: equal keys give equal epochs.

        The seed is that of the run: the number of steps may depend on its data.
        """
        ...
