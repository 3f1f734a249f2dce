"""Open-loop families that come back: restarts, cycles, and the rise and fall of one cycle."""

from __future__ import annotations

from dataclasses import dataclass

from schedsearch.schedules.base import OpenLoop
from schedsearch.schedules.interpolation import interpolate_cosine, interpolate_linear
from schedsearch.schedules.parameters import (
    Duration,
    NonNegativeDuration,
    Number,
    Positive,
    PositiveCount,
    PositiveFraction,
    epochs,
)


@dataclass(frozen=True)
class WarmRestarts(OpenLoop):
    """Half a cosine wave from initial to final, begun again at each restart.

    value(t) = final + (initial - final) * (1 + cos(pi * s / p)) / 2

    with s the epochs since the last restart and p the period then running: `period` at first,
    `multiplier` times longer after each restart.

    Args:
        initial: value at epoch 0 and at each restart.
        final: value that a period moves towards and that the restart forestalls.
        period: epochs before the first restart, or a share of the horizon.
        multiplier: growth of the period, a whole number of at least 1.

    Source: SGDR, Loshchilov and Hutter 2017; torch.optim.lr_scheduler.CosineAnnealingWarmRestarts
    stepped without an epoch. Given one, torch finds the restarts by a logarithm and misses some.

    >>> schedule = WarmRestarts(initial=1.0, final=0.0, period=2, multiplier=2)
    >>> [round(schedule.at(t), 3) for t in range(7)]
    [1.0, 0.5, 1.0, 0.854, 0.5, 0.146, 1.0]
    """

    initial: Number
    final: Number
    period: Duration = "25%"
    multiplier: PositiveCount = 1

    def at(self, epoch: int) -> float:
        since, period = epoch, epochs(self.period)
        if self.multiplier == 1:
            since %= period
        while since >= period:
            since -= period
            period *= self.multiplier
        return interpolate_cosine(self.initial, self.final, since, period)


@dataclass(frozen=True)
class Cyclical(OpenLoop):
    """Cyclical annealing: each cycle rises straight to the final value and holds it to its end.

    value(t) = initial + (final - initial) * min(tau / proportion, 1)

    with tau in [0, 1) the part of the running cycle that has passed. A cycle begins at a whole
    epoch and counts its own epochs, so that each one starts at `initial` even where the cycles do
    not divide the duration. From epoch `duration` on, `final` holds.

    Args:
        initial: value at the start of each cycle.
        final: value at the end of each rise.
        cycles: number of cycles within the duration.
        proportion: part of a cycle that the rise takes, greater than 0.
        duration: epochs of all cycles together, or a share of the horizon.

    Source: Fu et al. 2019, "Cyclical Annealing Schedule". Their published code adds a fractional
    step, and with few epochs to a cycle it skips final values: this one does not follow it there.

    >>> schedule = Cyclical(initial=0.0, final=1.0, cycles=4, duration=10)
    >>> [round(schedule.at(t), 2) for t in range(12)]
    [0.0, 0.67, 1.0, 0.0, 1.0, 0.0, 0.67, 1.0, 0.0, 1.0, 1.0, 1.0]
    """

    initial: Number
    final: Number
    cycles: PositiveCount = 4
    proportion: PositiveFraction = 0.5
    duration: Duration = "100%"

    def at(self, epoch: int) -> float:
        if epoch >= epochs(self.duration):
            return self.final
        cycle = epoch * self.cycles // epochs(self.duration)
        begin, end = self._begin(cycle), self._begin(cycle + 1)
        return interpolate_linear(
            self.initial, self.final, epoch - begin, self.proportion * (end - begin)
        )

    def _begin(self, cycle: int) -> int:
        return -(-cycle * epochs(self.duration) // self.cycles)


@dataclass(frozen=True)
class Triangular(OpenLoop):
    """The triangular cyclical learning rate: straight up to a peak and down again, for ever.

    value(t) = initial + (peak - initial) * h(t) * cycle_decay ** c * decay_rate ** t

    with h the height in [0, 1] within the cycle and c the number of whole cycles before t.

    Args:
        initial: value at the foot of each cycle.
        peak: value at the top of the first cycle.
        rise: epochs from foot to top, or a share of the horizon.
        fall: epochs from top to foot, or a share of the horizon.
        cycle_decay: factor on the height from one cycle to the next, greater than 0.
        decay_rate: factor on the height from one epoch to the next, greater than 0.

    Source: Smith 2017; torch.optim.lr_scheduler.CyclicLR. Its mode `triangular` is the default
    here, `triangular2` is cycle_decay 0.5, `exp_range` is decay_rate gamma.

    >>> schedule = Triangular(initial=0.0, peak=1.0, rise=2, fall=2, cycle_decay=0.5)
    >>> [schedule.at(t) for t in range(8)]
    [0.0, 0.5, 1.0, 0.5, 0.0, 0.25, 0.5, 0.25]
    """

    initial: Number
    peak: Number
    rise: Duration = "12.5%"
    fall: Duration = "12.5%"
    cycle_decay: Positive = 1.0
    decay_rate: Positive = 1.0

    def at(self, epoch: int) -> float:
        rise, fall = epochs(self.rise), epochs(self.fall)
        cycle, since = divmod(epoch, rise + fall)
        height = since / rise if since <= rise else (rise + fall - since) / fall
        height *= self.cycle_decay**cycle * self.decay_rate**epoch
        return self.initial + (self.peak - self.initial) * height


@dataclass(frozen=True)
class OneCycle(OpenLoop):
    """One half cosine wave up to a peak, and one down to a final value, which then holds.

    value(t) = interpolate_cosine(initial -> peak, t / rise),          t < rise
               interpolate_cosine(peak -> final, (t - rise) / fall),   t >= rise

    Args:
        initial: value at epoch 0.
        peak: value at epoch `rise`.
        final: value from epoch `rise + fall` on.
        rise: epochs up, or a share of the horizon.
        fall: epochs down, or a share of the horizon.

    Source: Smith and Topin 2017; torch.optim.lr_scheduler.OneCycleLR with two phases,
    total_steps = rise + fall + 1 and pct_start = (rise + 1) / total_steps. With straight lines it
    is `warmup_stable_decay` without the stable part.

    >>> schedule = OneCycle(initial=0.0, peak=1.0, final=0.0, rise=2, fall=4)
    >>> [round(schedule.at(t), 3) for t in range(8)]
    [0.0, 0.5, 1.0, 0.854, 0.5, 0.146, 0.0, 0.0]
    """

    initial: Number
    peak: Number
    final: Number
    rise: NonNegativeDuration = "30%"
    fall: Duration = "70%"

    def at(self, epoch: int) -> float:
        rise = epochs(self.rise)
        if epoch < rise:
            return interpolate_cosine(self.initial, self.peak, epoch, rise)
        return interpolate_cosine(self.peak, self.final, epoch - rise, epochs(self.fall))
