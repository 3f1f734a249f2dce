"""The verdicts of an explanation as plain data: differences, intervals, the simplest plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from schedsearch.confirmation.paired import ALPHA, Paired, holm_levels
from schedsearch.confirmation.verdicts import CommonMetric, Contender
from schedsearch.explanation.variants import Names, Question, Variant
from schedsearch.schedules import to_table
from schedsearch.space import Objective

#: The verdicts on a difference, and on a simpler schedule.
WORSE, BETTER, NO_DIFFERENCE = "worse", "better", "no difference seen"
NOT_WORSE, NOT_SHOWN = "not worse", "not shown"

#: Without a margin, a simpler schedule may lose this share of the gain.
SHARE_OF_GAIN = 0.25


@dataclass(frozen=True)
class Comparison:
    """A variant against the plan, in pairs by seed.

    Attributes:
        variant: the variant.
        runs: its runs.
        pair: the differences of its runs from those of the plan; below 0 is better.
        margins: on each seed, how much worse a simpler schedule may be; None if nothing says it, or
            if the question is another one.
    """

    variant: Variant
    runs: Contender
    pair: Paired
    margins: tuple[float, ...] | None = None

    @property
    def margin(self) -> float | None:
        """The mean margin."""
        return None if self.margins is None else fmean(self.margins)

    @property
    def p(self) -> float:
        """The p of the hypothesis that the verdict rejects."""
        if self.variant.question is not Question.SIMPLER:
            return self.pair.p
        return 1.0 if self.margins is None else self._beyond(self.margins).p_below(0.0)

    def interval(self, level: float) -> tuple[float, float]:
        """Return the interval of the mean difference.

        If the margins are estimated, it has their error too: it is the interval of the difference
        beyond them, shifted by their mean. So its upper end is below the mean margin exactly if
        that interval is below 0.
        """
        if self.margins is None:
            return self.pair.interval(level)
        low, high = self._beyond(self.margins).interval(level)
        return low + fmean(self.margins), high + fmean(self.margins)

    def _beyond(self, margins: tuple[float, ...]) -> Paired:
        return Paired.of(self.pair.differences, margins)


@dataclass(frozen=True)
class Judged:
    """A comparison with its verdict.

    Attributes:
        level: the significance level that p was compared with.
        interval: of the mean difference at that level; it agrees with the verdict.
        verdict: worse, better or no difference seen; of a simpler schedule: not worse, or not
            shown.
    """

    comparison: Comparison
    level: float
    interval: tuple[float, float]
    verdict: str


def compare(
    variants: Sequence[Variant],
    runs: Sequence[Contender],
    plan: Contender,
    objective: Objective,
    margin: float | None,
) -> list[Comparison]:
    """Pair the runs of variants with those of the plan.

    Args:
        margin: how much worse a simpler schedule may be; None: a quarter of the gain over the best
            constants, if there is one. The gain is known as well as the runs show it, so each
            seed's difference is compared with a quarter of the gain on that seed.
    """
    lower = objective.to_minimize
    reference = [lower(value) for value in plan.values]
    pairs = [Paired.of([lower(value) for value in each.values], reference) for each in runs]
    if margin is not None:
        margins: tuple[float, ...] | None = (margin,) * len(reference)
    else:
        gain = _gain(variants, pairs)
        margins = tuple(SHARE_OF_GAIN * g for g in gain.differences) if gain.mean > 0 else None
    return [
        Comparison(variant, each, pair, margins if variant.question is Question.SIMPLER else None)
        for variant, each, pair in zip(variants, runs, pairs, strict=True)
    ]


def _gain(variants: Sequence[Variant], pairs: Sequence[Paired]) -> Paired:
    """Return the differences of the best constants from the plan; above 0, the plan is better."""
    return next(p for v, p in zip(variants, pairs, strict=True) if v.question is Question.GAIN)


def judge(comparisons: Sequence[Comparison], plan: Contender) -> list[Judged]:
    """Judge comparisons with the plan, at Holm's levels over all of them.

    A difference is "worse" or "better" if it is not 0, and a simpler schedule is "not worse" if the
    difference is below its margin. So the probability of any wrong verdict is at most 5 %.
    Comparisons with the same variant and the same question count once.

    The value that stands for a diverged run is too good for it. So a variant that diverged more
    often than the plan is neither better nor "not worse", and one that diverged less often is not
    worse: its interval is extended.

    Source: Holm 1979; for the margin, the test is that of the confidence interval (Schuirmann
    1987, one-sided here, since a simpler schedule may be better); for a margin that is a share of
    the gain, that of a contrast of three means (Pigeot, Schäfer, Röhmel and Hauschke 2003).
    """
    keys = [_hypothesis(comparison) for comparison in comparisons]
    distinct = dict(zip(keys, comparisons, strict=True))
    levels = holm_levels([comparison.p for comparison in distinct.values()], ALPHA)
    by_key = dict(zip(distinct, levels, strict=True))
    return [
        _judge(comparison, plan, by_key[key])
        for key, comparison in zip(keys, comparisons, strict=True)
    ]


def _hypothesis(comparison: Comparison) -> tuple[Any, ...]:
    return comparison.variant.plan, comparison.variant.question is Question.SIMPLER


def _judge(comparison: Comparison, plan: Contender, level: float) -> Judged:
    low, high = comparison.interval(level)
    margin, is_seen = comparison.margin, comparison.p < level
    more = comparison.runs.diverged > plan.diverged
    less = comparison.runs.diverged < plan.diverged
    if comparison.variant.question is Question.SIMPLER:
        if more and margin is not None:
            high = max(high, margin)
        verdict = NOT_WORSE if is_seen and not more else NOT_SHOWN
        return Judged(comparison, level, (low, high), verdict)
    low, high = (min(low, 0.0) if less else low), (max(high, 0.0) if more else high)
    if not is_seen or (comparison.pair.mean < 0 and more) or (comparison.pair.mean > 0 and less):
        return Judged(comparison, level, (low, high), NO_DIFFERENCE)
    verdict = WORSE if comparison.pair.mean > 0 else BETTER
    return Judged(comparison, level, (low, high), verdict)


def simplest_of_each(judged: Sequence[Judged]) -> dict[Names, Variant]:
    """Return for each schedule the simplest variant that is not worse; the first one counts."""
    found: dict[Names, Variant] = {}
    for each in judged:
        variant = each.comparison.variant
        if each.verdict == NOT_WORSE and variant.change != "together":
            found.setdefault(variant.names, variant)
    return found


def simplest(judged: Sequence[Judged]) -> int | None:
    """Return the place of the simplest plan that is not worse; None if there is none.

    That is the one with all simpler schedules together. If this one is worse, it is the one with
    the simplest single replacement; of equally simple ones, the best mean.
    """
    names = [each.comparison.variant.change for each in judged]
    order = ["together", "constant", "linear", "cosine", "step"]
    found = [i for i, each in enumerate(judged) if each.verdict == NOT_WORSE]
    return min(
        found,
        key=lambda i: (order.index(names[i]), judged[i].comparison.pair.mean),
        default=None,
    )


def document(
    judged: Sequence[Judged], plan: Contender, objective: Objective, metric: CommonMetric
) -> dict[str, Any]:
    """Return the result as plain data for JSON.

    A difference is a variant's metric minus the plan's, whatever the direction of the objective.
    """
    pairs = [each.comparison.pair for each in judged]
    margins = (e.comparison.margin for e in judged if e.comparison.margin is not None)
    return {
        "metric": metric.name,
        "direction": objective.direction,
        "test": metric.is_test,
        "trial": plan.number,
        "mean": plan.mean,
        "diverged": plan.diverged,
        "gain": max(0.0, _gain([each.comparison.variant for each in judged], pairs).mean),
        "margin": next(margins, None),
        "hypotheses": len({_hypothesis(each.comparison) for each in judged}),
        "comparisons": [_entry(each, objective) for each in judged],
        "simplest": simplest(judged),
    }


def _entry(judged: Judged, objective: Objective) -> dict[str, Any]:
    comparison, lower = judged.comparison, objective.to_minimize
    variant, runs, pair = comparison.variant, comparison.runs, comparison.pair
    is_path = variant.question is Question.FOLLOWS
    return {
        "question": str(variant.question),
        "change": variant.change,
        "names": list(variant.names),
        "number": runs.number,
        "plan": variant.plan.to_tables(),
        # The path of the plan stands for that of a variant which takes it.
        "schedules": {} if is_path else _tables(variant),
        "mean": runs.mean,
        "diverged": runs.diverged,
        "stopped": runs.stopped,
        "difference": lower(pair.mean) + 0.0,
        "interval": sorted(lower(end) + 0.0 for end in judged.interval),
        "wins": pair.wins,
        "losses": pair.losses,
        "p": comparison.p,
        "level": judged.level,
        "verdict": judged.verdict,
    }


def _tables(variant: Variant) -> Mapping[str, Any]:
    return {
        name: to_table(schedule)
        for schedules in variant.schedules.values()
        for name, schedule in schedules.items()
    }
