"""Combinators that calculate with the values of schedules: an offset, a sum, a product, noise."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from statistics import NormalDist

from schedsearch.schedules.base import Feedback, Schedule, SeededSchedule, State
from schedsearch.schedules.combinators import Wrapper, finite, finite_product, inner_value
from schedsearch.schedules.durations import epochs, has_passed
from schedsearch.schedules.parameters import EpochCount, Number, OpenFraction


@dataclass(frozen=True, repr=False)
class Offset(Wrapper):
    """An inner schedule plus a constant.

    value(t) = inner(t) + amount

    Args:
        inner: the schedule to shift.
        amount: any finite number.

    Source: with `inverse_time`, the decay of the moving average of the weights in ModelEmaV3 of
    timm, `1 - (1 + t / g) ** -p`; with `coupled`, the momentum of Smith 2018 (arXiv 1803.09820),
    which falls while the learning rate rises.

    >>> from schedsearch.schedules import InverseTime
    >>> schedule = Offset(InverseTime(initial=-1.0, decay_rate=1.0), amount=1.0)
    >>> [schedule.evaluate({"epoch": t}, {}) for t in (0, 1, 3)]
    [0.0, 0.5, 0.75]
    """

    amount: Number

    def evaluate(self, state: State, peers: Mapping[str, float], fraction: float = 0) -> float:
        return finite(inner_value(self.inner, state, peers, fraction) + self.amount)


@dataclass(frozen=True, repr=False)
class _Combination(Schedule):
    """Schedules that run side by side, each with its state and all feedback."""

    schedules: tuple[Schedule, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.schedules) < 2:
            raise self.parameter_error("schedules", "at least two schedules")

    def start(self, time: float = 0) -> State:
        return {"inner": [schedule.start(time) for schedule in self.schedules]}

    def update(self, state: State, feedback: Feedback) -> State:
        pairs = zip(self.schedules, state["inner"], strict=True)
        return {"inner": [schedule.update(inner, feedback) for schedule, inner in pairs]}

    def values(self, state: State, peers: Mapping[str, float], fraction: float) -> list[float]:
        """Return the values of the schedules."""
        pairs = zip(self.schedules, state["inner"], strict=True)
        return [inner_value(schedule, inner, peers, fraction) for schedule, inner in pairs]


@dataclass(frozen=True, repr=False)
class Product(_Combination):
    """The product of several schedules.

    value(t) = schedules[0](t) * schedules[1](t) * ...

    Args:
        schedules: at least two schedules.

    Source: torch.optim.lr_scheduler.ChainedScheduler, for schedulers that multiply by a factor.

    >>> from schedsearch.schedules import Exponential, Linear
    >>> schedule = Product((Linear(1.0, 0.0, duration=4), Exponential(1.0, 0.5)))
    >>> state, values = schedule.start(), []
    >>> for _ in range(3):
    ...     values.append(schedule.evaluate(state, {}))
    ...     state = schedule.update(state, Feedback(metric=1.0))
    >>> values
    [1.0, 0.375, 0.125]
    """

    def evaluate(self, state: State, peers: Mapping[str, float], fraction: float = 0) -> float:
        return reduce(finite_product, self.values(state, peers, fraction))


@dataclass(frozen=True, repr=False)
class Sum(_Combination):
    """The sum of several schedules.

    value(t) = schedules[0](t) + schedules[1](t) + ...

    Args:
        schedules: at least two schedules.

    Source: numpy.add; CosineLRScheduler of timm with `warmup_t` is such a sum.

    >>> from schedsearch.schedules import Constant, Linear
    >>> schedule = Sum((Constant(0.25), Linear(0.5, 0.0, duration=2)))
    >>> state = schedule.update(schedule.start(), Feedback(metric=1.0))
    >>> schedule.evaluate(state, {})
    0.5
    """

    def evaluate(self, state: State, peers: Mapping[str, float], fraction: float = 0) -> float:
        return finite(sum(self.values(state, peers, fraction)))


@dataclass(frozen=True, repr=False)
class Noise(SeededSchedule):
    """An inner schedule with random relative noise that changes each epoch.

    value(t) = inner(t) * (1 + n(floor(t)))

    with n from the standard normal distribution between -limit and limit. The noise of an epoch
    depends only on the seed of the run, on the hyperparameter and on the epoch.

    Args:
        inner: the schedule to disturb.
        limit: the greatest noise, greater than 0 and less than 1.
        begin: epochs without noise at first, or a share of the horizon.

    Source: `noise_range_t` of the schedulers in timm, with their default `noise_std`; they have
    other random numbers, and their noise may end.

    >>> from schedsearch.schedules import Constant
    >>> schedule = Noise(Constant(1.0), limit=0.5, begin=1).resolve(3, seed=7)
    >>> state, values = schedule.start(), []
    >>> for _ in range(3):
    ...     values.append(round(schedule.evaluate(state, {}), 3))
    ...     state = schedule.update(state, Feedback(metric=1.0))
    >>> values
    [1.0, 1.031, 0.674]
    """

    inner: Schedule
    limit: OpenFraction = 0.67
    begin: EpochCount = 0

    def start(self, time: float = 0) -> State:
        return {"epoch": time, "inner": self.inner.start(time)}

    def evaluate(self, state: State, peers: Mapping[str, float], fraction: float = 0) -> float:
        value = inner_value(self.inner, state["inner"], peers, fraction)
        if not has_passed(epochs(self.begin), state["epoch"]):
            return value
        noise = _truncated_normal(f"noise:{self.seed}:{math.floor(state['epoch'])}", self.limit)
        return finite_product(1 + noise, value)

    def update(self, state: State, feedback: Feedback) -> State:
        inner = self.inner.update(state["inner"], feedback)
        return {"epoch": state["epoch"] + 1, "inner": inner}


def _truncated_normal(seed: str, limit: float) -> float:
    """Return a random number from the standard normal distribution between -limit and limit."""
    normal = NormalDist()
    low = normal.cdf(-limit)
    number = normal.inv_cdf(low + (1 - 2 * low) * random.Random(seed).random())
    return min(max(number, -limit), limit)
