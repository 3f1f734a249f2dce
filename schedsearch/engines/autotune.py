"""How many lanes make a search fastest, and whether compiling their step pays: measured."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
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

#: The largest cost of measuring and compiling, as a share of the search with one lane.
_MAX_OVERHEAD = 0.05
#: Seconds: to build lanes without compiling, and to compile a step; generous estimates.
_BUILD_SECONDS = 2.0
_COMPILE_SECONDS = 30.0
#: The speedup assumed before it is measured: of a compiled step over an eager one, and of a
#: compiled step over one with another number of lanes.
_ASSUMED_COMPILE_SPEEDUP = 3.0
_ASSUMED_FEWER_LANES_SPEEDUP = 1.2
#: Seconds of a timed epoch; a longer epoch is shortened to fewer steps.
_TIMED_SECONDS = 0.3
_REPEATS = 3
#: Fewer lanes are preferred unless more lanes are faster by this share: with many lanes, trials
#: are proposed before the results of many others are known.
_MIN_SPEEDUP = 0.1


@dataclass(frozen=True)
class LaneChoice:
    """The fastest way to train a search, and why; one lane means the sequential engine."""

    lanes: int
    compiled: bool
    reason: str


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
class _Candidate:
    lanes: int
    compiled: bool
    #: Seconds of one run's epoch.
    seconds: float


class _ShortenedTask:
    """A task with fewer steps per epoch, whose data is made once."""

    def __init__(self, task: Task, data: Callable[[int], Splits], steps: int) -> None:
        self._task = task
        self.data = data
        self.steps_per_epoch = steps

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)


class _Measurements:
    """Measures candidates for a search, and weighs their cost against the search's duration.

    Attributes:
        sequential: the sequential engine as a candidate. It is timed again after each other one:
            load that slows one measurement would otherwise make the others look fast.
    """

    def __init__(
        self,
        task: Task,
        epochs: float,
        device: str,
        precision: PrecisionSettings,
        timer: EngineTimer,
    ) -> None:
        self._device, self._precision, self._timer = device, precision, timer
        # The first optimizer of a process imports for over a second; that is no cost of measuring.
        self._engine(task).fill(0, seed=0)
        self._began = timer.now()
        data = cache(task.data)
        steps = count_steps(task, count_examples(data(0).train))
        one_step = timer.seconds_per_run(self._engine(_ShortenedTask(task, data, 1)))
        few = max(1, min(steps, int(_TIMED_SECONDS / one_step)))
        self._task = _ShortenedTask(task, data, few)
        self._alone = self._engine(self._task)
        self.sequential = _Candidate(1, False, timer.seconds_per_run(self._alone))
        #: Epochs of all runs of the search, in units of the shortened epochs.
        self._epochs = epochs * steps / few

    def _engine(self, task: Any) -> SequentialEngine:
        return SequentialEngine(task, device=self._device, precision=self._precision)

    def try_lanes(self, lanes: int, *, compiled: bool) -> _Candidate:
        """Build lanes and time them; raise what the task or the compiler raises."""
        task: Any = self._task
        engine = LanesEngine(
            task, lanes, device=self._device, precision=self._precision, compiled=compiled
        )
        seconds = self._timer.seconds_per_run(engine)
        again = self._timer.seconds_per_run(self._alone)
        self.sequential = replace(self.sequential, seconds=min(again, self.sequential.seconds))
        return _Candidate(lanes, compiled, seconds)

    @property
    def spent(self) -> float:
        """Seconds since measuring began."""
        return self._timer.now() - self._began

    def search_seconds(self, candidate: _Candidate) -> float:
        """Return the duration of the whole search with a candidate."""
        return self._epochs * candidate.seconds

    def trial_seconds(self, lanes: int) -> float:
        """Return how long building and timing lanes takes if they are no faster than one lane."""
        return _BUILD_SECONDS + (1 + _REPEATS) * (lanes + 1) * self.sequential.seconds

    def speedup(self, candidate: _Candidate) -> float:
        """Return how much faster a candidate is than one lane, as far as that can be measured.

        Without compiling, a step of all lanes takes at least as long as that of one. A larger
        ratio is an effect of other load.
        """
        ratio = self.sequential.seconds / candidate.seconds
        return ratio if candidate.compiled else min(ratio, candidate.lanes)

    def affords(self, seconds: float, best: _Candidate) -> bool:
        """Return whether the overhead stays within its limit if these seconds gain nothing."""
        limit = (1 + _MAX_OVERHEAD) * self.search_seconds(self.sequential)
        return self.spent + seconds + self.search_seconds(best) <= limit


def fixed_lanes(task: Task, lanes: int, *, precision: PrecisionSettings, device: str) -> LaneChoice:
    """Return the given number of lanes, compiled if possible; one if the task cannot be batched.

    Raises what the task raises while it makes its data and its model.
    """
    if reason := why_not_batched(task, device, precision):
        return _not_batched(reason)
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
    timer: EngineTimer | None = None,
) -> LaneChoice:
    """Return the lanes with which a search ends soonest, measuring and compiling included.

    The search takes at most 1.05 times as long as with one lane. So for a short search, nothing is
    measured or compiled.

    Args:
        task: to train.
        horizon: the number of epochs of a full training.
        trials: of the worker.
        seeds: runs per trial, which share a step: the number of lanes is a multiple of it.
        trained: the share of the trials' epochs that will be trained at least.
        most_lanes: the largest number of lanes allowed.
        precision: of the engines.
        device: as torch names it.
        say: called before steps that take long.
        timer: measures the engines; by default with the clock of this machine.

    Raises what the task raises while it trains with one lane.
    """
    counts = _counts(seeds, min(most_lanes, trials * seeds))
    if not counts:
        return _one_lane(
            f"{trials} trials per worker are too few to train several at once; "
            "--lanes N does it anyway"
        )
    epochs = trials * seeds * horizon * trained
    measured = _Measurements(task, epochs, device, precision, timer or EngineTimer())
    alone = measured.sequential
    counts = [n for n in counts if measured.affords(measured.trial_seconds(n), alone)]
    if not counts:
        return _one_lane(
            f"the search is short: at least {measured.search_seconds(alone):.0f} s of training"
        )
    try:
        most = measured.try_lanes(counts[-1], compiled=False)
        best = _faster(measured.sequential, most)
        reason = why_not_batched(task, device, precision)
    except Exception as error:
        reason = why_not_batched(task, device, precision) or summarize_exception(error)
    if reason is not None:
        return _not_batched(reason)
    best = _try_fewer_lanes(measured, counts, best)
    best, note = _compile_while_it_pays(measured, counts, best, say)
    return _explain(measured, _faster(measured.sequential, best), note)


def _try_fewer_lanes(measured: _Measurements, counts: list[int], best: _Candidate) -> _Candidate:
    """Return the best candidate after trying a middle number of lanes, if time allows it."""
    fewer = counts[:-1]
    if not fewer:
        return best
    middle = fewer[min(len(counts) // 2, len(fewer) - 1)]
    if not measured.affords(measured.trial_seconds(middle), best):
        return best
    return _faster(best, measured.try_lanes(middle, compiled=False))


def _explain(measured: _Measurements, best: _Candidate, note: str) -> LaneChoice:
    """Return the choice of the best candidate, with its speedup as the reason."""
    if best.lanes == 1:
        return _one_lane(f"more were not faster in {measured.spent:.1f} s of measuring")
    how = f"{best.lanes} lanes, {'compiled' if best.compiled else 'not compiled'}"
    speed = f"{_two_digits(measured.speedup(best))} times the speed of one lane"
    reason = f"{how}: {speed}, in {measured.spent:.1f} s of measuring{note}"
    return LaneChoice(best.lanes, best.compiled, reason)


def _two_digits(ratio: float) -> str:
    """Return a ratio with two significant digits: repeated measurements differ in the next one.

    >>> _two_digits(1.04), _two_digits(6.43), _two_digits(12.3), _two_digits(2104.8)
    ('1.0', '6.4', '12', '2100')
    """
    if (rounded := float(f"{ratio:.2g}")) < 10:
        return f"{rounded:.1f}"
    return f"{rounded:.0f}"


def _one_lane(reason: str) -> LaneChoice:
    return LaneChoice(1, False, f"1 lane: {reason}")


def _not_batched(reason: str) -> LaneChoice:
    return _one_lane(f"the task cannot be batched: {reason}")


def _compile_while_it_pays(
    measured: _Measurements, counts: list[int], best: _Candidate, say: Callable[[str], None]
) -> tuple[_Candidate, str]:
    """Return the best candidate after trying compiled steps, and a note if compiling failed."""
    cost, speedup = _COMPILE_SECONDS, _ASSUMED_COMPILE_SPEEDUP
    for lanes in counts[::-2]:
        gain = measured.search_seconds(best) * (1 - 1 / speedup)
        # Twice: the worker compiles again, though faster, with the compiler's cache on disk.
        if gain < 2 * cost or not measured.affords(2 * cost, best):
            break
        say(f"compiling a step of {lanes} lanes; this may take half a minute")
        began = measured.spent
        try:
            best = _faster(best, measured.try_lanes(lanes, compiled=True))
        except Exception as error:
            return best, f" (compiling failed: {summarize_exception(error)})"
        cost, speedup = measured.spent - began, _ASSUMED_FEWER_LANES_SPEEDUP
    return best, ""


def _faster(best: _Candidate, other: _Candidate) -> _Candidate:
    """Return the faster candidate, or the one with fewer lanes if both are about as fast."""
    few, many = sorted((best, other), key=lambda candidate: candidate.lanes)
    return many if many.seconds * (1 + _MIN_SPEEDUP) < few.seconds else few


def _counts(seeds: int, most: int) -> list[int]:
    """Return the lane counts worth trying: multiples of the seeds, from about 4, doubling.

    >>> _counts(1, 32), _counts(3, 32), _counts(1, 3), _counts(1, 1)
    ([4, 8, 16, 32], [6, 12, 24], [2], [])
    """
    counts = [seeds * 2**power for power in range(1, 1 + int(math.log2(max(1, most / seeds))))]
    return [count for count in counts if count >= 4] or counts
