"""Closed-loop families that react when the validation metric improves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeAlias

from schedsearch.errors import ParameterError
from schedsearch.schedules.base import Feedback, Schedule, State, check_initial_value
from schedsearch.schedules.durations import Interval, epochs
from schedsearch.schedules.parameters import (
    EpochCount,
    NonNegative,
    Number,
    OpenFraction,
    Positive,
    PositiveCount,
    is_finite,
)

#: Whether a threshold is relative to |best|, or absolute in the unit of the metric.
ThresholdMode: TypeAlias = Literal["rel", "abs"]


def is_improvement(
    metric: float, best: float | None, threshold: float, mode: ThresholdMode
) -> bool:
    """Return whether a metric improves on the best so far; the first metric always does.

    metric < best - threshold * |best|   (rel)
    metric < best - threshold            (abs)

    >>> is_improvement(0.8, 1.0, 0.1, "rel"), is_improvement(-1.0, -1.0, 0.1, "rel")
    (True, False)
    """
    if best is None:
        return True
    if mode == "abs":
        return metric < best - threshold
    # The expression of torch, so that a positive best gives bitwise the same comparison.
    return metric < best * (1.0 - math.copysign(threshold, best))


def reject_overflow(family: str, initial: float, increment: float, horizon: float) -> None:
    """Raise ParameterError if the value overflows with one increment in each epoch."""
    if not is_finite(initial + horizon * increment):
        rule = f"such that no value overflows ({horizon} increments from {initial!r} do)"
        raise ParameterError(family, "increment", increment, rule)


@dataclass(frozen=True, repr=False)
class IncrementOnImprovement(Schedule):
    """An increment each time the validation metric improves on its best value.

    value(t) = initial + increment * (number of new bests before epoch t)

    The first metric is the first best. An epoch with a metric that is not finite changes nothing.

    Args:
        initial: value at epoch 0.
        increment: added at each new best, positive or negative.
        threshold: minimum improvement on the best that counts as a new best.
        threshold_mode: "rel" (a fraction of abs(best)) or "abs" (in the unit of the metric).

    >>> schedule = IncrementOnImprovement(initial=0.2, increment=0.01)
    >>> state = schedule.start()
    >>> for metric in (0.9, 0.95, 0.8):
    ...     state = schedule.update(state, Feedback(metric))
    >>> schedule.evaluate(state, {})
    0.22
    """

    initial: Number
    increment: Number
    threshold: NonNegative = 0.0
    threshold_mode: ThresholdMode = "rel"

    def resolve(self, horizon: float, seed: int, interval: Interval = "epoch") -> Self:
        """Resolve the schedule; raise ParameterError if a value overflows within the horizon."""
        reject_overflow(self.family, self.initial, self.increment, horizon)
        return super().resolve(horizon, seed, interval)

    def start(self, time: float = 0) -> State:
        return {"best": None, "increments": 0}

    def evaluate(self, state: State, peers: Mapping[str, float], fraction: float = 0) -> float:
        increments: int = state["increments"]
        return self.initial + self.increment * increments

    def update(self, state: State, feedback: Feedback) -> State:
        metric = feedback.metric
        if not math.isfinite(metric):
            return state
        if not is_improvement(metric, state["best"], self.threshold, self.threshold_mode):
            return state
        return {"best": metric, "increments": state["increments"] + 1}


@dataclass(frozen=True, repr=False)
class Greedy(Schedule):
    """An increase while the validation metric improves, a decrease while it does not.

    value <- min(value / factor, max_value)   after more than `patience` good epochs in a row
    value <- max(value * factor, min_value)   after more than `patience` bad epochs in a row

    An epoch is good if its metric improves on the best, else bad. The metric is ignored for
    `warmup` epochs after an increase and for `cooldown` epochs after a decrease. After
    `reset_after` decreases to `min_value` since the last increase, the value, the best metric and
    all counts are reset.

    Args:
        initial: value at epoch 0, from `min_value` to `max_value`.
        min_value: lower limit.
        max_value: upper limit.
        factor: a decrease multiplies by it, an increase divides by it; greater than 0, less than 1.
        patience: epochs, or a share of the horizon; 0 reacts to every epoch.
        warmup: epochs without a reaction after an increase, or a share of the horizon.
        cooldown: epochs without a reaction after a decrease, or a share of the horizon.
        threshold: minimum improvement on the best that makes an epoch good.
        threshold_mode: "rel" (a fraction of abs(best)) or "abs" (in the unit of the metric).
        reset_after: number of decreases to `min_value` before a reset, at least 1.
        eps: smaller or equal changes of the value are skipped.

    Source: GreedyLR (arXiv 2512.14527, "Dynamic Learning Rate Scheduling based on Loss Changes
    Leads to Faster Convergence") as in transformers.GreedyLR, with one validation metric per epoch
    and without the moving average of its `smooth`. There are two differences. A relative threshold
    is a fraction of |best|, which is correct for negative metrics too. An epoch with a metric that
    is not finite is ignored; transformers counts it as bad (-inf as good).

    >>> schedule = Greedy(0.1, min_value=0.01, max_value=1.0, factor=0.5, patience=1)
    >>> state, values = schedule.start(), []
    >>> for metric in (0.9, 0.8, 0.8, 0.8, 0.8):
    ...     state = schedule.update(state, Feedback(metric))
    ...     values.append(schedule.evaluate(state, {}))
    >>> values
    [0.1, 0.2, 0.2, 0.1, 0.1]
    """

    initial: Positive
    min_value: NonNegative
    max_value: Positive
    factor: OpenFraction = 0.95
    patience: EpochCount = 10
    warmup: EpochCount = 0
    cooldown: EpochCount = 0
    threshold: NonNegative = 1e-6
    threshold_mode: ThresholdMode = "abs"
    reset_after: PositiveCount = 500
    eps: NonNegative = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        check_initial_value(self, self.initial, self.min_value, self.max_value)

    def start(self, time: float = 0) -> State:
        return {
            "value": self.initial,
            "best": None,
            "good_epochs": 0,
            "bad_epochs": 0,
            "wait": 0,
            "cuts_at_minimum": 0,
        }

    def evaluate(self, state: State, peers: Mapping[str, float], fraction: float = 0) -> float:
        value: float = state["value"]
        return value

    def update(self, state: State, feedback: Feedback) -> State:
        metric = feedback.metric
        if not math.isfinite(metric):
            return state
        if state["wait"] > 0:
            return {**state, "wait": state["wait"] - 1}
        if is_improvement(metric, state["best"], self.threshold, self.threshold_mode):
            good, bad, best = state["good_epochs"] + 1, 0, metric
        else:
            good, bad, best = 0, state["bad_epochs"] + 1, state["best"]
        counted = {**state, "best": best, "good_epochs": good, "bad_epochs": bad}
        if good > epochs(self.patience):
            return self._increased(counted)
        return self._decreased(counted) if bad > epochs(self.patience) else counted

    def _increased(self, state: State) -> State:
        value = min(state["value"] / self.factor, self.max_value)
        return {
            **state,
            "value": value if value - state["value"] > self.eps else state["value"],
            "good_epochs": 0,
            "wait": epochs(self.warmup),
            "cuts_at_minimum": 0,
        }

    def _decreased(self, state: State) -> State:
        value = max(state["value"] * self.factor, self.min_value)
        value = value if state["value"] - value > self.eps else state["value"]
        at_minimum = state["cuts_at_minimum"] + (value <= self.min_value)
        after: dict[str, Any] = {**state, "value": value, "cuts_at_minimum": at_minimum}
        if at_minimum >= self.reset_after:
            after = dict(self.start())
        return {**after, "bad_epochs": 0, "wait": epochs(self.cooldown)}
