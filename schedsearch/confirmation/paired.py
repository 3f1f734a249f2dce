"""Paired comparisons of plans with constants on the same seeds. Lower is better throughout."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

#: The probability of calling any plan better if none is.
ALPHA = 0.05
#: The probability of showing a difference with the number of seeds that `seeds_to_show` returns.
_POWER = 0.8
#: Up to so many differences, all combinations of signs are counted; for more, 2**16 random ones.
_EXACT = 16
_BISECTIONS = 40
#: Sign combinations that are multiplied at a time, since numpy converts them to floats.
_BLOCK = 2**12


class Verdict(StrEnum):
    """The result of comparing a plan with the constants."""

    BETTER = "better"
    WORSE = "worse"
    NO_DIFFERENCE = "no difference seen"


@dataclass(frozen=True)
class Paired:
    """The differences of one plan's runs from another's, seed by seed: below 0 is better.

    Tested by sign flips: if the plans were equal, each difference could equally well have the other
    sign. The test assumes no normal distribution, which test errors do not have: in a t test one
    collapsed run hides nineteen clear differences.

    Source: Fisher 1935, The Design of Experiments, section 21.

    >>> paired = Paired((-0.3, -0.1, -0.2, -0.4, -0.2, -0.3))
    >>> round(paired.mean, 3), round(paired.p, 3), paired.wins
    (-0.25, 0.031, 6)
    >>> [round(end, 3) for end in paired.interval(0.05)]
    [-0.4, -0.1]
    """

    differences: tuple[float, ...]

    @classmethod
    def of(cls, runs: Sequence[float], others: Sequence[float]) -> Paired:
        """Pair the runs of two plans, both in the order of the seeds."""
        return cls(tuple(run - other for run, other in zip(runs, others, strict=True)))

    @property
    def mean(self) -> float:
        """The mean difference."""
        return statistics.fmean(self.differences)

    @property
    def deviation(self) -> float:
        """The standard deviation of the differences."""
        return statistics.stdev(self.differences)

    @property
    def wins(self) -> int:
        """On how many seeds the first plan was better."""
        return sum(difference < 0 for difference in self.differences)

    @property
    def losses(self) -> int:
        """On how many seeds the first plan was worse."""
        return sum(difference > 0 for difference in self.differences)

    @property
    def p(self) -> float:
        """The two-sided p: the share of sign combinations whose mean is at least as far from 0."""
        return self._p_of(0.0)

    def p_below(self, margin: float) -> float:
        """The p of "the mean difference is below `margin`"; 1 if that of the runs is not."""
        return self._p_of(margin) if self.mean < margin else 1.0

    def interval(self, level: float) -> tuple[float, float]:
        """Return the interval of mean differences that the runs do not reject at `level`.

        It is infinite if there are too few differences for any p below the level.
        """
        if 2 / 2 ** len(self.differences) >= level:
            return -math.inf, math.inf
        return self._end(level, -1.0), self._end(level, 1.0)

    def _p_of(self, shift: float) -> float:
        differences = np.array(self.differences) - shift
        signs = _sign_flips(len(differences))
        blocks = (signs[i : i + _BLOCK] @ differences for i in range(0, len(signs), _BLOCK))
        flipped = np.abs(np.concatenate([*blocks]))
        # Sums that differ only by rounding count as equal.
        observed = abs(differences.sum()) - 1e-9 * np.abs(differences).sum()
        return float(np.mean(flipped >= observed))

    def _end(self, level: float, side: float) -> float:
        """Find one end of the interval by bisection: where p falls to the level."""
        inside = 0.0
        outside = max(abs(difference - self.mean) for difference in self.differences)
        for _ in range(_BISECTIONS):
            middle = (inside + outside) / 2
            if self._p_of(self.mean + side * middle) > level:
                inside = middle
            else:
                outside = middle
        return self.mean + side * outside


@functools.cache
def _sign_flips(count: int) -> NDArray[np.int8]:
    """Return a row of signs for each combination: all of them, or a fixed random sample."""
    if count <= _EXACT:
        bits = np.arange(2**count)[:, None] >> np.arange(count) & 1
    else:
        generator, blocks = np.random.default_rng(0), 2**_EXACT // _BLOCK
        drawn = (generator.integers(0, 2, (_BLOCK, count)).astype(np.int8) for _ in range(blocks))
        bits = np.concatenate([*drawn])
        bits[0] = 0
    return np.asarray(1 - 2 * bits, dtype=np.int8)


@dataclass(frozen=True)
class Judgement:
    """The result for one plan.

    Attributes:
        verdict: better than every constant, worse than some constant, or no difference seen.
        p: of that verdict, before Holm's correction; of "better" if no difference was seen.
        level: the significance level that p was compared with.
        intervals: for each constant the interval of the mean difference at `level`. The plan is
            better exactly if all of them are below 0, and worse exactly if one is above 0.
    """

    verdict: Verdict
    p: float
    level: float
    intervals: tuple[tuple[float, float], ...]


def judge(plans: Sequence[Sequence[Paired]], alpha: float = ALPHA) -> list[Judgement]:
    """Judge plans, each compared with the same constants in pairs.

    A plan is better if it beats every constant: its p is the largest over the constants, and 1 if
    its mean is not lower than each of theirs (an intersection-union test). It is worse if some
    constant beats it: its p is the smallest over the constants, corrected for their number by
    Hochberg's procedure. Both are compared with Holm's levels over the plans, so the probability of
    any wrong "better", and of any wrong "worse", is at most `alpha`.

    An interval above 0 whose difference is not significant after Hochberg's correction is extended
    to 0. So the intervals say the same as the verdict.

    Source: Holm 1979; Berger 1982 for the intersection-union test; Hochberg 1988, and Sarkar 1998
    for differences that depend positively on each other, as these do: they share the plan's runs.
    Intervals that are extended to agree with a stepwise test: Strassburger and Bretz 2008.
    """
    better = [max(pair.p if pair.mean < 0 else 1.0 for pair in plan) for plan in plans]
    adjusted = [
        hochberg_adjusted([pair.p if pair.mean > 0 else 1.0 for pair in plan]) for plan in plans
    ]
    worse = [min(of_plan) for of_plan in adjusted]
    better_levels, worse_levels = holm_levels(better, alpha), holm_levels(worse, alpha)
    judgements = []
    for i, plan in enumerate(plans):
        verdict, p, level = Verdict.NO_DIFFERENCE, better[i], better_levels[i]
        if better[i] < better_levels[i]:
            verdict = Verdict.BETTER
        elif worse[i] < worse_levels[i]:
            verdict, p, level = Verdict.WORSE, worse[i], worse_levels[i]
        intervals = []
        for pair, p_worse in zip(plan, adjusted[i], strict=True):
            low, high = pair.interval(level)
            intervals.append((low if p_worse < worse_levels[i] else min(low, 0.0), high))
        judgements.append(Judgement(verdict, p, level, tuple(intervals)))
    return judgements


def hochberg_adjusted(p_values: Sequence[float]) -> list[float]:
    """Return each p, adjusted for their number by Hochberg's procedure.

    With p(1) <= ... <= p(k): adjusted p(j) = the smallest (k - i + 1) p(i) over all i >= j.

    >>> hochberg_adjusted([0.04, 0.01, 0.03])
    [0.04, 0.03, 0.04]
    """
    adjusted, smallest = [0.0] * len(p_values), 1.0
    descending = sorted(range(len(p_values)), key=lambda i: p_values[i], reverse=True)
    for rank, i in enumerate(descending, start=1):
        smallest = min(smallest, rank * p_values[i])
        adjusted[i] = smallest
    return adjusted


def holm_levels(p_values: Sequence[float], alpha: float) -> list[float]:
    """Return the level that Holm's procedure compares each p with.

    In ascending order of p: alpha / m, alpha / (m - 1) and so on, until a p is not below its level;
    that level then applies to all larger ones.

    >>> [round(level, 4) for level in holm_levels([0.04, 0.001, 0.03], 0.05)]
    [0.025, 0.0167, 0.025]
    """
    levels = [0.0] * len(p_values)
    level, stopped = alpha, False
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if not stopped:
            level = alpha / (len(p_values) - rank)
            stopped = p_values[i] >= level
        levels[i] = level
    return levels


def fewest_seeds(plans: int, alpha: float = ALPHA) -> int:
    """Return the fewest seeds with which one of so many plans can be called better.

    >>> fewest_seeds(1), fewest_seeds(5)
    (6, 8)
    """
    return math.floor(math.log2(2 * plans / alpha)) + 1


def seeds_to_show(pair: Paired, level: float) -> int | None:
    """Return about how many seeds would show the observed difference with probability 0.8.

    n = ((z(1 - level / 2) + z(0.8)) * deviation / mean) ** 2

    None if the plan is not better in the mean, or if there are as many seeds already.
    """
    if pair.mean >= 0:
        return None
    normal = statistics.NormalDist()
    distance = normal.inv_cdf(1 - level / 2) + normal.inv_cdf(_POWER)
    seeds = math.ceil((distance * pair.deviation / pair.mean) ** 2)
    return seeds if seeds > len(pair.differences) else None
