"""How many lanes pay for a search, and whether compiling their step does: measured, then said."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

from schedsearch.engines.base import Engine
from schedsearch.engines.batching import why_not_batched
from schedsearch.engines.lanes.engine import LanesEngine
from schedsearch.engines.lanes.graphs import why_not_compiled
from schedsearch.engines.precision import PrecisionSettings
from schedsearch.engines.sequential import SequentialEngine
from schedsearch.errors import summarize_exception
from schedsearch.task import Splits, Task, count_examples, count_steps

#: What measuring and compiling may cost at most, as a share of the plain loop's whole search.
_MAX_OVERHEAD = 0.05
#: Seconds: to build and time lanes that are not compiled, and to compile a step, generously.
_BUILD_SECONDS = 2.0
_COMPILE_SECONDS = 30.0
#: How much faster a compiled step is taken to be than an eager one before it is measured, and than
#: a compiled one with other lanes.
_ASSUMED_COMPILE_SPEEDUP = 3.0
_ASSUMED_FEWER_LANES_SPEEDUP = 1.2
#: Seconds of an epoch that is timed; of a longer one, fewer steps are.
_TIMED_SECONDS = 0.3
_REPEATS = 3
#: Fewer lanes are preferred unless more are faster by this share: proposals grow stale with lanes.
_MIN_SPEEDUP = 0.1


@dataclass(frozen=True)
class LaneChoice:
    """How a search trains best, and why; one lane stands for the sequential engine."""

    lanes: int
    compiled: bool
    reason: str


@dataclass(frozen=True)
class _Candidate:
    lanes: int
    compiled: bool
    #: Seconds of a trial's epoch.
    seconds: float


class _ShortenedTask:
    """A task with fewer steps to an epoch, and otherwise the same; its data is made once."""

    def __init__(self, task: Task, data: Callable[[int], Splits], steps: int) -> None:
        self._task = task
        self.data = data
        self.steps_per_epoch = steps

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)


class _Search:
    """A search to come: how long it takes, what has been tried, and what that has cost."""

    def __init__(
        self, task: Task, epochs: float, device: str, precision: PrecisionSettings
    ) -> None:
        self._device, self._precision = device, precision
        # torch's first optimizer imports for over a second, in the plain loop as well.
        self._sequential(task).fill(0, seed=0)
        self._began = time.perf_counter()
        data = cache(task.data)
        steps = count_steps(task, count_examples(data(0).train))
        one_step = self._time(self._sequential(_ShortenedTask(task, data, 1)))
        few = max(1, min(steps, int(_TIMED_SECONDS / one_step)))
        self._task = _ShortenedTask(task, data, few)
        self.alone = _Candidate(1, False, self._time(self._sequential(self._task)))
        #: Trial-epochs ahead, in units of the epochs that are timed.
        self._epochs = epochs * steps / few

    def _sequential(self, task: Any) -> SequentialEngine:
        return SequentialEngine(task, device=self._device, precision=self._precision)

    def try_lanes(self, lanes: int, *, compiled: bool) -> _Candidate:
        """Build lanes, and time them."""
        task: Any = self._task
        engine = LanesEngine(
            task, lanes, device=self._device, precision=self._precision, compiled=compiled
        )
        return _Candidate(lanes, compiled, self._time(engine))

    @staticmethod
    def _time(engine: Engine) -> float:
        for lane in range(engine.lanes):
            engine.fill(lane, seed=0)
        values: list[Mapping[str, float]] = [MappingProxyType({})] * engine.lanes
        seconds = []
        for _ in range(1 + _REPEATS):
            began = time.perf_counter()
            for result in engine.train_epoch(values):
                if isinstance(result, Exception):
                    raise result
            seconds.append(time.perf_counter() - began)
        return min(seconds[1:]) / engine.lanes

    @property
    def spent(self) -> float:
        """Seconds since the choice began."""
        return time.perf_counter() - self._began

    def ahead(self, candidate: _Candidate) -> float:
        """Return the seconds that the search takes from here."""
        return self._epochs * candidate.seconds

    def timing(self, lanes: int) -> float:
        """Return the seconds to build and time lanes that are no faster than training alone."""
        return _BUILD_SECONDS + (1 + _REPEATS) * lanes * self.alone.seconds

    def affords(self, seconds: float, best: _Candidate) -> bool:
        """Tell whether the search stays within the bound even if so many seconds bring nothing."""
        bound = (1 + _MAX_OVERHEAD) * self.ahead(self.alone)
        return self.spent + seconds + self.ahead(best) <= bound


def fixed_lanes(task: Task, lanes: int, *, precision: PrecisionSettings, device: str) -> LaneChoice:
    """Return so many lanes, compiled where that is possible; one where the task cannot be batched.

    Raises what the task raises while it makes its data and its model.
    """
    if reason := why_not_batched(task, device, precision):
        return LaneChoice(1, False, f"1 lane: the task cannot be batched: {reason}")
    if reason := why_not_compiled(device):
        return LaneChoice(lanes, False, f"{lanes} lanes, not compiled: {reason}")
    return LaneChoice(lanes, True, f"{lanes} lanes, compiled")


def choose_lanes(
    task: Task,
    *,
    horizon: int,
    trials: int,
    seeds: int,
    trained: float,
    most_lanes: int,
    precision: PrecisionSettings,
    device: str,
    say: Callable[[str], None],
) -> LaneChoice:
    """Return how to train a search so that it ends soonest; never later than 1.05 times alone.

    Measuring and compiling count. So where little work is ahead, neither is begun.

    Args:
        task: what is trained.
        horizon: the epochs of a full training.
        trials: the study's.
        seeds: runs per trial, which share a step: lanes are a multiple of it.
        trained: the share of the trials' epochs that is trained at least.
        most_lanes: the most that the search tolerates.
        arithmetic: how engines compute.
        device: where, as torch names it.
        say: told what takes a while.

    Raises what the task raises while it trains alone.
    """
    counts = _counts(seeds, min(most_lanes, trials * seeds))
    if not counts:
        return LaneChoice(
            1,
            False,
            f"1 lane: {trials} trials to a worker are too few to propose several at once; "
            "--lanes N does so all the same",
        )
    search = _Search(task, trials * seeds * horizon * trained, device, precision)
    counts = [count for count in counts if search.affords(search.timing(count), search.alone)]
    if not counts:
        seconds = search.ahead(search.alone)
        return LaneChoice(
            1, False, f"1 lane: the whole search takes about {seconds:.0f} s as it is"
        )
    try:
        best = _better(search.alone, search.try_lanes(counts[-1], compiled=False))
        reason = why_not_batched(task, device, precision)
    except Exception as error:
        reason = why_not_batched(task, device, precision) or summarize_exception(error)
    if reason is not None:
        return LaneChoice(1, False, f"1 lane: the task cannot be batched: {reason}")
    if search.affords(search.timing(counts[len(counts) // 2]), best):
        best = _better(best, search.try_lanes(counts[len(counts) // 2], compiled=False))
    best, note = _compiled(search, counts, best, say)
    speed = search.alone.seconds / best.seconds
    how = f"{best.lanes} lanes, {'compiled' if best.compiled else 'not compiled'}"
    if best.lanes == 1:
        return LaneChoice(
            1, False, f"1 lane: more were no faster in {search.spent:.1f} s of trials"
        )
    reason = f"{how}: {speed:.1f} times the plain loop's speed in {search.spent:.1f} s of trials"
    return LaneChoice(best.lanes, best.compiled, reason + note)


def _compiled(
    search: _Search, counts: list[int], best: _Candidate, say: Callable[[str], None]
) -> tuple[_Candidate, str]:
    """Return the best after trying compiled steps while they pay, and a note where they failed."""
    costs, hoped = _COMPILE_SECONDS, _ASSUMED_COMPILE_SPEEDUP
    for lanes in counts[::-2]:
        gain = search.ahead(best) * (1 - 1 / hoped)
        # Twice: the worker compiles again, if sooner, with what the compiler keeps on disk.
        if gain < 2 * costs or not search.affords(2 * costs, best):
            break
        say(f"compiling a step of {lanes} lanes; this may take half a minute")
        began = search.spent
        try:
            best = _better(best, search.try_lanes(lanes, compiled=True))
        except Exception as error:
            return best, f" (compiling failed: {summarize_exception(error)})"
        costs, hoped = search.spent - began, _ASSUMED_FEWER_LANES_SPEEDUP
    return best, ""


def _better(best: _Candidate, tried: _Candidate) -> _Candidate:
    """Return the faster one, and of two about as fast the one with fewer lanes."""
    few, many = sorted((best, tried), key=lambda candidate: candidate.lanes)
    return many if many.seconds * (1 + _MIN_SPEEDUP) < few.seconds else few


def _counts(seeds: int, most: int) -> list[int]:
    """Return the lane counts worth trying: multiples of the seeds, from about 4, doubling.

    >>> _counts(1, 32), _counts(3, 32), _counts(1, 3), _counts(1, 1)
    ([4, 8, 16, 32], [6, 12, 24], [2], [])
    """
    counts = [seeds * 2**power for power in range(1, 1 + int(math.log2(max(1, most / seeds))))]
    return [count for count in counts if count >= 4] or counts
