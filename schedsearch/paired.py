"""Whether plans beat constants, judged from runs on the same seeds. Lower is better throughout."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

#: The risk of calling any plan better, when none is, that a confirmation accepts.
ALPHA = 0.05
_POWER = 0.8


class Verdict(StrEnum):
    """What the runs of a plan say of it, against those of the constants."""

    BETTER = "better"
    WORSE = "worse"
    NO_DIFFERENCE = "no difference seen"


@dataclass(frozen=True)
class Paired:
    """The differences of one plan's runs from another's, seed by seed: below 0 is better.

    >>> paired = Paired((-0.3, -0.1, -0.2))
    >>> round(paired.mean, 3), round(paired.p, 3), paired.wins
    (-0.2, 0.074, 3)
    >>> [round(end, 3) for end in paired.interval(0.05)]
    [-0.448, 0.048]
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
    def standard_error(self) -> float:
        """The standard error of the mean difference."""
        return self.deviation / math.sqrt(len(self.differences))

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
        """The two-sided p of the paired t test; 0 where every seed gives the same difference."""
        from scipy.stats import t

        if not self.standard_error:
            return 0.0 if self.mean else 1.0
        return float(2 * t.sf(abs(self.mean / self.standard_error), len(self.differences) - 1))

    def interval(self, level: float) -> tuple[float, float]:
        """Return the t interval of the mean difference that misses it with this probability."""
        from scipy.stats import t

        reach = float(t.isf(level / 2, len(self.differences) - 1)) * self.standard_error
        return self.mean - reach, self.mean + reach


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


def seeds_to_show(pair: Paired, level: float) -> int | None:
    """Return about how many seeds would show the observed difference, four times out of five.

    n = ((z(1 - level / 2) + z(0.8)) * deviation / mean) ** 2

    None if no difference was observed.
    """
    if not pair.mean:
        return None
    normal = statistics.NormalDist()
    distance = normal.inv_cdf(1 - level / 2) + normal.inv_cdf(_POWER)
    return max(2, math.ceil((distance * pair.deviation / pair.mean) ** 2))
