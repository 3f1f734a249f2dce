"""Closed-loop families that balance the weights of several loss terms.

All weights start at 1. The weights of an epoch depend on the means of the terms over earlier
epochs. An epoch without a finite mean of every member changes nothing.
"""

from __future__ import annotations

import math
import random
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from schedsearch.schedules.base import Feedback, GroupSchedule, SeededSchedule, State
from schedsearch.schedules.parameters import Fraction, Number, Positive, PositiveFraction, is_finite

#: Replaces a denominator of 0.
_TINY = 1e-12
#: The largest logit; the difference of two logits must stay finite.
_LARGEST_LOGIT = 1e300


@dataclass(frozen=True, repr=False)
class _LossBalancing(GroupSchedule):
    """A group whose weights depend on the means of its loss terms."""

    @abstractmethod
    def rebalance(self, state: State, terms: Sequence[float]) -> State:
        """Return the state after an epoch with these means, in the order of the members."""

    def start(self, time: float = 0) -> State:
        return {"weights": [1.0] * len(self.members)}

    def evaluate(
        self, state: State, peers: Mapping[str, float], fraction: float = 0
    ) -> dict[str, float]:
        return dict(zip(self.members, state["weights"], strict=True))

    def update(self, state: State, feedback: Feedback) -> State:
        terms = [feedback.terms.get(term, math.nan) for term in self.terms]
        return self.rebalance(state, terms) if all(map(math.isfinite, terms)) else state


@dataclass(frozen=True, repr=False)
class Dwa(_LossBalancing):
    """Dynamic weight average: terms that decrease more slowly get larger weights.

    r_i       = L_i(t - 1) / L_i(t - 2)
    weight_i(t) = n * exp(r_i / temperature) / sum_j exp(r_j / temperature)

    with n terms and L_i(t) the mean of term i over epoch t. All weights are 1 in the first two
    epochs.

    Args:
        members: the weights, named weights.TERM.
        temperature: greater than 0; a higher temperature makes the weights more even.

    Source: Liu, Johns and Davison 2019, "End-to-End Multi-Task Learning with Attention",
    with its temperature of 2.

    >>> schedule = Dwa(members=("weights.a", "weights.b"), temperature=1.0)
    >>> state = schedule.start()
    >>> for a, b in ((1.0, 1.0), (1.0, 0.5)):
    ...     state = schedule.update(state, Feedback(0.0, terms={"a": a, "b": b}))
    >>> {name: round(weight, 3) for name, weight in schedule.evaluate(state, {}).items()}
    {'weights.a': 1.245, 'weights.b': 0.755}
    """

    temperature: Positive = 2.0

    def start(self, time: float = 0) -> State:
        return {**super().start(time), "last": None}

    def rebalance(self, state: State, terms: Sequence[float]) -> State:
        weights = state["weights"]
        if state["last"] is not None:
            weights = _relative_weights(terms, state["last"], self.temperature)
        return {"weights": weights, "last": list(terms)}


@dataclass(frozen=True, repr=False)
class Softadapt(_LossBalancing):
    """SoftAdapt: weights from the rate of change of each term relative to the others.

    s_i       = (L_i(t - 1) - L_i(t - 2)) / sum_j |L_j(t - 1) - L_j(t - 2)|
    weight_i(t) = n * exp(beta * s_i) / sum_j exp(beta * s_j)

    with n terms and L_i(t) the mean of term i over epoch t. All weights are 1 in the first two
    epochs, and after two epochs in which no term changes.

    Args:
        members: the weights, named weights.TERM.
        beta: the term that decreases least gets the largest weight if beta > 0, the one that
            decreases most if beta < 0; all weights are 1 if beta = 0.

    Source: Heydari, Thompson and Mehmood 2019, "SoftAdapt", the normalised variant with differences
    over one epoch and weights that sum to n instead of 1. This implementation divides by the sum of
    the absolute changes. The authors' code divides by the signed sum, which reverses the order of
    the weights while the terms decrease. What NVIDIA PhysicsNeMo calls SoftAdapt is `dwa` with
    temperature 1. The loss-weighted variant is not available.

    >>> schedule = Softadapt(members=("weights.a", "weights.b"), beta=1.0)
    >>> state = schedule.start()
    >>> for a, b in ((1.0, 1.0), (0.9, 0.7)):
    ...     state = schedule.update(state, Feedback(0.0, terms={"a": a, "b": b}))
    >>> {name: round(weight, 3) for name, weight in schedule.evaluate(state, {}).items()}
    {'weights.a': 1.245, 'weights.b': 0.755}
    """

    beta: Number = 0.1

    def start(self, time: float = 0) -> State:
        return {**super().start(time), "last": None}

    def rebalance(self, state: State, terms: Sequence[float]) -> State:
        weights = state["weights"]
        if state["last"] is not None:
            changes = [now - last for now, last in zip(terms, state["last"], strict=True)]
            total = sum(map(abs, changes)) or 1.0
            # An infinite total gives no ratios, so the weights stay.
            if math.isfinite(total):
                weights = _softmax_weights([self.beta * change / total for change in changes])
        return {"weights": weights, "last": list(terms)}


@dataclass(frozen=True, repr=False)
class Relobralo(SeededSchedule, _LossBalancing):
    """ReLoBRaLo: relative loss balancing with random lookback and exponential smoothing.

    bal_i(s) = n * exp(r_i(s)) / sum_j exp(r_j(s)),     r_i(s) = L_i(t) / (temperature * L_i(s))
    past_i   = weight_i(t) if rho else bal_i(0),        rho true with probability `saudade`
    weight_i(t + 1) = alpha * past_i + (1 - alpha) * bal_i(t - 1)

    with n terms and L_i(t) the mean of term i over epoch t. All weights are 1 in the first two
    epochs. The random number of an epoch depends only on the seed of the run and on the epoch.

    Args:
        members: the weights, named weights.TERM.
        alpha: fraction of the past in the new weights, from 0 to 1.
        temperature: greater than 0; a higher temperature makes the weights more even.
        saudade: probability that an epoch continues from the last weights instead of the first
            losses, from 0 to 1.

    Source: Bischof and Kraus 2021, "Multi-Objective Loss Balancing for Physics-Informed Deep
    Learning", with one rho for all terms. The values of the paper (alpha and saudade 0.999,
    temperature 0.1) are per step; the defaults here are per epoch. Variants with one rho for each
    term, or without the previous weights, are not available.

    >>> schedule = Relobralo(("weights.a", "weights.b"), alpha=0.5, temperature=1.0, saudade=1.0)
    >>> state = schedule.start()
    >>> for a, b in ((1.0, 1.0), (1.0, 0.5)):
    ...     state = schedule.update(state, Feedback(0.0, terms={"a": a, "b": b}))
    >>> {name: round(weight, 4) for name, weight in schedule.evaluate(state, {}).items()}
    {'weights.a': 1.1225, 'weights.b': 0.8775}
    """

    alpha: Fraction = 0.9
    temperature: Positive = 1.0
    saudade: Fraction = 0.9

    def start(self, time: float = 0) -> State:
        return {**super().start(time), "first": None, "last": None, "epoch": 0}

    def rebalance(self, state: State, terms: Sequence[float]) -> State:
        seen = {"first": state["first"] or list(terms), "last": list(terms)}
        if state["last"] is None:
            return {**state, **seen, "epoch": state["epoch"] + 1}
        past = state["weights"]
        if not self._rho(state["epoch"]):
            past = _relative_weights(terms, state["first"], self.temperature)
        recent = _relative_weights(terms, state["last"], self.temperature)
        weights = [
            self.alpha * before + (1 - self.alpha) * new
            for before, new in zip(past, recent, strict=True)
        ]
        return {**seen, "weights": weights, "epoch": state["epoch"] + 1}

    def _rho(self, epoch: int) -> bool:
        return random.Random(f"{self.seed}:{epoch}").random() < self.saudade


@dataclass(frozen=True, repr=False)
class TargetContribution(_LossBalancing):
    """Weights that bring the contribution of each term to the loss to a target fraction.

    c_i      = |weight_i * L_i| / sum_j |weight_j * L_j|
    weight_i <- weight_i * (f_i / c_i) ** rate

    then scaled to a sum of n and clamped to [min_value, max_value]; with n terms, L_i the mean of
    term i over the last epoch, and f_i = targets_i / sum_j targets_j. With a rate of 1 the new
    weights would have met the targets in the last epoch; a lower rate takes several epochs.

    Args:
        members: the weights, named weights.TERM.
        targets: relative contributions, one for each member, greater than 0; (1, 3) means one
            quarter and three quarters.
        rate: fraction of the correction of log(weight) in each epoch; greater than 0, at most 1.
        min_value: lower limit of a weight, at most 1.
        max_value: upper limit of a weight, at least 1.

    >>> schedule = TargetContribution(("weights.a", "weights.b"), targets=(1.0, 1.0), rate=1.0)
    >>> state = schedule.update(schedule.start(), Feedback(0.0, terms={"a": 3.0, "b": 1.0}))
    >>> schedule.evaluate(state, {})
    {'weights.a': 0.5, 'weights.b': 1.5}
    """

    targets: tuple[Positive, ...]
    rate: PositiveFraction = 0.1
    min_value: Positive = 1e-3
    max_value: Positive = 1e3

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.targets) != len(self.members):
            raise self.parameter_error(
                "targets", f"one for each of the {len(self.members)} members"
            )
        if not is_finite(sum(self.targets)):
            raise self.parameter_error("targets", "such that their sum is a finite number")
        if self.min_value > 1:
            raise self.parameter_error("min_value", "at most 1, the initial value of all weights")
        if self.max_value < 1:
            raise self.parameter_error("max_value", "at least 1, the initial value of all weights")

    def rebalance(self, state: State, terms: Sequence[float]) -> State:
        weights = state["weights"]
        shares = [abs(w * term) for w, term in zip(weights, terms, strict=True)]
        total = sum(shares)
        # Contributions are undefined if all terms are 0 or their sum overflows.
        if not 0 < total < math.inf:
            return state
        updated = [
            weight * (target / sum(self.targets) / max(share / total, _TINY)) ** self.rate
            for weight, target, share in zip(weights, self.targets, shares, strict=True)
        ]
        scale = len(updated) / sum(updated)
        return {"weights": [min(max(w * scale, self.min_value), self.max_value) for w in updated]}


def _relative_weights(
    terms: Sequence[float], before: Sequence[float], temperature: float
) -> list[float]:
    """Return the softmax weights of the ratio of each term to its earlier value."""
    ratios = [now / (then or _TINY) for now, then in zip(terms, before, strict=True)]
    return _softmax_weights([ratio / temperature for ratio in ratios])


def _softmax_weights(logits: Sequence[float]) -> list[float]:
    """Return the softmax of the logits times their number; it is finite for all logits."""
    clipped = [min(max(logit, -_LARGEST_LOGIT), _LARGEST_LOGIT) for logit in logits]
    peak = max(clipped)
    powers = [math.exp(logit - peak) for logit in clipped]
    total = sum(powers)
    return [len(powers) * power / total for power in powers]
