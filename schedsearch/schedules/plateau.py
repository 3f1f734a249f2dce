"""Closed-loop families that act when the validation metric has stopped improving."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, cast

from schedsearch.schedules.base import Feedback, Schedule, State
from schedsearch.schedules.improvement import ThresholdMode, is_improvement, reject_overflow
from schedsearch.schedules.parameters import (
    NonNegative,
    NonNegativeDuration,
    Number,
    OpenFraction,
    epochs,
)


@dataclass(frozen=True, kw_only=True)
class PlateauSchedule(Schedule):
    """What the plateau families share: when a plateau is reached.

    An epoch is bad if its metric does not improve on the best. More than `patience` bad epochs in a
    row are a plateau; `cooldown` epochs follow in which bad epochs do not count.

    The rule is that of torch.optim.lr_scheduler.ReduceLROnPlateau, to the letter but for two cases.
    A relative threshold is `threshold * |best|`, the same for a positive best; torch's, best * (1 -
    threshold), takes a constant negative metric for an endless improvement (and finds no first best
    at a threshold of 1 or more). And an epoch whose metric is not finite is passed over as if it
    had not been, where torch counts it as bad (and -inf as the best for ever).
    """

    patience: NonNegativeDuration = 10
    cooldown: NonNegativeDuration = 0
    threshold: NonNegative = 1e-4
    threshold_mode: ThresholdMode = "rel"

    @abstractmethod
    def on_plateau(self, state: State) -> State:
        """Return the part of the state that a plateau changes."""

    def start(self) -> State:
        return {"best": None, "bad_epochs": 0, "cooldown": 0}

    def update(self, state: State, feedback: Feedback) -> State:
        metric = feedback.metric
        if not math.isfinite(metric):
            return state
        better = is_improvement(metric, state["best"], self.threshold, self.threshold_mode)
        bad_epochs = 0 if better or state["cooldown"] else state["bad_epochs"] + 1
        after = {
            **state,
            "best": metric if better else state["best"],
            "bad_epochs": bad_epochs,
            "cooldown": max(state["cooldown"] - 1, 0),
        }
        if bad_epochs <= epochs(self.patience):
            return after
        return {
            **after,
            **self.on_plateau(state),
            "bad_epochs": 0,
            "cooldown": epochs(self.cooldown),
        }


@dataclass(frozen=True)
class ReduceOnPlateau(PlateauSchedule):
    """A cut each time the validation metric has stopped improving.

    value <- max(value * factor, min_value)   after more than `patience` bad epochs in a row

    An epoch is bad if its metric does not improve on the best; the first metric is the first best.

    Args:
        initial: value at epoch 0, at least 0.
        factor: of a cut, greater than 0 and less than 1.
        min_value: the least value that a cut leads to.
        eps: a cut by no more than this is not made.
        patience: epochs, or a share of the horizon; a constant metric is cut after patience + 2.
        cooldown: epochs after a plateau in which bad ones do not count, or a share of the horizon.
        threshold: how much better than the best counts as better.
        threshold_mode: "rel", a share of the best's size, or "abs", in the metric's unit.

    Source: torch.optim.lr_scheduler.ReduceLROnPlateau. Ours differs in that a relative threshold is
    a share of |best|, right for negative metrics too, and that an epoch whose metric is not finite
    is neither better nor worse: it is passed over, where torch counts it as bad (-inf as best).

    >>> schedule = ReduceOnPlateau(initial=1.0, factor=0.5, patience=1)
    >>> state, values = schedule.start(), []
    >>> for metric in (0.9, 0.9, 0.9, 0.8):
    ...     state = schedule.update(state, Feedback(metric))
    ...     values.append(schedule.evaluate(state, {}))
    >>> values
    [1.0, 1.0, 0.5, 0.5]
    """

    initial: NonNegative
    factor: OpenFraction = 0.1
    min_value: NonNegative = 0.0
    eps: NonNegative = 1e-8

    def start(self) -> State:
        return {**super().start(), "value": self.initial}

    def evaluate(self, state: State, peers: Mapping[str, float]) -> float:
        value: float = state["value"]
        return value

    def on_plateau(self, state: State) -> State:
        value = max(state["value"] * self.factor, self.min_value)
        return {"value": value} if state["value"] - value > self.eps else {}


@dataclass(frozen=True)
class IncrementOnPlateau(PlateauSchedule):
    """An increment each time the validation metric has stopped improving.

    value(t) = initial + increment * (number of plateaus before epoch t)

    A plateau is more than `patience` bad epochs in a row: the rule of `reduce_on_plateau`.

    Args:
        initial: value at epoch 0.
        increment: what each plateau adds, of either sign.
        patience: epochs, or a share of the horizon; a constant metric is a plateau after
            patience + 2.
        cooldown: epochs after a plateau in which bad ones do not count, or a share of the horizon.
        threshold: how much better than the best counts as better.
        threshold_mode: "rel", a share of the best's size, or "abs", in the metric's unit.

    >>> schedule = IncrementOnPlateau(initial=0.0, increment=0.25, patience=1)
    >>> state, values = schedule.start(), []
    >>> for metric in (0.9, 0.9, 0.9, 0.9, 0.9):
    ...     state = schedule.update(state, Feedback(metric))
    ...     values.append(schedule.evaluate(state, {}))
    >>> values
    [0.0, 0.0, 0.25, 0.25, 0.5]
    """

    initial: Number
    increment: Number

    def resolve(self, horizon: int, seed: int) -> Self:
        """Resolve, and refuse increments that overflow within the horizon."""
        reject_overflow(self.family, self.initial, self.increment, horizon)
        return super().resolve(horizon, seed)

    def start(self) -> State:
        return {**super().start(), "increments": 0}

    def evaluate(self, state: State, peers: Mapping[str, float]) -> float:
        increments: int = state["increments"]
        return self.initial + self.increment * increments

    def on_plateau(self, state: State) -> State:
        return {"increments": state["increments"] + 1}


@dataclass(frozen=True)
class PlateauOver(PlateauSchedule):
    """An inner schedule, scaled down at each plateau of the validation metric.

    value(t) = inner(t) * factor ** (number of plateaus before epoch t)

    A plateau is more than `patience` bad epochs in a row: the rule of `reduce_on_plateau`. The
    inner schedule goes on through them, and sees all of the feedback.

    Args:
        inner: the schedule to scale.
        factor: of each plateau, greater than 0 and less than 1.
        patience: epochs, or a share of the horizon; a constant metric is a plateau after
            patience + 2.
        cooldown: epochs after a plateau in which bad ones do not count, or a share of the horizon.
        threshold: how much better than the best counts as better.
        threshold_mode: "rel", a share of the best's size, or "abs", in the metric's unit.

    Source: thinc's `plateau`, with the rule of torch.optim.lr_scheduler.ReduceLROnPlateau.

    >>> from schedsearch.schedules import Linear
    >>> schedule = PlateauOver(Linear(initial=1.0, final=0.0, duration=4), factor=0.5, patience=0)
    >>> state, values = schedule.start(), []
    >>> for metric in (0.9, 0.9, 0.8):
    ...     state = schedule.update(state, Feedback(metric))
    ...     values.append(schedule.evaluate(state, {}))
    >>> values
    [0.75, 0.25, 0.125]
    """

    inner: Schedule
    factor: OpenFraction

    def start(self) -> State:
        return {**super().start(), "plateaus": 0, "inner": self.inner.start()}

    def evaluate(self, state: State, peers: Mapping[str, float]) -> float:
        # A dict comes from groups alone, and those are refused as inner schedules.
        inner = cast(float, self.inner.evaluate(state["inner"], peers))
        plateaus: int = state["plateaus"]
        return inner * self.factor**plateaus

    def update(self, state: State, feedback: Feedback) -> State:
        inner = self.inner.update(state["inner"], feedback)
        return {**super().update(state, feedback), "inner": inner}

    def on_plateau(self, state: State) -> State:
        return {"plateaus": state["plateaus"] + 1}
