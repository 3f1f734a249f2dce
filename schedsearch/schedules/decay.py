"""Open-loop families that are monotonic: the constant, and decay from an initial value.

The same families grow where the final value is the larger one or the rate is above 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from schedsearch.schedules.durations import completed_periods, epochs, has_passed
from schedsearch.schedules.interpolation import (
    blend,
    half_cosine,
    interpolate_geometric,
    interpolate_linear,
)
from schedsearch.schedules.open_loop import EndingSchedule, OpenLoop
from schedsearch.schedules.parameters import Duration, Number, Positive


@dataclass(frozen=True, repr=False)
class Constant(OpenLoop):
    """The same value at every epoch: the baseline for all other families.

    value(t) = value

    Args:
        value: the value, in the hyperparameter's unit.

    >>> Constant(0.1).at(59)
    0.1
    """

    overflows_at_an_end = True

    value: Number

    @property
    def moves_within_epoch(self) -> bool:
        return False

    def at(self, epoch: float) -> float:
        return self.value


@dataclass(frozen=True, repr=False)
class Linear(EndingSchedule):
    """A straight line from the initial to the final value, constant afterwards.

    value(t) = initial + (final - initial) * min(t / duration, 1)

    Args:
        initial: value at epoch 0.
        final: value from epoch `duration` on.
        duration: epochs, or a share of the horizon.
        endpoint: reach `final` in the last epoch instead of after it, if the duration is a share.

    Source: torch.optim.lr_scheduler.LinearLR, in closed form and for any two values.

    >>> [Linear(initial=0.0, final=1.0, duration=4).at(t) for t in range(6)]
    [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    """

    overflows_at_an_end = True

    initial: Number
    final: Number
    duration: Duration = "100%"

    def at(self, epoch: float) -> float:
        duration = epochs(self.duration)
        if self._has_passed(duration, epoch):
            return self.final
        return interpolate_linear(self.initial, self.final, epoch, duration, self.version)


@dataclass(frozen=True, repr=False)
class Polynomial(EndingSchedule):
    """A power of the remaining time: fast at first for a power above 1, slow at first below 1.

    value(t) = final + (initial - final) * (1 - min(t / duration, 1) ** k_decay) ** power

    Args:
        initial: value at epoch 0.
        final: value from epoch `duration` on.
        power: greater than 0; 1 is a straight line.
        duration: epochs, or a share of the horizon.
        endpoint: reach `final` in the last epoch instead of after it, if the duration is a share.
        k_decay: power of the elapsed time; above 1 the value stays high for longer.

    Source: torch.optim.lr_scheduler.PolynomialLR, in closed form (there `final` is 0); k-decay of
    Zhang and Li 2020 (arXiv 2004.05909), as in timm.

    >>> [Polynomial(initial=1.0, final=0.0, power=2.0, duration=4).at(t) for t in range(6)]
    [1.0, 0.5625, 0.25, 0.0625, 0.0, 0.0]
    """

    overflows_at_an_end = True

    initial: Number
    final: Number
    power: Positive
    duration: Duration = "100%"
    k_decay: Positive = field(default=1.0, kw_only=True)

    def at(self, epoch: float) -> float:
        duration = epochs(self.duration)
        # A small power would enlarge a remaining time that is only a residue of rounding.
        over = has_passed(duration, epoch)
        left = 0.0 if over else interpolate_linear(1.0, 0.0, epoch, duration)
        if self.k_decay != 1 and not over:
            left = 1 - math.pow(epoch / duration, self.k_decay)
        return blend(self.initial, self.final, math.pow(left, self.power), self.version)


@dataclass(frozen=True, repr=False)
class Exponential(OpenLoop):
    """Multiplication by a constant factor each epoch: decay below 1, growth above 1.

    value(t) = initial * decay_rate ** t

    Args:
        initial: value at epoch 0.
        decay_rate: factor from one epoch to the next, greater than 0.

    Source: torch.optim.lr_scheduler.ExponentialLR, in closed form.

    >>> [round(Exponential(initial=1.0, decay_rate=0.9).at(t), 4) for t in range(3)]
    [1.0, 0.9, 0.81]
    """

    overflows_at_an_end = True

    initial: Number
    decay_rate: Positive

    def at(self, epoch: float) -> float:
        return self.initial * math.pow(self.decay_rate, epoch)


@dataclass(frozen=True, repr=False)
class Geometric(EndingSchedule):
    """An exponential curve from the initial to the final value, constant afterwards.

    value(t) = initial * (final / initial) ** min(t / duration, 1)

    Args:
        initial: value at epoch 0, greater than 0.
        final: value from epoch `duration` on, greater than 0.
        duration: epochs, or a share of the horizon.
        endpoint: reach `final` in the last epoch instead of after it, if the duration is a share.

    Source: numpy.geomspace; torch.optim.lr_scheduler.ExponentialLR with
    gamma = (final / initial) ** (1 / duration).

    >>> [round(Geometric(initial=1.0, final=0.01, duration=4).at(t), 4) for t in range(6)]
    [1.0, 0.3162, 0.1, 0.0316, 0.01, 0.01]
    """

    overflows_at_an_end = True

    initial: Positive
    final: Positive
    duration: Duration = "100%"

    def at(self, epoch: float) -> float:
        duration = epochs(self.duration)
        if self._has_passed(duration, epoch):
            return self.final
        return interpolate_geometric(self.initial, self.final, epoch, duration)


@dataclass(frozen=True, repr=False)
class Rex(EndingSchedule):
    """A reflected exponential: nearly linear at first, and faster towards the end.

    value(t) = final + (initial - final) * (1 - s) / (1 - s / 2),  s = min(t / duration, 1)

    Args:
        initial: value at epoch 0.
        final: value from epoch `duration` on.
        duration: epochs, or a share of the horizon.
        endpoint: reach `final` in the last epoch instead of after it, if the duration is a share.

    Source: Chen, Wolfe and Kyrillidis 2022, "REX: Revisiting Budgeted Training with an Improved
    Schedule" (arXiv 2107.04197); there `final` is 0.

    >>> [round(Rex(initial=1.0, final=0.0, duration=4).at(t), 3) for t in range(6)]
    [1.0, 0.857, 0.667, 0.4, 0.0, 0.0]
    """

    overflows_at_an_end = True

    initial: Number
    final: Number
    duration: Duration = "100%"

    def at(self, epoch: float) -> float:
        duration = epochs(self.duration)
        over = 1.0 if has_passed(duration, epoch) else epoch / duration
        return blend(self.initial, self.final, (1 - over) / (1 - over / 2), self.version)


@dataclass(frozen=True, repr=False)
class Step(OpenLoop):
    """Multiplication by a constant factor at regular intervals.

    value(t) = initial * decay_rate ** floor(t / step_size)

    Args:
        initial: value at epoch 0.
        decay_rate: factor at each step, greater than 0.
        step_size: epochs between steps, or a share of the horizon.

    Source: torch.optim.lr_scheduler.StepLR, in closed form.

    >>> [Step(initial=1.0, decay_rate=0.5, step_size=2).at(t) for t in range(5)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    overflows_at_an_end = True

    initial: Number
    decay_rate: Positive
    step_size: Duration = "25%"

    def at(self, epoch: float) -> float:
        return self.initial * self.decay_rate ** completed_periods(epoch, epochs(self.step_size))


@dataclass(frozen=True, repr=False)
class Multistep(OpenLoop):
    """Multiplication by a constant factor at each milestone.

    value(t) = initial * decay_rate ** (number of milestones <= t)

    Args:
        initial: value at epoch 0.
        decay_rate: factor at each milestone, greater than 0.
        milestones: epochs or shares of the horizon, in any order; duplicates count twice.

    Source: torch.optim.lr_scheduler.MultiStepLR, in closed form.

    >>> [Multistep(initial=1.0, decay_rate=0.5, milestones=(1, 3)).at(t) for t in range(5)]
    [1.0, 0.5, 0.5, 0.25, 0.25]
    """

    overflows_at_an_end = True

    initial: Number
    decay_rate: Positive
    milestones: tuple[Duration, ...] = ("50%", "75%")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.milestones:
            raise self.parameter_error("milestones", "at least one milestone")

    def at(self, epoch: float) -> float:
        passed = sum(has_passed(epochs(milestone), epoch) for milestone in self.milestones)
        return self.initial * self.decay_rate**passed


@dataclass(frozen=True, repr=False)
class InverseTime(OpenLoop):
    """A power of time: the decay is fast at first, slows down, and never ends.

    value(t) = initial / (1 + decay_rate * t) ** power

    Args:
        initial: value at epoch 0.
        decay_rate: per epoch, greater than 0; the value is initial / 2 ** power after
            1 / decay_rate epochs.
        power: greater than 0; 1 is a hyperbola, and 0.5 the inverse square root.

    Source: Robbins and Monro 1951; Keras InverseTimeDecay with decay_steps 1. With power 0.5 and
    decay_rate = 1 / T within a `warmup` of T epochs: Vaswani et al. 2017, and
    get_inverse_sqrt_schedule in transformers; with a cooldown by `product` or `join`, Zhai et al.
    2021 (arXiv 2106.04560). Other powers: Shen et al. 2024 (arXiv 2408.13359).

    >>> [InverseTime(initial=1.0, decay_rate=0.5).at(t) for t in (0, 2, 6)]
    [1.0, 0.5, 0.25]
    >>> InverseTime(initial=1.0, decay_rate=0.5, power=0.5).at(6)
    0.5
    """

    # Not `overflows_at_an_end`: the power may overflow in the middle, and later be 1 / inf = 0.
    initial: Number
    decay_rate: Positive
    power: Positive = field(default=1.0, kw_only=True)

    def at(self, epoch: float) -> float:
        growth = 1 + self.decay_rate * epoch
        return self.initial / (growth if self.power == 1 else math.pow(growth, self.power))


@dataclass(frozen=True, repr=False)
class Cosine(EndingSchedule):
    """Half a cosine wave from the initial to the final value, constant afterwards.

    value(t) = final + (initial - final) * ((1 + cos(pi * s)) / 2) ** exponent,  t < duration

    with s = (t / duration) ** k_decay.

    Args:
        initial: value at epoch 0.
        final: value from epoch `duration` on.
        duration: epochs, or a share of the horizon.
        endpoint: reach `final` in the last epoch instead of after it, if the duration is a share.
        exponent: power of the height; above 1 the value falls sooner.
        k_decay: power of the elapsed time; above 1 the value stays high for longer.

    Source: Loshchilov and Hutter 2017; torch.optim.lr_scheduler.CosineAnnealingLR, in closed form.
    The recursion in torch accumulates rounding errors, at most 3e-14 of the range, and its values
    rise again after T_max. Exponents as in optax.cosine_decay_schedule; k-decay of Zhang and Li
    2020 (arXiv 2004.05909), as in timm.

    >>> [round(Cosine(initial=1.0, final=0.0, duration=4).at(t), 3) for t in range(6)]
    [1.0, 0.854, 0.5, 0.146, 0.0, 0.0]
    """

    overflows_at_an_end = True

    initial: Number
    final: Number
    duration: Duration = "100%"

    exponent: Positive = field(default=1.0, kw_only=True)
    k_decay: Positive = field(default=1.0, kw_only=True)

    def at(self, epoch: float) -> float:
        elapsed, duration = epoch, epochs(self.duration)
        if self.k_decay != 1:
            elapsed = math.pow(epoch / duration, self.k_decay) * duration
        height = half_cosine(elapsed, duration)
        if self.exponent != 1:
            height = math.pow(height, self.exponent)
        return blend(self.initial, self.final, height, self.version)
