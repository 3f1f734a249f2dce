"""Measures how fast engines train a task, within a limit to what measuring may cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from types import MappingProxyType
from typing import Any

from schedsearch.engines.base import Engine
from schedsearch.engines.lanes.engine import LanesEngine
from schedsearch.engines.precision import PrecisionSettings
from schedsearch.engines.sequential import SequentialEngine
from schedsearch.garbage import without_collection
from schedsearch.task import Splits, Task, count_examples, count_steps

#: The largest cost of measuring and compiling, as a share of the search with one lane.
_MAX_OVERHEAD = 0.05
#: Seconds to build lanes without compiling; a generous estimate.
_BUILD_SECONDS = 2.0
#: Seconds of a timed epoch; a longer epoch is shortened to fewer steps.
_TIMED_SECONDS = 0.3
_REPEATS = 3
#: How often each number of threads is timed, in turns: other load then slows all of them.
_THREAD_ROUNDS = 2


class EngineTimer:
    """Measures engines; a test can pass a subclass with a simulated clock."""

    def now(self) -> float:
        """Return the seconds since some fixed moment."""
        return time.perf_counter()

    def seconds_per_run(self, engine: Engine) -> float:
        """Return the seconds of an epoch per lane: the best of a few, after one to warm up.

        Raises what the task raises while it trains.
        """
        for lane in range(engine.lanes):
            engine.fill(lane, seed=0)
        values: list[Mapping[str, float]] = [MappingProxyType({})] * engine.lanes
        seconds = []
        for _ in range(1 + _REPEATS):
            began = self.now()
            for result in engine.train_epoch(values):
                if isinstance(result, Exception):
                    raise result
            seconds.append(self.now() - began)
        return min(seconds[1:]) / engine.lanes


@dataclass(frozen=True)
class Candidate:
    """A way to train, and how fast it is.

    Attributes:
        lanes: the number of runs in one step; one means the sequential engine.
        compiled: whether the step of the lanes is compiled.
        seconds: of one run's epoch.
    """

    lanes: int
    compiled: bool
    seconds: float


class _ShortenedTask:
    """A task with fewer steps per epoch, whose data is made once."""

    def __init__(self, task: Task, data: Callable[[int], Splits], steps: int) -> None:
        self._task = task
        self.data = data
        self.steps_per_epoch = steps

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)


class Measurements:
    """Measures candidates for a search, and weighs their cost against the search's duration.

    Attributes:
        sequential: the sequential engine as a candidate. It is timed again after each other one:
            load that slows one measurement would otherwise make the others look fast.
        precision: of the engines that are built next.
        bytes_per_lane: of parameters and moments; 0 before lanes were built.
    """

    def __init__(
        self,
        task: Task,
        epochs: float,
        device: str,
        precision: PrecisionSettings,
        timer: EngineTimer,
    ) -> None:
        self._device, self.precision, self._timer = device, precision, timer
        self.bytes_per_lane = 0
        # The first optimizer of a process imports for over a second; that is no cost of measuring.
        with without_collection():
            self._engine(task).fill(0, seed=0)
        self._began = timer.now()
        data = cache(task.data)
        steps = count_steps(task, count_examples(data(0).train))
        one_step = timer.seconds_per_run(self._engine(_ShortenedTask(task, data, 1)))
        few = max(1, min(steps, int(_TIMED_SECONDS / one_step)))
        self._task = _ShortenedTask(task, data, few)
        self._alone = self._engine(self._task)
        self._uncompiled: dict[int, SequentialEngine | LanesEngine] = {1: self._alone}
        self.sequential = Candidate(1, False, timer.seconds_per_run(self._alone))
        #: Epochs of all runs of the search, in units of the shortened epochs.
        self._epochs = epochs * steps / few

    def _engine(self, task: Any) -> SequentialEngine:
        return SequentialEngine(task, device=self._device, precision=self.precision)

    def try_lanes(self, lanes: int, *, compiled: bool) -> Candidate:
        """Build lanes and time them; raise what the task or the compiler raises."""
        task: Any = self._task
        engine = LanesEngine(
            task, lanes, device=self._device, precision=self.precision, compiled=compiled
        )
        if not compiled:
            self._uncompiled[lanes] = engine
        seconds = self._timer.seconds_per_run(engine)
        self.bytes_per_lane = engine.bytes_per_lane
        again = self._timer.seconds_per_run(self._alone)
        self.sequential = replace(self.sequential, seconds=min(again, self.sequential.seconds))
        return Candidate(lanes, compiled, seconds)

    def time_threads(self, candidate: Candidate, counts: Sequence[int]) -> dict[int, float]:
        """Return the seconds of one run's epoch by number of threads, each the best of several."""
        engine = self._uncompiled[candidate.lanes]
        before = engine.precision
        timed: dict[int, list[float]] = {count: [] for count in counts}
        for _ in range(_THREAD_ROUNDS):
            for count in counts:
                engine.precision = replace(before, threads=count)
                timed[count].append(self._timer.seconds_per_run(engine))
        engine.precision = before
        return {count: min(seconds) for count, seconds in timed.items()}

    def use_threads(self, threads: int) -> None:
        """Build the next engines with a number of threads."""
        self.precision = replace(self.precision, threads=threads)

    @property
    def spent(self) -> float:
        """Seconds since measuring began."""
        return self._timer.now() - self._began

    def search_seconds(self, candidate: Candidate) -> float:
        """Return the duration of the whole search with a candidate."""
        return self._epochs * candidate.seconds

    def trial_seconds(self, lanes: int) -> float:
        """Return how long building and timing lanes takes if they are no faster than one lane."""
        return _BUILD_SECONDS + (1 + _REPEATS) * (lanes + 1) * self.sequential.seconds

    def threads_seconds(self, candidate: Candidate, counts: int) -> float:
        """Return how long timing some numbers of threads takes."""
        return (1 + _REPEATS) * _THREAD_ROUNDS * counts * candidate.lanes * candidate.seconds

    def speedup(self, candidate: Candidate) -> float:
        """Return how much faster a candidate is than one lane, as far as that can be measured.

        Without compiling, a step of all lanes takes at least as long as that of one. A larger
        ratio is an effect of other load.
        """
        ratio = self.sequential.seconds / candidate.seconds
        return ratio if candidate.compiled else min(ratio, candidate.lanes)

    def affords(self, seconds: float, best: Candidate) -> bool:
        """Return whether the overhead stays within its limit if these seconds gain nothing."""
        limit = (1 + _MAX_OVERHEAD) * self.search_seconds(self.sequential)
        return self.spent + seconds + self.search_seconds(best) <= limit
