"""Open-loop families with cycles: warm restarts, cyclical annealing, triangular and one-cycle."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal, Self

from schedsearch.schedules.durations import Interval, completed_periods, epochs, has_passed
from schedsearch.schedules.interpolation import (
    blend,
    half_cosine,
    interpolate,
    interpolate_linear,
)
from schedsearch.schedules.open_loop import EndingSchedule, OpenLoop
from schedsearch.schedules.parameters import (
    Count,
    Duration,
    Multiple,
    NonNegativePhase,
    Number,
    Phase,
    Positive,
    PositiveCount,
    PositiveFraction,
)

#: Below this multiplier, restarts are computed in closed form; above it they are few.
_SLOW_MULTIPLIER = 1.5


@dataclass(frozen=True, repr=False)
class WarmRestarts(OpenLoop):
    """Half a cosine wave from initial to final, started again at each restart.

    value(t) = final + (initial * cycle_decay ** c - final) * (1 + cos(pi * s / p)) / 2
               final,    if c >= cycles > 0

    with c the number of restarts before t, s the epochs since the last one, and p the current
    period in epochs: `period` at first, `multiplier` times longer after each restart.

    Args:
        initial: value at epoch 0 and at each restart.
        final: value that each period approaches; the restart comes just before it is reached.
        period: epochs before the first restart, or a share of the horizon.
        multiplier: factor on the period at each restart, at least 1; with a fraction, restarts may
            fall within an epoch, which then has a value below that of the restart.
        cycles: periods after which the value stays `final`; 0 for no limit. At the interval
            "epoch" no period begins in the last epoch, which has the value `final` instead.
        cycle_decay: factor on `initial` at each restart, greater than 0.

    Source: SGDR, Loshchilov and Hutter 2017; torch.optim.lr_scheduler.CosineAnnealingWarmRestarts,
    stepped without an epoch. With `step(epoch)` torch computes restarts from a logarithm and misses
    some of them. `cycle_decay` and fractions as `multiplier` are CosineLRScheduler in timm.

    >>> schedule = WarmRestarts(initial=1.0, final=0.0, period=2, multiplier=2)
    >>> [round(schedule.at(t), 3) for t in range(7)]
    [1.0, 0.5, 1.0, 0.854, 0.5, 0.146, 1.0]
    """

    initial: Number
    final: Number
    period: Duration = "25%"
    multiplier: Multiple = 1
    cycles: Count = field(default=0, kw_only=True)
    cycle_decay: Positive = field(default=1.0, kw_only=True)

    def resolve(self, horizon: float, seed: int, interval: Interval = "epoch") -> Self:
        """Resolve the schedule, so that no cycle begins in the last of several epochs."""
        resolved = super().resolve(horizon, seed, interval)
        if self.version == 1 or interval == "step":
            return resolved
        cycle, since, _ = resolved._cycle(horizon - 1)
        begins_last = cycle > 0 and since < 1
        return (
            replace(resolved, cycles=min(self.cycles or cycle, cycle)) if begins_last else resolved
        )

    def at(self, epoch: float) -> float:
        cycle, since, period = self._cycle(epoch)
        if self.cycles and cycle >= self.cycles:
            return self.final
        initial = self.initial
        if self.cycle_decay != 1:
            initial *= math.pow(self.cycle_decay, cycle)
        return blend(initial, self.final, half_cosine(since, period), self.version)

    def _cycle(self, epoch: float) -> tuple[int, float, float]:
        """Return the cycle at a time, the epochs since its begin, and its length."""
        since, period, cycle = epoch, epochs(self.period), 0
        if self.version > 2 and 1 < self.multiplier < _SLOW_MULTIPLIER:
            return self._slow_cycle(epoch)
        if self.multiplier == 1:
            cycle = completed_periods(since, period)
            since -= cycle * period
        while self.multiplier > 1 and has_passed(period, since):
            since -= period
            period *= self.multiplier
            cycle += 1
        return cycle, since, period

    def _slow_cycle(self, epoch: float) -> tuple[int, float, float]:
        """Return `_cycle` for a multiplier near 1, with which there may be a cycle each epoch."""
        first, growth = epochs(self.period), self.multiplier - 1

        def begin(cycle: int) -> float:
            return first * math.expm1(cycle * math.log1p(growth)) / growth

        cycle = int(math.log1p(epoch * growth / first) / math.log1p(growth))
        # Rounding may make the logarithm miss a restart by one.
        while cycle and not has_passed(begin(cycle), epoch):
            cycle -= 1
        while has_passed(begin(cycle + 1), epoch):
            cycle += 1
        return cycle, max(epoch - begin(cycle), 0), first * math.pow(self.multiplier, cycle)


@dataclass(frozen=True, repr=False)
class Cyclical(EndingSchedule):
    """Cyclical annealing: each cycle rises to the final value, then stays there.

    value(t) = initial + (final - initial) * f(min(tau / proportion, 1))

    with tau in [0, 1) the elapsed part of the current cycle, and f(x) by `shape` for x < 1: x,
    (1 - cos(pi * x)) / 2 (cosine), 1 / (1 + exp(6 - 12 * x)) (sigmoid, which begins at 0.0025). At
    the interval "epoch", each cycle begins at a whole epoch, so it starts at `initial` even if the
    number of cycles does not divide the duration; a cycle whose only epoch is the last one has the
    value `final`. The value is `final` from epoch `duration` on.

    Args:
        initial: value at the start of each cycle.
        final: value at the end of each rise.
        cycles: number of cycles within the duration.
        proportion: length of the rise as a part of the cycle, greater than 0, at most 1.
        duration: epochs of all cycles together, or a share of the horizon.
        endpoint: reach `final` in the last epoch instead of after it, if the duration is a share.
        shape: of the rise: "linear", "cosine" or "sigmoid".

    Source: Fu et al. 2019, "Cyclical Annealing Schedule". Their published code adds a fractional
    step and skips final values if a cycle has few epochs; this family does not.

    >>> schedule = Cyclical(initial=0.0, final=1.0, cycles=4, duration=10)
    >>> [round(schedule.at(t), 2) for t in range(12)]
    [0.0, 0.67, 1.0, 0.0, 1.0, 0.0, 0.67, 1.0, 0.0, 1.0, 1.0, 1.0]
    """

    initial: Number
    final: Number
    cycles: PositiveCount = 4
    proportion: PositiveFraction = 0.5
    duration: Duration = "100%"

    shape: Literal["linear", "cosine", "sigmoid"] = field(default="linear", kw_only=True)

    def at(self, epoch: float) -> float:
        if has_passed(epochs(self.duration), epoch):
            return self.final
        cycle = completed_periods(epoch * self.cycles, epochs(self.duration))
        begin, end = self._begin(cycle), self._begin(cycle + 1)
        if self.version > 1 and 0 < begin == end - 1 and end == self.duration:
            return self.final
        since, rise = epoch - begin, self.proportion * (end - begin)
        if self.shape == "linear" or since >= rise:
            return interpolate_linear(self.initial, self.final, since, rise, self.version)
        if self.shape == "cosine":
            left = half_cosine(since, rise)
        else:
            left = 1 / (1 + math.exp(12 * since / rise - 6))
        return blend(self.initial, self.final, left, self.version)

    def _begin(self, cycle: int) -> float:
        duration = epochs(self.duration)
        if isinstance(duration, float):
            return cycle * duration / self.cycles
        return -(-cycle * duration // self.cycles)


@dataclass(frozen=True, repr=False)
class Triangular(OpenLoop):
    """The triangular cyclical learning rate: linear up to a peak and down again, repeatedly.

    value(t) = initial + (peak - initial) * h(t) * cycle_decay ** c * decay_rate ** t

    with h the height in [0, 1] within the cycle and c the number of complete cycles before t.

    Args:
        initial: value at the start of each cycle.
        peak: highest value of the first cycle.
        rise: epochs from `initial` to the peak, a share of the horizon, or "rest".
        fall: epochs from the peak to `initial`, a share of the horizon, or "rest".
        cycle_decay: factor on the height from one cycle to the next, greater than 0.
        decay_rate: factor on the height from one epoch to the next, greater than 0.

    Source: Smith 2017; torch.optim.lr_scheduler.CyclicLR. The defaults are its mode `triangular`;
    `triangular2` is cycle_decay = 0.5, and `exp_range` is decay_rate = gamma.

    >>> schedule = Triangular(initial=0.0, peak=1.0, rise=2, fall=2, cycle_decay=0.5)
    >>> [schedule.at(t) for t in range(8)]
    [0.0, 0.5, 1.0, 0.5, 0.0, 0.25, 0.5, 0.25]
    """

    phases = ("rise", "fall")
    repeats = True

    initial: Number
    peak: Number
    rise: Phase = "12.5%"
    fall: Phase = "12.5%"
    cycle_decay: Positive = 1.0
    decay_rate: Positive = 1.0

    def at(self, epoch: float) -> float:
        rise, fall = epochs(self.rise), epochs(self.fall)
        cycle, since = divmod(epoch, rise + fall)
        height = since / rise if since <= rise else (rise + fall - since) / fall
        height *= math.pow(self.cycle_decay, cycle) * math.pow(self.decay_rate, epoch)
        if height == 1 and self.version > 1:
            return self.peak
        if height < 1:
            return interpolate(self.initial, self.peak, height, self.version)
        return self.initial + (self.peak - self.initial) * height


@dataclass(frozen=True, repr=False)
class OneCycle(EndingSchedule):
    """Half a cosine wave up to a peak, then half a wave down to a final value, constant afterwards.

    value(t) = peak + (initial - peak) * (1 + cos(pi * t / rise)) / 2,   t < rise
               final + (peak - final) * (1 + cos(pi * s)) / 2,           t >= rise

    with s = min((t - rise) / fall, 1).

    Args:
        initial: value at epoch 0.
        peak: value at epoch `rise`.
        final: value from epoch `rise + fall` on.
        rise: epochs to the peak, a share of the horizon, or "rest": what `fall` leaves.
        fall: epochs from the peak to `final`, a share of the horizon, or "rest".
        endpoint: reach `final` in the last epoch instead of after it; shares are then of the
            horizon less one epoch.

    Source: Smith and Topin 2017; torch.optim.lr_scheduler.OneCycleLR with two phases,
    total_steps = rise + fall + 1 and pct_start = (rise + 1) / total_steps. The linear variant
    is `warmup_stable_decay` with stable = 0.

    >>> schedule = OneCycle(initial=0.0, peak=1.0, final=0.0, rise=2, fall=4)
    >>> [round(schedule.at(t), 3) for t in range(8)]
    [0.0, 0.5, 1.0, 0.854, 0.5, 0.146, 0.0, 0.0]
    """

    phases = ("rise", "fall")

    initial: Number
    peak: Number
    final: Number
    rise: NonNegativePhase = "30%"
    fall: Phase = "70%"

    def at(self, epoch: float) -> float:
        rise = epochs(self.rise)
        if epoch < rise:
            return blend(self.initial, self.peak, half_cosine(epoch, rise), self.version)
        if self.version > 1 and has_passed(epochs(self.fall), epoch - rise):
            return self.final
        weight = half_cosine(epoch - rise, epochs(self.fall))
        return blend(self.peak, self.final, weight, self.version)
