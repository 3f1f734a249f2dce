"""Closed-loop families that control one loss term by its weight: GECO and a PI controller."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

from schedsearch.schedules.base import Feedback, Schedule, State, check_initial_value
from schedsearch.schedules.parameters import Fraction, NonNegative, NonZero, Number, Positive

#: The largest argument of `exp`: e ** 700 is still finite.
_LARGEST_EXPONENT = 700.0


@dataclass(frozen=True, repr=False)
class _TermController(Schedule):
    """A schedule that depends on one loss term; an epoch without a finite mean changes nothing."""

    term: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.term:
            raise self.parameter_error("term", "the name of a loss term")

    @abstractmethod
    def control(self, state: State, term: float) -> State:
        """Return the state after an epoch with this mean of the term."""

    def evaluate(self, state: State, peers: Mapping[str, float], fraction: float = 0) -> float:
        value: float = state["value"]
        return value

    def update(self, state: State, feedback: Feedback) -> State:
        term = feedback.terms.get(self.term, math.nan)
        return self.control(state, term) if math.isfinite(term) else state


@dataclass(frozen=True, repr=False)
class Geco(_TermController):
    """The Lagrange multiplier of the constraint that a loss term is at most a tolerance.

    average <- smoothing * average + (1 - smoothing) * term       (at first: the term itself)
    value   <- value * exp(speed * (average - tolerance)),        from `min_value` to `max_value`

    The weight of the constrained term grows while its moving average is above the tolerance and
    shrinks while it is below. With a negative rate it is the reverse, for the weight of another
    term: it grows while the constraint is met. `speed` is `rate`, and `rate * speedup` while the
    average is below the tolerance. An epoch without a finite mean of the term changes nothing.

    Args:
        term: the constrained loss term.
        tolerance: upper limit for the term, in the unit of the term.
        rate: growth of log(weight) per epoch and unit of the term, positive or negative.
        smoothing: fraction of the past in the moving average, from 0 (none) to 1.
        initial: value at epoch 0, from `min_value` to `max_value`.
        min_value: lower limit.
        max_value: upper limit.
        speedup: factor on the rate while the constraint is met, greater than 0.

    Source: Rezende and Viola 2018, "Taming VAEs", algorithm 1, once per epoch instead of per step;
    the speed-up and the weight of the other term as in GENESIS (Engelcke et al. 2020).
    The smoothing of the paper is 0.99 per step; the mean over an epoch is already an average.

    >>> schedule = Geco(term="reconstruction", tolerance=1.0, rate=0.5, smoothing=0.0)
    >>> state = schedule.update(schedule.start(), Feedback(0.0, terms={"reconstruction": 3.0}))
    >>> round(schedule.evaluate(state, {}), 6)
    2.718282
    """

    tolerance: Number
    rate: NonZero
    smoothing: Fraction = 0.5
    initial: Positive = 1.0
    min_value: Positive = 1e-6
    max_value: Positive = 1e6
    speedup: Positive = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_initial_value(self, self.initial, self.min_value, self.max_value)

    def start(self, time: float = 0) -> State:
        return {"value": self.initial, "average": None}

    def control(self, state: State, term: float) -> State:
        past = term if state["average"] is None else state["average"]
        average = self.smoothing * past + (1 - self.smoothing) * term
        exponent = self.rate * (average - self.tolerance)
        if average < self.tolerance:
            exponent *= self.speedup
        growth = math.exp(min(max(exponent, -_LARGEST_EXPONENT), _LARGEST_EXPONENT))
        value = min(max(state["value"] * growth, self.min_value), self.max_value)
        return {"value": value, "average": average}


@dataclass(frozen=True, repr=False)
class Pi(_TermController):
    """A proportional-integral controller that keeps a loss term at a set point by its weight.

    error    = set_point - term
    integral <- integral - integral_gain * error,    from 0 to max_value - min_value
    value    <- min_value + proportional_gain / (1 + exp(error)) + integral,    up to max_value

    The weight grows while the term is above the set point and shrinks while it is below. The
    integral starts at initial - min_value. An epoch without a finite mean of the term changes
    nothing.

    Args:
        term: the controlled loss term, for instance the KL divergence.
        set_point: target of the term, in the unit of the term.
        proportional_gain: the largest proportional part.
        integral_gain: change of the weight per epoch and unit of the term.
        initial: value at epoch 0, from `min_value` to `max_value`.
        min_value: lower limit, at least 0.
        max_value: upper limit.

    Source: Shao et al. 2020, "ControlVAE", once per epoch instead of per step (the gains of the
    paper, 0.01 and 0.0001, are per step). To prevent wind-up, the paper stops integrating while the
    weight is out of its range; here the integral is clamped to the range.

    >>> schedule = Pi("kl", set_point=10.0, proportional_gain=0.5, integral_gain=0.01)
    >>> state = schedule.update(schedule.start(), Feedback(0.0, terms={"kl": 10.0}))
    >>> schedule.evaluate(state, {})
    0.25
    """

    set_point: Number
    proportional_gain: Positive
    integral_gain: Positive
    initial: NonNegative = 0.0
    min_value: NonNegative = 0.0
    max_value: Positive = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_initial_value(self, self.initial, self.min_value, self.max_value)

    def start(self, time: float = 0) -> State:
        return {"value": self.initial, "integral": self.initial - self.min_value}

    def control(self, state: State, term: float) -> State:
        error = self.set_point - term
        # The logistic function, computed with tanh because exp could overflow.
        proportional = self.proportional_gain * (1 - math.tanh(error / 2)) / 2
        integral = state["integral"] - self.integral_gain * error
        integral = min(max(integral, 0.0), self.max_value - self.min_value)
        value = min(self.min_value + proportional + integral, self.max_value)
        return {"value": value, "integral": integral}
