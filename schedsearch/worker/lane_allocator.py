"""The lanes of a worker's engines, and which trial is in them."""

from __future__ import annotations

from collections.abc import Sequence

from schedsearch.engines import Engine
from schedsearch.worker.trial import LiveTrial


class LaneAllocator:
    """Puts the runs of trials into lanes, all runs of a trial or none.

    Args:
        engines: all their lanes together hold at least the seeds of one trial.
        seeds: runs of each trial.
    """

    def __init__(self, engines: Sequence[Engine], seeds: int) -> None:
        self._idle = [(engine, lane) for engine in engines for lane in range(engine.lanes)]
        self._seeds = seeds
        if len(self._idle) < seeds:
            raise ValueError(
                f"the engines have {len(self._idle)} lanes, but must have one for each of {seeds}"
            )

    @property
    def room(self) -> int:
        """How many trials fit into the idle lanes."""
        return len(self._idle) // self._seeds

    def allocate(self, live: LiveTrial) -> bool:
        """Put a trial's due runs into lanes; return False if too few are idle.

        Raises what the user's code raises while it makes its data and its model.
        """
        outside = [run for run in live.due if run.lane is None]
        if len(outside) > len(self._idle):
            return False
        for run in outside:
            engine, lane = self._idle.pop()
            try:
                run.enter_lane(lane, engine)
            except BaseException:
                self._idle.append((engine, lane))
                raise
        return True

    def release(self, live: LiveTrial) -> None:
        """Free the lanes of a trial."""
        for run in live.runs:
            if run.lane is not None:
                self._idle.append((run.engine, run.lane))
                run.leave_lane()
