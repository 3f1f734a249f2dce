"""Closed-loop families that balance the weights of several loss terms by the terms themselves.

All start from weights of 1, and weigh the coming epoch by the terms' means over the past ones. An
epoch that lacks a finite mean of any member is passed over.
"""

from __future__ import annotations

import math
import random
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from schedsearch.schedules.base import Feedback, GroupSchedule, State
from schedsearch.schedules.parameters import (
    Fraction,
    Number,
    Positive,
    PositiveFraction,
    is_finite,
)

#: What a denominator of 0 is replaced by.
_TINY = 1e-12
#: The largest logit: the difference of two is still a float.
_LARGEST_LOGIT = 1e300


@dataclass(frozen=True)
class _LossBalancing(GroupSchedule):
    """A group whose weights follow the means of its terms."""

    @abstractmethod
    def balance(self, state: State, terms: Sequence[float]) -> State:
        """Return the state after an epoch that gave these means, in the members' order."""

    def start(self) -> State:
        return {"weights": [1.0] * len(self.members)}

    def evaluate(self, state: State, peers: Mapping[str, float]) -> dict[str, float]:
        return dict(zip(self.members, state["weights"], strict=True))

    def update(self, state: State, feedback: Feedback) -> State:
        terms = [feedback.terms.get(term, math.nan) for term in self.terms]
        return self.balance(state, terms) if all(map(math.isfinite, terms)) else state


@dataclass(frozen=True)
class Dwa(_LossBalancing):
    """Dynamic weight average: the slower a term descends, the greater its weight.

    r_i       = L_i(t - 1) / L_i(t - 2)
    weight_i(t) = n * exp(r_i / temperature) / sum_j exp(r_j / temperature)

    with n terms and L_i(t) the mean of term i over epoch t. Weights are 1 until two epochs are
    known.

    Args:
        members: the weights, named weights.TERM.
        temperature: greater than 0; the higher, the more even the weights.

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

    def start(self) -> State:
        return {**super().start(), "last": None}

    def balance(self, state: State, terms: Sequence[float]) -> State:
        weights = state["weights"]
        if state["last"] is not None:
            weights = _relative(terms, state["last"], self.temperature)
        return {"weights": weights, "last": list(terms)}


@dataclass(frozen=True)
class Softadapt(_LossBalancing):
    """SoftAdapt: weights by how fast each term changes, compared with the others.

    s_i       = (L_i(t - 1) - L_i(t - 2)) / sum_j |L_j(t - 1) - L_j(t - 2)|
    weight_i(t) = n * exp(beta * s_i) / sum_j exp(beta * s_j)

    with n terms and L_i(t) the mean of term i over epoch t. Weights are 1 until two epochs are
    known, and whenever no term has changed.

    Args:
        members: the weights, named weights.TERM.
        beta: above 0 the term that does worst gets the greatest weight, below 0 the one that does
            best; 0 keeps all at 1.

    Source: Heydari, Thompson and Mehmood 2019, "SoftAdapt", the normalised variant, with
    differences over one epoch, and weights that sum to n instead of 1. Of the variants in use this
    one divides by the sum of magnitudes: dividing by the signed sum, as some do, turns the order of
    the weights around while the terms fall. The loss-weighted variant is not built.

    >>> schedule = Softadapt(members=("weights.a", "weights.b"), beta=1.0)
    >>> state = schedule.start()
    >>> for a, b in ((1.0, 1.0), (0.9, 0.7)):
    ...     state = schedule.update(state, Feedback(0.0, terms={"a": a, "b": b}))
    >>> {name: round(weight, 3) for name, weight in schedule.evaluate(state, {}).items()}
    {'weights.a': 1.245, 'weights.b': 0.755}
    """

    beta: Number = 0.1

    def start(self) -> State:
        return {**super().start(), "last": None}

    def balance(self, state: State, terms: Sequence[float]) -> State:
        weights = state["weights"]
        if state["last"] is not None:
            changes = [now - last for now, last in zip(terms, state["last"], strict=True)]
            total = sum(map(abs, changes)) or 1.0
            # Beyond the floats nothing can be compared, and the weights stay.
            if math.isfinite(total):
                weights = _weights([self.beta * change / total for change in changes])
        return {"weights": weights, "last": list(terms)}


@dataclass(frozen=True)
class Relobralo(_LossBalancing):
    """ReLoBRaLo: relative loss balancing with random lookback, smoothed.

    bal_i(s) = n * exp(r_i(s)) / sum_j exp(r_j(s)),     r_i(s) = L_i(t) / (temperature * L_i(s))
    past_i   = weight_i(t) if rho else bal_i(0),        rho true with probability `saudade`
    weight_i(t + 1) = alpha * past_i + (1 - alpha) * bal_i(t - 1)

    with n terms and L_i(t) the mean of term i over epoch t. Weights are 1 until two epochs are
    known. The draw of an epoch is a function of the run's seed and the epoch.

    Args:
        members: the weights, named weights.TERM.
        alpha: share of the past in the weights, from 0 to 1.
        temperature: greater than 0; the higher, the more even the weights.
        saudade: probability that an epoch builds on the last weights, and not on the first losses.

    Source: Bischof and Kraus 2021, "Multi-Objective Loss Balancing for Physics-Informed Deep
    Learning", with one draw of rho for all terms. The paper's values (alpha and saudade 0.999,
    temperature 0.1) are per step; these defaults are per epoch. Variants that draw rho for each
    term, or that leave the previous weights out, are not built.

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
    #: The run's, set by `resolve`.
    seed: int = field(default=0, init=False)

    def resolve(self, horizon: int, seed: int) -> Self:
        """Resolve, and keep the run's seed for the draws."""
        resolved = super().resolve(horizon, seed)
        object.__setattr__(resolved, "seed", seed)
        return resolved

    def start(self) -> State:
        return {**super().start(), "first": None, "last": None, "epoch": 0}

    def balance(self, state: State, terms: Sequence[float]) -> State:
        now = {"first": state["first"] or list(terms), "last": list(terms)}
        if state["last"] is None:
            return {**state, **now, "epoch": state["epoch"] + 1}
        past = state["weights"]
        if not self._remembers(state["epoch"]):
            past = _relative(terms, state["first"], self.temperature)
        recent = _relative(terms, state["last"], self.temperature)
        weights = [
            self.alpha * before + (1 - self.alpha) * new
            for before, new in zip(past, recent, strict=True)
        ]
        return {**now, "weights": weights, "epoch": state["epoch"] + 1}

    def _remembers(self, epoch: int) -> bool:
        return random.Random(f"{self.seed}:{epoch}").random() < self.saudade


@dataclass(frozen=True)
class TargetContribution(_LossBalancing):
    """Weights that steer each term's contribution to the loss towards a target fraction.

    c_i      = |weight_i * L_i| / sum_j |weight_j * L_j|
    weight_i <- weight_i * (f_i / c_i) ** rate

    then scaled to a sum of n and kept from `min_value` to `max_value`; with n terms, L_i the mean
    of term i over the last epoch, and f_i = targets_i / sum_j targets_j. A rate of 1 would have
    given the last epoch its targets; a lower one gets there over the epochs.

    Args:
        members: the weights, named weights.TERM.
        targets: what the terms are to contribute, relative to each other and greater than 0, one
            for each member: (1, 3) stands for a quarter and three quarters.
        rate: share of the way, in the logarithm, gone each epoch; greater than 0, at most 1.
        min_value: the least weight, at most 1.
        max_value: the greatest weight, at least 1.

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
            raise self.parameter_error("min_value", "at most 1, the weight that all start from")
        if self.max_value < 1:
            raise self.parameter_error("max_value", "at least 1, the weight that all start from")

    def balance(self, state: State, terms: Sequence[float]) -> State:
        weights = state["weights"]
        shares = [abs(w * term) for w, term in zip(weights, terms, strict=True)]
        total = sum(shares)
        # Where all terms are 0, or their sum beyond the floats, there are no contributions.
        if not 0 < total < math.inf:
            return state
        steered = [
            weight * (target / sum(self.targets) / max(share / total, _TINY)) ** self.rate
            for weight, target, share in zip(weights, self.targets, shares, strict=True)
        ]
        scale = len(steered) / sum(steered)
        return {"weights": [min(max(w * scale, self.min_value), self.max_value) for w in steered]}


def _relative(terms: Sequence[float], before: Sequence[float], temperature: float) -> list[float]:
    """Return the weights that follow how each term compares with what it was."""
    ratios = [now / (then or _TINY) for now, then in zip(terms, before, strict=True)]
    return _weights([ratio / temperature for ratio in ratios])


def _weights(logits: Sequence[float]) -> list[float]:
    """Return the softmax of the logits, times their number; finite whatever they are."""
    clipped = [min(max(logit, -_LARGEST_LOGIT), _LARGEST_LOGIT) for logit in logits]
    peak = max(clipped)
    powers = [math.exp(logit - peak) for logit in clipped]
    total = sum(powers)
    return [len(powers) * power / total for power in powers]
