"""Closed-loop families that react when the validation metric stops improving."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, cast

from schedsearch.schedules.base import Feedback, Schedule, State
from schedsearch.schedules.durations import Interval, epochs
from schedsearch.schedules.improvement import ThresholdMode, is_improvement, reject_overflow
from schedsearch.schedules.parameters import EpochCount, NonNegative, Number, OpenFraction


@dataclass(frozen=True, kw_only=True, repr=False)
class PlateauSchedule(Schedule):
    """The base class of the plateau families: it detects plateaus of the validation metric.

    An epoch is bad if its metric does not improve on the best. More than `patience` bad epochs in a
    row are a plateau. Bad epochs do not count during the `cooldown` epochs after a plateau.

    The rule is that of torch.optim.lr_scheduler.ReduceLROnPlateau with two differences. First, a
    relative threshold is `threshold * |best|`. For a positive best this is the rule of torch,
    best * (1 - threshold); for a constant negative metric, however, torch sees an improvement in
    every epoch, and with a threshold of 1 or more it never finds a first best. Second, an epoch
    with a metric that is not finite is ignored; torch counts it as bad (and -inf as a permanent
    best).
    """

    patience: EpochCount = 10
    cooldown: EpochCount = 0
    threshold: NonNegative = 1e-4
    threshold_mode: ThresholdMode = "rel"

    @property
    def is_open_loop(self) -> bool:
        return False

    @abstractmethod
    def on_plateau(self, state: State) -> State:
        """Return the entries of the state that change at a plateau."""

    def start(self, time: float = 0) -> State:
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


@dataclass(frozen=True, repr=False)
class ReduceOnPlateau(PlateauSchedule):
    """A decrease each time the validation metric stops improving.

    value <- max(value * factor, min_value)   after more than `patience` bad epochs in a row

    An epoch is bad if its metric does not improve on the best; the first metric is the first best.

    Args:
        initial: value at epoch 0, at least 0.
        factor: factor of each decrease, greater than 0 and less than 1.
        min_value: lower limit of a decrease.
        eps: smaller or equal decreases are skipped.
        patience: epochs, or a share of the horizon; with a constant metric, the first decrease
            comes after patience + 2 epochs.
        cooldown: epochs after a plateau without counting bad epochs, or a share of the horizon.
        threshold: minimum improvement on the best, else an epoch is bad.
        threshold_mode: "rel" (a fraction of abs(best)) or "abs" (in the unit of the metric).

    Source: torch.optim.lr_scheduler.ReduceLROnPlateau, with two differences. A relative threshold
    is a fraction of |best|, which is correct for negative metrics too. An epoch with a metric that
    is not finite is ignored; torch counts it as bad (-inf as the best).

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

    def start(self, time: float = 0) -> State:
        return {**super().start(time), "value": self.initial}

    def evaluate(self, state: State, peers: Mapping[str, float], fraction: float = 0) -> float:
        value: float = state["value"]
        return value

    def on_plateau(self, state: State) -> State:
        value = max(state["value"] * self.factor, self.min_value)
        return {"value": value} if state["value"] - value > self.eps else {}


@dataclass(frozen=True, repr=False)
class IncrementOnPlateau(PlateauSchedule):
    """An increment each time the validation metric stops improving.

    value(t) = initial + increment * (number of plateaus before epoch t)

    A plateau is more than `patience` bad epochs in a row: the rule of `reduce_on_plateau`.

    Args:
        initial: value at epoch 0.
        increment: added at each plateau, positive or negative.
        patience: epochs, or a share of the horizon; with a constant metric, the first plateau
            comes after patience + 2 epochs.
        cooldown: epochs after a plateau without counting bad epochs, or a share of the horizon.
        threshold: minimum improvement on the best, else an epoch is bad.
        threshold_mode: "rel" (a fraction of abs(best)) or "abs" (in the unit of the metric).

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

    def resolve(self, horizon: float, seed: int, interval: Interval = "epoch") -> Self:
        """Resolve the schedule; raise ParameterError if a value overflows within the horizon."""
        reject_overflow(self.family, self.initial, self.increment, horizon)
        return super().resolve(horizon, seed, interval)

    def start(self, time: float = 0) -> State:
        return {**super().start(time), "increments": 0}

    def evaluate(self, state: State, peers: Mapping[str, float], fraction: float = 0) -> float:
        increments: int = state["increments"]
        return self.initial + self.increment * increments

    def on_plateau(self, state: State) -> State:
        return {"increments": state["increments"] + 1}


@dataclass(frozen=True, repr=False)
class PlateauOver(PlateauSchedule):
    """An inner schedule that is scaled down at each plateau of the validation metric.

    value(t) = inner(t) * factor ** (number of plateaus before epoch t)

    A plateau is more than `patience` bad epochs in a row: the rule of `reduce_on_plateau`. The
    inner schedule continues during plateaus and receives all feedback.

    Args:
        inner: the schedule to scale.
        factor: factor at each plateau, greater than 0 and less than 1.
        patience: epochs, or a share of the horizon; with a constant metric, the first plateau
            comes after patience + 2 epochs.
        cooldown: epochs after a plateau without counting bad epochs, or a share of the horizon.
        threshold: minimum improvement on the best, else an epoch is bad.
        threshold_mode: "rel" (a fraction of abs(best)) or "abs" (in the unit of the metric).

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

    def start(self, time: float = 0) -> State:
        return {**super().start(time), "plateaus": 0, "inner": self.inner.start(time)}

    def evaluate(self, state: State, peers: Mapping[str, float], fraction: float = 0) -> float:
        # Only groups return a dict, and a group cannot be an inner schedule.
        inner = cast(float, self.inner.evaluate(state["inner"], peers, fraction))
        plateaus: int = state["plateaus"]
        return inner * self.factor**plateaus

    def update(self, state: State, feedback: Feedback) -> State:
        inner = self.inner.update(state["inner"], feedback)
        return {**super().update(state, feedback), "inner": inner}

    def on_plateau(self, state: State) -> State:
        return {"plateaus": state["plateaus"] + 1}
