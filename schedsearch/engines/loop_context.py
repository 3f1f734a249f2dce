"""What the run of a training loop has beside its seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from schedsearch.engines.base import EpochResult


@dataclass(frozen=True)
class LoopContext:
    """What a training loop has beside its seed.

    Attributes:
        identity: of the plan, the seed and the horizon; a state of another one is refused.
        results: of the epochs before the one at which the lane begins.
        directory: returns the folder of the run, or None if it has none that outlives the lane.
        must_report: whether the loop has to report each epoch; where several processes train a
            trial, only the first one has to.
        processes: how many processes train the trial together.
        on_report: called with a report that is to be combined with those of other processes.
        combined: returns the result of all processes from the report of this one.
    """

    identity: str = ""
    results: Sequence[EpochResult] = ()
    directory: Callable[[], Path | None] = lambda: None
    must_report: bool = True
    processes: int = 1
    on_report: Callable[[EpochResult], None] = lambda result: None
    combined: Callable[[EpochResult], EpochResult] = lambda result: result
