"""Whether plans beat constants, judged from runs on the same seeds. Lower is better throughout."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

#: The risk of calling any plan better, when none is, that a confirmation accepts.
ALPHA = 0.05
_POWER = 0.8
#: Up to so many differences, every flip of their signs is counted; of more, as many at random.
_EXACT = 16
_BISECTIONS = 40
#: So many flips are multiplied at a time, since numpy makes them floats for it.
_BLOCK = 2**12


class Verdict(StrEnum):
    """What the runs of a plan say of it, against those of the constants."""

    BETTER = "better"
    WORSE = "worse"
    NO_DIFFERENCE = "no difference seen"


@dataclass(frozen=True)
class Paired:
    """The differences of one plan's runs from another's, seed by seed: below 0 is better.

    Judged by sign flips: if the plans were alike, each difference might as well have had the other
    sign. It asks for no bell shape, which test errors do not have: one run that collapses would
    drown nineteen clear differences in a t test.

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
        """Pair the runs of two plans; both in the order of the seeds."""
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
        """On how many seeds it was worse."""
        return sum(difference > 0 for difference in self.differences)

    @property
    def p(self) -> float:
        """The two-sided p: the share of sign flips whose mean is at least as far from 0."""
        return self._p_of(0.0)

    def interval(self, level: float) -> tuple[float, float]:
        """Return the shifts of all differences that would have a p above `level`, from end to end.

        Infinite where there are too few differences for any p to be as small as the level.
        """
        if 2 / 2 ** len(self.differences) >= level:
            return -math.inf, math.inf
        return self._end(level, -1.0), self._end(level, 1.0)

    def _p_of(self, shift: float) -> float:
        differences = np.array(self.differences) - shift
        signs = _sign_flips(len(differences))
        blocks = (signs[i : i + _BLOCK] @ differences for i in range(0, len(signs), _BLOCK))
        flipped = np.abs(np.concatenate([*blocks]))
        # What is equal but for rounding counts as equal.
        observed = abs(differences.sum()) - 1e-9 * np.abs(differences).sum()
        return float(np.mean(flipped >= observed))

    def _end(self, level: float, side: float) -> float:
        """Find by bisection how far from the mean, on one side, shifts keep a p above the level."""
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
    """Return a row of signs for each flip: all of them, or a fixed sample."""
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
    """What is said of one plan.

    Attributes:
        verdict: better than every constant, worse than some, or neither seen.
        p: of that claim, before Holm's correction; of "better" where nothing was seen.
        level: what p was held against.
    """

    verdict: Verdict
    p: float
    level: float


def judge(plans: Sequence[Sequence[Paired]], alpha: float = ALPHA) -> list[Judgement]:
    """Judge plans, each compared with the same constants in pairs.

    A plan is better if it beats every constant: its p is the greatest of those, 1 if its mean is
    not the lower one against each (an intersection-union test). It is worse if some constant beats
    it: its p is the least of those times their number (Bonferroni). Both are held against Holm's
    levels over the plans, so any one wrong claim has at most the probability `alpha`.

    Source: Holm 1979; Berger 1982 for the intersection-union test.
    """
    better = [max(pair.p if pair.mean < 0 else 1.0 for pair in plan) for plan in plans]
    worse = [
        min(1.0, len(plan) * min(pair.p if pair.mean > 0 else 1.0 for pair in plan))
        for plan in plans
    ]
    better_levels, worse_levels = holm_levels(better, alpha), holm_levels(worse, alpha)
    judgements = []
    for i in range(len(plans)):
        if better[i] < better_levels[i]:
            judgements.append(Judgement(Verdict.BETTER, better[i], better_levels[i]))
        elif worse[i] < worse_levels[i]:
            judgements.append(Judgement(Verdict.WORSE, worse[i], worse_levels[i]))
        else:
            judgements.append(Judgement(Verdict.NO_DIFFERENCE, better[i], better_levels[i]))
    return judgements


def holm_levels(p_values: Sequence[float], alpha: float) -> list[float]:
    """Return the level that Holm's procedure holds each p against.

    From the least p: alpha / m, alpha / (m - 1) and so on, until one is not below its level; that
    level then holds for all the greater ones.

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
    """Return how many seeds it takes that one of so many plans can be called better at all.

    >>> fewest_seeds(1), fewest_seeds(5)
    (6, 8)
    """
    return math.floor(math.log2(2 * plans / alpha)) + 1


def seeds_to_show(pair: Paired, level: float) -> int | None:
    """Return about how many seeds would show the observed difference, four times out of five.

    n = ((z(1 - level / 2) + z(0.8)) * deviation / mean) ** 2

    None if none was observed in favour of the plan, or if there are as many seeds already.
    """
    if pair.mean >= 0:
        return None
    normal = statistics.NormalDist()
    distance = normal.inv_cdf(1 - level / 2) + normal.inv_cdf(_POWER)
    seeds = math.ceil((distance * pair.deviation / pair.mean) ** 2)
    return seeds if seeds > len(pair.differences) else None
