"""Combinators that calculate with the values of schedules: a constant added, a sum, a product."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

from schedsearch.schedules.base import Feedback, Schedule, State
from schedsearch.schedules.combinators import Wrapper, finite, finite_product, inner_value
from schedsearch.schedules.parameters import Number


@dataclass(frozen=True)
class Offset(Wrapper):
    """An inner schedule plus a constant.

    value(t) = inner(t) + amount

    Args:
        inner: the schedule to shift.
        amount: any finite number.

    >>> from schedsearch.schedules import InverseTime
    >>> schedule = Offset(InverseTime(initial=-1.0, decay_rate=1.0), amount=1.0)
    >>> [schedule.evaluate({"epoch": t}, {}) for t in (0, 1, 3)]
    [0.0, 0.5, 0.75]
    """

    amount: Number

    def evaluate(self, state: State, peers: Mapping[str, float], fraction: float = 0) -> float:
        return finite(inner_value(self.inner, state, peers, fraction) + self.amount)


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class Product(_Combination):
    """The product of several schedules.

    value(t) = schedules[0](t) * schedules[1](t) * ...

    Args:
        schedules: at least two schedules.

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


@dataclass(frozen=True)
class Sum(_Combination):
    """The sum of several schedules.

    value(t) = schedules[0](t) + schedules[1](t) + ...

    Args:
        schedules: at least two schedules.

    >>> from schedsearch.schedules import Constant, Linear
    >>> schedule = Sum((Constant(0.25), Linear(0.5, 0.0, duration=2)))
    >>> state = schedule.update(schedule.start(), Feedback(metric=1.0))
    >>> schedule.evaluate(state, {})
    0.5
    """

    def evaluate(self, state: State, peers: Mapping[str, float], fraction: float = 0) -> float:
        return finite(sum(self.values(state, peers, fraction)))
