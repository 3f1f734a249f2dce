"""How many lanes and threads make a search fastest, and whether compiling pays: measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from schedsearch.cores import available_cores, l2_cache_bytes
from schedsearch.engines.batching import why_not_batched
from schedsearch.engines.lanes.compiling import why_not_compiled
from schedsearch.engines.measuring import Candidate, EngineTimer, Measurements
from schedsearch.engines.precision import PrecisionSettings
from schedsearch.errors import summarize_exception
from schedsearch.printable import count_of
from schedsearch.task import Task

#: Seconds to compile a step where nothing is cached: what one core does, and the kernels, several
#: of which are compiled side by side. Then the seconds to load it again in the worker.
_COMPILE_SECONDS, _KERNELS_SECONDS, _KERNELS = 4.0, 6.0, 6
_LOAD_SECONDS = 2.0
#: Compiling has to pay within this share of the search: the speedup is not known before.
_REPAID_WITHIN = 2 / 3
#: The speedup assumed before it is measured: of a compiled step over an eager one, and of a
#: compiled step over one with another number of lanes.
_ASSUMED_COMPILE_SPEEDUP = 3.0
_ASSUMED_FEWER_LANES_SPEEDUP = 1.2
#: Fewer lanes are preferred unless more lanes are faster by this share: with many lanes, trials
#: are proposed before the results of many others are known.
_MIN_SPEEDUP = 0.1
#: One thread is preferred unless more are faster by this share: on a machine with other load,
#: several threads wait for each other.
_MIN_SPEEDUP_OF_THREADS = 0.2
#: The parameters and moments of the lanes of a compiled step may take as many L2 caches.
_CACHES = 2


@dataclass(frozen=True)
class SearchSize:
    """How much one worker trains.

    Attributes:
        horizon: the number of epochs of a full training.
        trials: of the worker.
        seeds: runs per trial, which share a step: the number of lanes is a multiple of it.
        trained: the share of the trials' epochs that will be trained at least.
    """

    horizon: int
    trials: int
    seeds: int
    trained: float

    @property
    def run_epochs(self) -> float:
        """How many epochs all runs train together."""
        return self.trials * self.seeds * self.horizon * self.trained


@dataclass(frozen=True)
class EngineChoice:
    """The fastest way to train a search, and why; one lane means the sequential engine."""

    lanes: int
    compiled: bool
    threads: int
    reason: str


def choose_engine(
    task: Task,
    *,
    size: SearchSize,
    lanes: int | None,
    most_lanes: int,
    threads: Sequence[int],
    precision: PrecisionSettings,
    device: str,
    say: Callable[[str], None],
    compiled_before: Collection[tuple[int, int]] = (),
    timer: EngineTimer | None = None,
) -> EngineChoice:
    """Return the lanes and threads with which a search ends soonest, measuring included.

    The search takes at most 1.05 times as long as with one lane and the first number of threads.
    So for a short search, nothing is measured or compiled.

    Args:
        task: to train.
        size: of the search.
        lanes: the number of lanes; None measures the best.
        most_lanes: the largest number of lanes to measure.
        threads: the numbers of threads to measure, the fewest first; one is not measured.
        precision: of the engines, with the first number of threads.
        device: as torch names it.
        say: called before steps that take long.
        compiled_before: the lanes and threads of steps that need only be loaded.
        timer: measures the engines; by default with the clock of this machine.

    Raises what the task raises while it trains with one lane.
    """
    timer = timer or EngineTimer()
    chooser = _Chooser(task, size, threads, precision, device, say, compiled_before, timer)
    if lanes is not None:
        return chooser.fixed_lanes(lanes)
    return chooser.measured_lanes(_counts(size.seeds, min(most_lanes, size.trials * size.seeds)))


@dataclass
class _Chooser:
    """Chooses an engine for a search; see `choose_engine`."""

    task: Task
    size: SearchSize
    threads: Sequence[int]
    precision: PrecisionSettings
    device: str
    say: Callable[[str], None]
    compiled_before: Collection[tuple[int, int]]
    timer: EngineTimer

    def fixed_lanes(self, lanes: int) -> EngineChoice:
        """Return the given number of lanes, compiled if possible, with the best threads."""
        if lanes > 1 and (reason := why_not_batched(self.task, self.device, self.precision)):
            return self._one_lane(f"the task cannot be batched: {reason}")
        threads, note = self.threads[0], ""
        if len(self.threads) > 1:
            measured = self._measure()
            best = measured.sequential
            if lanes > 1 and measured.affords(measured.trial_seconds(lanes), best):
                best = measured.try_lanes(lanes, compiled=False)
            _, note = self._choose_threads(measured, best)
            threads = measured.precision.threads
        if lanes == 1:
            return EngineChoice(1, False, threads, f"1 lane{note}")
        why = why_not_compiled(self.device)
        how = "compiled" if why is None else f"not compiled: {why}"
        return EngineChoice(lanes, why is None, threads, f"{lanes} lanes, {how}{note}")

    def measured_lanes(self, counts: Sequence[int]) -> EngineChoice:
        """Return the number of lanes among the counts, or one, with which the search ends soonest.

        Without counts, only threads are measured, if there is a choice.
        """
        few = (
            f"{self.size.trials} trials per worker are too few to train several at once; "
            "--lanes N does it anyway"
        )
        if not counts and len(self.threads) == 1:
            return self._one_lane(few)
        measured = self._measure()
        affordable = [
            n for n in counts if measured.affords(measured.trial_seconds(n), measured.sequential)
        ]
        if not affordable:
            seconds = measured.search_seconds(measured.sequential)
            short = (
                f"{seconds:.0f} s of training, or little more, are too few to measure more lanes"
            )
            return self._one_lane_measured(measured, short if counts else few)
        try:
            best = _faster(measured.sequential, measured.try_lanes(affordable[-1], compiled=False))
            reason = why_not_batched(self.task, self.device, self.precision)
        except Exception as error:
            reason = why_not_batched(self.task, self.device, self.precision)
            reason = reason or summarize_exception(error)
        if reason is not None:
            return self._one_lane_measured(measured, f"the task cannot be batched: {reason}")
        known = {count for count, threads in self.compiled_before if threads in self.threads}
        if not known & set(affordable):
            best = _try_fewer_lanes(measured, affordable, best)
        best, note = self._choose_threads(measured, best)
        best, failure = self._compile_while_it_pays(measured, affordable, best)
        return _explain(measured, _faster(measured.sequential, best), failure + note)

    def _one_lane_measured(self, measured: Measurements, reason: str) -> EngineChoice:
        _, note = self._choose_threads(measured, measured.sequential)
        return self._one_lane(reason + note, measured.precision.threads)

    def _measure(self) -> Measurements:
        return Measurements(
            self.task, self.size.run_epochs, self.device, self.precision, self.timer
        )

    def _choose_threads(self, measured: Measurements, best: Candidate) -> tuple[Candidate, str]:
        """Return a candidate with the best number of threads, and a note on the choice.

        Afterwards all engines have this number of threads.
        """
        few, *more = self.threads
        if not more:
            return best, ""
        if not measured.affords(measured.threads_seconds(best, len(self.threads)), best):
            return best, f"; {count_of(few, 'thread')}: measuring more would take too long"
        seconds = measured.time_threads(best, self.threads)
        fastest = min(more, key=seconds.__getitem__)
        gain = seconds[few] / seconds[fastest]
        compared = f"{fastest} are {gain:.2f} times as fast"
        if gain < 1 + _MIN_SPEEDUP_OF_THREADS:
            return best, f"; {count_of(few, 'thread')}: {compared}, which is too little"
        measured.use_threads(fastest)
        return replace(best, seconds=seconds[fastest]), f"; {fastest} threads: {compared} as {few}"

    def _compile_while_it_pays(
        self, measured: Measurements, counts: Sequence[int], best: Candidate
    ) -> tuple[Candidate, str]:
        """Return the best candidate after trying compiled steps, and a note if compiling failed."""
        cost, speedup = _compile_seconds(), _ASSUMED_COMPILE_SPEEDUP
        order = _compile_order(counts, measured.bytes_per_lane)
        threads = measured.precision.threads
        known = [count for count in order if (count, threads) in self.compiled_before]
        for lanes in sorted(order, key=lambda count: count not in known):
            is_known = lanes in known
            expected = _LOAD_SECONDS + (_LOAD_SECONDS if is_known else cost)
            gain = measured.search_seconds(best) * (1 - 1 / speedup)
            if gain * _REPAID_WITHIN < expected or not measured.affords(expected, best):
                break
            if not is_known:
                self.say(f"compiling a step of {lanes} lanes; this may take half a minute")
            began = measured.spent
            try:
                best = _faster(best, measured.try_lanes(lanes, compiled=True))
            except Exception as error:
                return best, f" (compiling failed: {summarize_exception(error)})"
            cost = cost if is_known else measured.spent - began
            speedup = _ASSUMED_FEWER_LANES_SPEEDUP
        return best, ""

    def _one_lane(self, reason: str, threads: int | None = None) -> EngineChoice:
        return EngineChoice(1, False, threads or self.threads[0], f"1 lane: {reason}")


def _try_fewer_lanes(measured: Measurements, counts: Sequence[int], best: Candidate) -> Candidate:
    """Return the best candidate after trying a middle number of lanes, if time allows it."""
    fewer = counts[:-1]
    if not fewer:
        return best
    middle = fewer[min(len(counts) // 2, len(fewer) - 1)]
    if not measured.affords(measured.trial_seconds(middle), best):
        return best
    return _faster(best, measured.try_lanes(middle, compiled=False))


def _explain(measured: Measurements, best: Candidate, note: str) -> EngineChoice:
    """Return the choice of the best candidate, with its speedup as the reason."""
    threads = measured.precision.threads
    if best.lanes == 1:
        reason = f"1 lane: more were not faster in {measured.spent:.1f} s of measuring{note}"
        return EngineChoice(1, False, threads, reason)
    how = f"{best.lanes} lanes, {'compiled' if best.compiled else 'not compiled'}"
    speed = f"{_two_digits(measured.speedup(best))} times the speed of one lane"
    reason = f"{how}: {speed}, in {measured.spent:.1f} s of measuring{note}"
    return EngineChoice(best.lanes, best.compiled, threads, reason)


def _two_digits(ratio: float) -> str:
    """Return a ratio with two significant digits: repeated measurements differ in the next one.

    >>> _two_digits(1.04), _two_digits(6.43), _two_digits(12.3), _two_digits(2104.8)
    ('1.0', '6.4', '12', '2100')
    """
    if (rounded := float(f"{ratio:.2g}")) < 10:
        return f"{rounded:.1f}"
    return f"{rounded:.0f}"


def _compile_seconds() -> float:
    """Return how long compiling a step of a small network takes on the cores of this machine."""
    return _COMPILE_SECONDS + _KERNELS_SECONDS / min(_KERNELS, available_cores())


def _compile_order(counts: Sequence[int], bytes_per_lane: int) -> list[int]:
    """Return the numbers of lanes to compile, the most promising first.

    A compiled step is limited by memory: it is fastest while parameters and moments stay in the
    cache.

    >>> _compile_order([4, 8, 16, 32, 64], l2_cache_bytes() // 10)
    [16, 32, 8, 64, 4]
    >>> _compile_order([4, 8], 10**9)
    [4, 8]
    """
    fitting = [n for n in counts if n * bytes_per_lane <= _CACHES * l2_cache_bytes()]
    at = counts.index(fitting[-1] if fitting else counts[0])
    return [n for _, _, n in sorted((abs(i - at), i < at, n) for i, n in enumerate(counts))]


def _faster(best: Candidate, other: Candidate) -> Candidate:
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
