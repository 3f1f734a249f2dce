"""Combinators: schedules that contain other schedules.

Inner schedules may be closed loop: their states are nested, and they receive the feedback. Each
combinator sets one hyperparameter, so a group schedule cannot be an inner schedule.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Self, cast

from schedsearch.errors import ParameterError
from schedsearch.schedules.base import Feedback, Schedule, State
from schedsearch.schedules.durations import (
    Interval,
    duration_size,
    epochs,
    has_passed,
    is_same_time,
)
from schedsearch.schedules.interpolation import interpolate_linear
from schedsearch.schedules.open_loop import OpenLoop, broken_overflow_rule
from schedsearch.schedules.parameters import Duration, Fraction, Number


@dataclass(frozen=True, repr=False)
class Warmup(Schedule):
    """A linear ramp to the first value of an inner schedule, then the inner schedule itself.

    value(t) = inner(0) * (factor + (1 - factor) * t / duration),   t < duration
               inner(t - duration),                                 t >= duration

    The inner schedule starts after the ramp and receives no feedback before. Its shares of the
    horizon are shares of the epochs after the ramp. A closed-loop one that starts within an epoch
    holds its first value until the end of that epoch, whose feedback it receives.

    Args:
        inner: the schedule to warm up.
        duration: epochs of the ramp, or a share of the horizon: below 100 % it leaves the inner
            schedule an epoch, and from 100 % on the inner schedule never begins.
        factor: first value as a fraction of the first value of the inner schedule, from 0 to 1.

    Source: Goyal et al. 2017; LinearLR and SequentialLR in torch.optim.lr_scheduler.

    >>> from schedsearch.schedules import Exponential
    >>> schedule = Warmup(Exponential(initial=1.0, decay_rate=0.5), duration=2, factor=0.0)
    >>> state, values = schedule.start(), []
    >>> for _ in range(5):
    ...     values.append(schedule.evaluate(state, {}))
    ...     state = schedule.update(state, Feedback(metric=1.0))
    >>> values
    [0.0, 0.5, 1.0, 0.5, 0.25]
    """

    beginnings = "duration"

    inner: Schedule
    duration: Duration = "10%"
    factor: Fraction = 0.1

    def resolve(self, horizon: float, seed: int, interval: Interval = "epoch") -> Self:
        [duration] = self._resolved_boundaries("duration", (self.duration,), horizon, interval)
        inner = self.inner.resolve(_remaining(horizon, duration), seed, interval)
        return replace(self, duration=duration, inner=inner)

    @property
    def moves_within_epoch(self) -> bool:
        return True

    def start(self, time: float = 0) -> State:
        return {"epoch": time, "inner": self.inner.start()}

    def evaluate(self, state: State, peers: Mapping[str, float], fraction: float = 0) -> float:
        time, duration = state["epoch"] + fraction, epochs(self.duration)
        if has_passed(duration, time):
            return inner_value(self.inner, self._inner_state(state), peers, fraction)
        ramp = interpolate_linear(self.factor, 1.0, max(time, 0), duration, self.version)
        return inner_value(self.inner, self.inner.start(), peers) * ramp

    def _inner_state(self, state: State) -> State:
        """Return the state of the inner schedule in an epoch in which its ramp ends, or later."""
        if has_passed(epochs(self.duration), state["epoch"]):
            inner: State = state["inner"]
            return inner
        return self.inner.start(state["epoch"] - epochs(self.duration))

    def update(self, state: State, feedback: Feedback) -> State:
        end, inner = state["epoch"] + 1, state["inner"]
        if not has_passed(end, epochs(self.duration)):
            inner = self.inner.update(self._inner_state(state), feedback)
        return {"epoch": end, "inner": inner}


@dataclass(frozen=True, repr=False)
class Join(Schedule):
    """A sequence of schedules, each counting epochs from its own start.

    value(t) = schedules[k](t - boundaries[k - 1]),  k the number of boundaries <= t

    The first schedule starts at epoch 0. Each schedule receives the feedback of its own epochs
    only, and its shares of the horizon are shares of those epochs. The feedback of an epoch with a
    boundary goes to the schedule at its end. Each schedule has at least one epoch if boundaries are
    shares below 100 % and there is room; one whose boundary is the horizon never begins. If they
    mix epochs and shares, a later boundary may fall before an earlier one; the schedule between
    them is skipped.

    Args:
        schedules: at least two schedules, in order.
        boundaries: first epoch of the second and each later schedule, or a share of the horizon.

    Source: optax.join_schedules; torch.optim.lr_scheduler.SequentialLR.

    >>> from schedsearch.schedules import Constant, Linear
    >>> schedule = Join((Constant(1.0), Linear(0.5, 0.0)), boundaries=("50%",)).resolve(4, seed=0)
    >>> state, values = schedule.start(), []
    >>> for _ in range(5):
    ...     values.append(schedule.evaluate(state, {}))
    ...     state = schedule.update(state, Feedback(metric=1.0))
    >>> values
    [1.0, 1.0, 0.5, 0.25, 0.0]
    """

    beginnings = "boundaries"

    schedules: tuple[Schedule, ...]
    boundaries: tuple[Duration, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.schedules) < 2:
            raise self.parameter_error("schedules", "at least two schedules")
        if len(self.boundaries) != len(self.schedules) - 1:
            raise self.parameter_error(
                "boundaries", "one boundary between each schedule and the next"
            )
        for is_share in (False, True):
            ends = [duration_size(b) for b in self.boundaries if isinstance(b, str) == is_share]
            if any(later < earlier for earlier, later in pairwise(ends)):
                raise self.parameter_error("boundaries", "in ascending order")

    def resolve(self, horizon: float, seed: int, interval: Interval = "epoch") -> Self:
        ends = self._resolved_boundaries("boundaries", self.boundaries, horizon, interval)
        schedules = tuple(
            schedule.resolve(_remaining(stop, start), seed, interval)
            for schedule, start, stop in zip(
                self.schedules, (0, *ends), (*ends, horizon), strict=True
            )
        )
        return replace(self, schedules=schedules, boundaries=ends)

    @property
    def moves_within_epoch(self) -> bool:
        return True

    def start(self, time: float = 0) -> State:
        return {"epoch": time, "inner": self.schedules[self._active(max(time, 0))].start(time)}

    def evaluate(self, state: State, peers: Mapping[str, float], fraction: float = 0) -> float:
        active = self._active(max(state["epoch"] + fraction, 0))
        return inner_value(
            self.schedules[active], self._inner_state(state, active), peers, fraction
        )

    def update(self, state: State, feedback: Feedback) -> State:
        end = state["epoch"] + 1
        following = self._active(end)
        if following and is_same_time(self._begin(following), end):
            return {"epoch": end, "inner": self.schedules[following].start()}
        inner = self._inner_state(state, following)
        return {"epoch": end, "inner": self.schedules[following].update(inner, feedback)}

    def _active(self, time: float) -> int:
        """Return the number of the schedule that sets the value at a time."""
        return sum(has_passed(epochs(boundary), time) for boundary in self.boundaries)

    def _begin(self, number: int) -> float:
        return epochs(self.boundaries[number - 1]) if number else 0

    def _inner_state(self, state: State, number: int) -> State:
        """Return the state, in an epoch, of a schedule that is active in it."""
        if number == self._active(max(state["epoch"], 0)):
            inner: State = state["inner"]
            return inner
        return self.schedules[number].start(state["epoch"] - self._begin(number))


@dataclass(frozen=True, repr=False)
class Wrapper(Schedule):
    """A schedule that uses the state of its inner schedule as its own."""

    inner: Schedule

    def start(self, time: float = 0) -> State:
        return self.inner.start(time)

    def update(self, state: State, feedback: Feedback) -> State:
        return self.inner.update(state, feedback)


@dataclass(frozen=True, repr=False)
class Scale(Wrapper):
    """An inner schedule multiplied by a constant factor.

    value(t) = factor * inner(t)

    Args:
        inner: the schedule to scale.
        factor: any finite number.

    >>> from schedsearch.schedules import Exponential
    >>> schedule = Scale(Exponential(initial=1.0, decay_rate=0.5), factor=10.0)
    >>> schedule.evaluate(schedule.start(), {})
    10.0
    """

    factor: Number

    def resolve(self, horizon: float, seed: int, interval: Interval = "epoch") -> Self:
        """Resolve the schedule; raise ParameterError if an open-loop value overflows."""
        resolved = super().resolve(horizon, seed, interval)
        inner = resolved.inner
        if isinstance(inner, OpenLoop):
            at = inner.at
            if rule := broken_overflow_rule(lambda time: self.factor * at(time), horizon, interval):
                raise ParameterError(self.family, "factor", self.factor, rule)
        return resolved

    def evaluate(self, state: State, peers: Mapping[str, float], fraction: float = 0) -> float:
        return finite_product(self.factor, inner_value(self.inner, state, peers, fraction))


@dataclass(frozen=True, repr=False)
class Clamp(Wrapper):
    """An inner schedule clamped to an interval.

    value(t) = min(max(inner(t), low), high)

    The inner schedule itself is not limited: if its value is far above `high`, it must fall below
    `high` before the clamped value changes.

    Args:
        inner: the schedule to clamp.
        low: lower limit.
        high: upper limit, at least `low`.

    >>> from schedsearch.schedules import Linear
    >>> schedule = Clamp(Linear(initial=2.0, final=0.0, duration=4), low=0.5, high=1.5)
    >>> schedule.evaluate(schedule.start(), {})
    1.5
    """

    low: Number
    high: Number

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low > self.high:
            raise self.parameter_error("low", f"at most `high`, which is {self.high!r}")

    def evaluate(self, state: State, peers: Mapping[str, float], fraction: float = 0) -> float:
        return min(max(inner_value(self.inner, state, peers, fraction), self.low), self.high)


@dataclass(frozen=True, repr=False)
class Coupled(Schedule):
    """The current value of another hyperparameter multiplied by a factor.

    value(t) = factor(t) * to(t)

    Args:
        factor: a schedule, for example a constant.
        to: the name of the other hyperparameter, for example `lr`. Its bounds apply first.

    >>> from schedsearch.schedules import Constant
    >>> schedule = Coupled(factor=Constant(10.0), to="lr")
    >>> schedule.evaluate(schedule.start(), {"lr": 0.5})
    5.0
    """

    factor: Schedule
    to: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.to:
            raise self.parameter_error("to", "the name of a hyperparameter")

    @property
    def dependencies(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((self.to, *super().dependencies)))

    def start(self, time: float = 0) -> State:
        return self.factor.start(time)

    def evaluate(self, state: State, peers: Mapping[str, float], fraction: float = 0) -> float:
        return finite_product(inner_value(self.factor, state, peers, fraction), peers[self.to])

    def update(self, state: State, feedback: Feedback) -> State:
        return self.factor.update(state, feedback)


def _remaining(end: float, begin: float) -> float:
    """Return the horizon of an inner schedule; of one that is never used, some horizon."""
    if isinstance(begin, int) and isinstance(end, int):
        return max(1, end - begin)
    return end - begin if end > begin else 1.0


def inner_value(
    schedule: Schedule, state: State, peers: Mapping[str, float], fraction: float = 0
) -> float:
    """Return the value of an inner schedule."""
    # Only groups return a dict, and a group cannot be an inner schedule.
    return cast(float, schedule.evaluate(state, peers, fraction))


def finite_product(factor: float, value: float) -> float:
    """Return a product clamped to the largest finite floats, so that no value is infinite."""
    return finite(factor * value)


def finite(value: float) -> float:
    """Return a value clamped to the largest finite floats."""
    return max(-sys.float_info.max, min(sys.float_info.max, value))
