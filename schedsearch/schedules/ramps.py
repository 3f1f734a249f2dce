"""Open-loop families with a ramp: warmup-stable-decay, logistic and Gaussian."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from schedsearch.schedules.durations import epochs, has_passed
from schedsearch.schedules.interpolation import (
    blend,
    half_cosine,
    interpolate,
    interpolate_geometric,
    interpolate_linear,
    one_minus_sqrt,
)
from schedsearch.schedules.open_loop import EndingSchedule, OpenLoop
from schedsearch.schedules.parameters import (
    Duration,
    NonNegativeDuration,
    NonNegativePhase,
    Number,
    Phase,
    Positive,
)


@dataclass(frozen=True, repr=False)
class WarmupStableDecay(EndingSchedule):
    """A linear rise to a peak, a stable phase at the peak, and a cooldown to a final value.

    value(t) = initial + (peak - initial) * t / warmup,          t < warmup
               final + (peak - final) * f(min(max(s, 0), 1)),    t >= warmup

    with s = (t - warmup - stable) / decay, and f(s) by `cooldown`: 1 - s (linear),
    (1 + cos(pi * s)) / 2 (cosine), 1 - sqrt(s) (1-sqrt). With "exponential" the value is
    peak * (final / peak) ** s, and both must be greater than 0.

    Args:
        initial: value at epoch 0.
        peak: value of the stable phase.
        final: value from epoch `warmup + stable + decay` on.
        warmup: epochs of the rise, a share of the horizon, or "rest": what the others leave.
        stable: epochs at the peak, a share of the horizon, or "rest".
        decay: epochs of the decay, a share of the horizon, or "rest".
        endpoint: reach `final` in the last epoch instead of after it; shares are then of the
            horizon less one epoch.
        cooldown: the shape of the decay: "linear", "cosine", "1-sqrt" or "exponential".

    Source: Hu et al. 2024 (MiniCPM); the shapes of Hägele et al. 2024 (arXiv 2405.18392);
    get_wsd_schedule in transformers.

    >>> schedule = WarmupStableDecay(0.0, 1.0, 0.5, warmup=2, stable=2, decay=2)
    >>> [schedule.at(t) for t in range(8)]
    [0.0, 0.5, 1.0, 1.0, 1.0, 0.75, 0.5, 0.5]
    """

    phases = ("warmup", "stable", "decay")

    initial: Number
    peak: Number
    final: Number
    warmup: NonNegativePhase = "10%"
    stable: NonNegativePhase = "70%"
    decay: Phase = "20%"
    cooldown: Literal["linear", "cosine", "1-sqrt", "exponential"] = field(
        default="linear", kw_only=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("peak", "final") if self.cooldown == "exponential" else ():
            if getattr(self, name) <= 0:
                raise self.parameter_error(name, "greater than 0 if `cooldown` is exponential")

    def at(self, epoch: float) -> float:
        warmup, decay = epochs(self.warmup), epochs(self.decay)
        if not self._has_passed(warmup, epoch):
            return interpolate_linear(self.initial, self.peak, epoch, warmup, self.version)
        decaying = max(epoch - warmup - epochs(self.stable), 0)
        if self.version > 1 and has_passed(decay, decaying):
            return self.final
        if self.cooldown == "linear":
            return interpolate_linear(self.peak, self.final, decaying, decay, self.version)
        if self.cooldown == "exponential":
            return interpolate_geometric(self.peak, self.final, decaying, decay)
        shape = half_cosine if self.cooldown == "cosine" else one_minus_sqrt
        return blend(self.peak, self.final, shape(decaying, decay), self.version)


@dataclass(frozen=True, repr=False)
class LogisticRamp(OpenLoop):
    """An S-shaped curve from the initial to the final value: slow, fast, slow.

    value(t) = initial + (final - initial) / (1 + exp(-(t - midpoint) / width))

    Both values are asymptotes: three widths from the midpoint the value is within 5 % of the range,
    and seven widths from it within 0.1 %.

    Args:
        initial: value long before the midpoint.
        final: value long after the midpoint.
        midpoint: epoch of the value (initial + final) / 2, or a share of the horizon.
        width: epochs in which the odds (value - initial) / (final - value) grow by a factor of e,
            or a share of the horizon; the reciprocal of the steepness.

    Source: the sigmoid KL annealing of Bowman et al. 2016.

    >>> schedule = LogisticRamp(initial=0.0, final=1.0, midpoint=5, width=1)
    >>> [round(schedule.at(t), 3) for t in (0, 4, 5, 6, 10)]
    [0.007, 0.269, 0.5, 0.731, 0.993]
    """

    initial: Number
    final: Number
    midpoint: NonNegativeDuration = "50%"
    width: Duration = "10%"

    def at(self, epoch: float) -> float:
        widths = (epoch - epochs(self.midpoint)) / epochs(self.width)
        # The logistic function, computed with tanh because exp could overflow.
        weight = (1 + math.tanh(widths / 2)) / 2
        return interpolate(self.initial, self.final, weight, self.version)


@dataclass(frozen=True, repr=False)
class GaussianRamp(EndingSchedule):
    """The rising half of a Gaussian curve to the final value, constant afterwards.

    value(t) = initial + (final - initial) * exp(-sharpness * (1 - min(t / duration, 1)) ** 2)

    The first value is not `initial`: with the default sharpness it is exp(-5) = 0.7 % of the way to
    `final`.

    Args:
        initial: asymptote of the curve before epoch 0.
        final: value from epoch `duration` on.
        sharpness: greater than 0; a larger sharpness delays the rise.
        duration: epochs, or a share of the horizon.
        endpoint: reach `final` in the last epoch instead of after it, if the duration is a share.

    Source: the ramp-up of Laine and Aila 2017, "Temporal Ensembling" (there `initial` is 0).

    >>> schedule = GaussianRamp(initial=0.0, final=1.0, duration=4)
    >>> [round(schedule.at(t), 3) for t in range(6)]
    [0.007, 0.06, 0.287, 0.732, 1.0, 1.0]
    """

    initial: Number
    final: Number
    sharpness: Positive = 5.0
    duration: Duration = "100%"

    def at(self, epoch: float) -> float:
        left = 1 - min(epoch / epochs(self.duration), 1)
        if left == 0 or self._has_passed(epochs(self.duration), epoch):
            return self.final
        weight = math.exp(-self.sharpness * left**2)
        return interpolate(self.initial, self.final, weight, self.version)


@dataclass(frozen=True, repr=False)
class GaussianRampDown(EndingSchedule):
    """The falling half of a Gaussian curve from the initial value, then the final value.

    value(t) = final + (initial - final) * exp(-sharpness * (t / duration) ** 2),  t < duration

    At `duration` the value steps to `final`: with the default sharpness by exp(-12.5) of the range.

    Args:
        initial: value at epoch 0.
        final: value from epoch `duration` on.
        sharpness: greater than 0; a larger sharpness hastens the fall.
        duration: epochs, or a share of the horizon.
        endpoint: reach `final` in the last epoch instead of after it, if the duration is a share.

    Source: the ramp-down of Laine and Aila 2017, "Temporal Ensembling": a `join` of a constant and
    of this over the last 50 epochs.

    >>> schedule = GaussianRampDown(initial=1.0, final=0.0, sharpness=2.0, duration=4)
    >>> [round(schedule.at(t), 3) for t in range(6)]
    [1.0, 0.882, 0.607, 0.325, 0.0, 0.0]
    """

    initial: Number
    final: Number
    sharpness: Positive = 12.5
    duration: Duration = "100%"

    def at(self, epoch: float) -> float:
        duration = epochs(self.duration)
        if has_passed(duration, epoch):
            return self.final
        weight = math.exp(-self.sharpness * (epoch / duration) ** 2)
        return blend(self.initial, self.final, weight, self.version)
