"""Open-loop families with a ramp: warmup-stable-decay, logistic and Gaussian."""

from __future__ import annotations

import math
from dataclasses import dataclass

from schedsearch.schedules.base import OpenLoop
from schedsearch.schedules.interpolation import interpolate_linear
from schedsearch.schedules.parameters import Duration, NonNegativeDuration, Number, Positive, epochs


@dataclass(frozen=True)
class WarmupStableDecay(OpenLoop):
    """A linear rise to a peak, a stable phase at the peak, and a linear decay to a final value.

    value(t) = initial + (peak - initial) * t / warmup,          t < warmup
               peak + (final - peak) * min(max(s, 0), 1),        t >= warmup

    with s = (t - warmup - stable) / decay.

    Args:
        initial: value at epoch 0.
        peak: value of the stable phase.
        final: value from epoch `warmup + stable + decay` on.
        warmup: epochs of the rise, or a share of the horizon.
        stable: epochs at the peak, or a share of the horizon.
        decay: epochs of the decay, or a share of the horizon.

    Source: Hu et al. 2024 (MiniCPM), with the linear decay of Hägele et al. 2024.

    >>> schedule = WarmupStableDecay(0.0, 1.0, 0.5, warmup=2, stable=2, decay=2)
    >>> [schedule.at(t) for t in range(8)]
    [0.0, 0.5, 1.0, 1.0, 1.0, 0.75, 0.5, 0.5]
    """

    initial: Number
    peak: Number
    final: Number
    warmup: NonNegativeDuration = "10%"
    stable: NonNegativeDuration = "70%"
    decay: Duration = "20%"

    def at(self, epoch: float) -> float:
        warmup = epochs(self.warmup)
        if epoch < warmup:
            return interpolate_linear(self.initial, self.peak, epoch, warmup)
        decaying = max(epoch - warmup - epochs(self.stable), 0)
        return interpolate_linear(self.peak, self.final, decaying, epochs(self.decay))


@dataclass(frozen=True)
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
        return self.initial + (self.final - self.initial) * (1 + math.tanh(widths / 2)) / 2


@dataclass(frozen=True)
class GaussianRamp(OpenLoop):
    """The rising half of a Gaussian curve to the final value, constant afterwards.

    value(t) = initial + (final - initial) * exp(-sharpness * (1 - min(t / duration, 1)) ** 2)

    The first value is not `initial`: with the default sharpness it is exp(-5) = 0.7 % of the way to
    `final`.

    Args:
        initial: asymptote of the curve before epoch 0.
        final: value from epoch `duration` on.
        sharpness: greater than 0; a larger sharpness delays the rise.
        duration: epochs, or a share of the horizon.

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
        if left == 0:
            return self.final
        return self.initial + (self.final - self.initial) * math.exp(-self.sharpness * left**2)
