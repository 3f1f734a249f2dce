"""The result of a confirmation as plain data: means, differences, intervals and verdicts."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schedsearch.confirmation.candidates import Candidate
from schedsearch.confirmation.paired import Judgement, Paired, Verdict, judge, seeds_to_show
from schedsearch.confirmation.study import RunResult
from schedsearch.errors import SchedSearchError
from schedsearch.metric_names import metric_on_test
from schedsearch.plan import Plan
from schedsearch.space import Objective


@dataclass(frozen=True)
class Contender:
    """A candidate with its runs, in the order of the seeds.

    Attributes:
        values: the metric of each run; a diverged one has the worst value of all other runs.
        diverged: how many runs diverged.
        stopped: how many runs stopped before the horizon.
    """

    number: int | None
    plan: Plan
    values: tuple[float, ...]
    diverged: int
    stopped: int = 0

    @property
    def mean(self) -> float:
        """The mean over the seeds."""
        return statistics.fmean(self.values)


@dataclass(frozen=True)
class CommonMetric:
    """A metric that all runs have: that on the test split, or else that on validation.

    Attributes:
        name: of the metric.
        is_test: whether it is measured on the test split.
        values: one for each run.
    """

    name: str
    is_test: bool
    values: Sequence[float]


def common_metric(results: Sequence[RunResult], metric: str) -> CommonMetric:
    """Return the metric by which runs can be compared."""
    tests = [result.test for result in results if result.test is not None]
    if len(tests) < len(results):
        return CommonMetric(metric, is_test=False, values=[r.validation for r in results])
    return CommonMetric(metric_on_test(metric), is_test=True, values=tests)


def contend(
    chosen: Sequence[Candidate], runs: Sequence[Sequence[float]], objective: Objective
) -> list[Contender]:
    """Give each candidate its runs; a diverged run (NaN) gets the worst value of all others.

    Raises:
        SchedSearchError: every run diverged.
    """
    known = [value for values in runs for value in values if not math.isnan(value)]
    if not known:
        raise SchedSearchError("every run diverged: there is nothing to compare")
    worst = max(known, key=objective.to_minimize)
    return [
        Contender(
            number=candidate.number,
            plan=candidate.plan,
            values=tuple(worst if math.isnan(value) else value for value in values),
            diverged=sum(map(math.isnan, values)),
        )
        for candidate, values in zip(chosen, runs, strict=True)
    ]


def document(
    schedules: Sequence[Contender],
    constants: Sequence[Contender],
    objective: Objective,
    metric: CommonMetric,
    seeds: range,
) -> dict[str, Any]:
    """Judge the schedules, and return the result as plain data for JSON.

    A difference is a schedule's metric minus a constant's, whatever the direction of the objective.
    `interval` is at the Holm level of its plan, and decides the verdict; see `judge`. `baseline` is
    the constant with the best mean.
    """
    baseline = min(constants, key=lambda constant: objective.to_minimize(constant.mean))
    pairs = [[_pair(plan, constant, objective) for constant in constants] for plan in schedules]
    judgements = [
        _limited_by_divergence(judgement, plan, constants)
        for judgement, plan in zip(judge(pairs), schedules, strict=True)
    ]
    at = constants.index(baseline)
    return {
        "metric": metric.name,
        "direction": objective.direction,
        "test": metric.is_test,
        "seeds": [seeds.start, seeds.stop],
        "baseline": _entry(baseline),
        "constants": [_entry(constant) for constant in constants],
        "plans": [
            {
                **_entry(plan),
                **_difference(of_plan[at], judgement.intervals[at], objective),
                **_verdict_fields(judgement, of_plan, constants, objective),
            }
            for plan, of_plan, judgement in zip(schedules, pairs, judgements, strict=True)
        ],
    }


def _verdict_fields(
    judgement: Judgement,
    pairs: Sequence[Paired],
    constants: Sequence[Contender],
    objective: Objective,
) -> dict[str, Any]:
    level, unseen = judgement.level, judgement.verdict is Verdict.NO_DIFFERENCE
    return {
        "p": judgement.p,
        "level": level,
        "verdict": str(judgement.verdict),
        "seeds_to_show": seeds_to_show(_hardest(pairs), level) if unseen else None,
        "against": [
            {"number": constant.number, **_difference(pair, interval, objective)}
            for constant, pair, interval in zip(constants, pairs, judgement.intervals, strict=True)
        ],
    }


def _pair(plan: Contender, constant: Contender, objective: Objective) -> Paired:
    lower = objective.to_minimize
    return Paired.of([lower(v) for v in plan.values], [lower(v) for v in constant.values])


def _hardest(pairs: Sequence[Paired]) -> Paired:
    """Return the comparison that is furthest from "better"."""
    return max(pairs, key=lambda pair: pair.p if pair.mean < 0 else 1.0)


def _limited_by_divergence(
    judgement: Judgement, plan: Contender, constants: Sequence[Contender]
) -> Judgement:
    """Do not call a plan better if it diverged more often than some constant.

    The value that stands for a diverged run is too good for it, so the interval against such a
    constant is extended to 0.
    """
    diverged_more = [plan.diverged > constant.diverged for constant in constants]
    if not any(diverged_more):
        return judgement
    intervals = tuple(
        (low, max(high, 0.0) if more else high)
        for (low, high), more in zip(judgement.intervals, diverged_more, strict=True)
    )
    is_better = judgement.verdict is Verdict.BETTER
    verdict = Verdict.NO_DIFFERENCE if is_better else judgement.verdict
    return Judgement(verdict, judgement.p, judgement.level, intervals)


def _entry(contender: Contender) -> dict[str, Any]:
    return {
        "number": contender.number,
        "plan": contender.plan.to_tables(),
        "mean": contender.mean,
        "diverged": contender.diverged,
        "stopped": contender.stopped,
    }


def _difference(
    pair: Paired, interval: tuple[float, float], objective: Objective
) -> dict[str, Any]:
    return {
        "difference": objective.to_minimize(pair.mean),
        # Without the sign of a zero.
        "interval": sorted(objective.to_minimize(end) + 0.0 for end in interval),
        "wins": pair.wins,
        "losses": pair.losses,
    }


# --- reading a result ----------------------------------------------------------------------------


def winner(result: Mapping[str, Any]) -> int | None:
    """Return the trial of the best plan with the verdict "better"; None if there is none."""
    better = (plan for plan in best_first(result, "plans") if plan["verdict"] == Verdict.BETTER)
    return next((plan["number"] for plan in better), None)


def not_confirmed(result: Mapping[str, Any], best: Iterable[int]) -> list[int]:
    """Return those of the study's present best trials that the confirmation did not compare."""
    entries = (*result["plans"], *result["constants"], result["baseline"])
    judged = {entry["number"] for entry in entries}
    return [number for number in best if number not in judged]


def best_first(result: Mapping[str, Any], which: str) -> list[Mapping[str, Any]]:
    """Return the "plans" or the "constants" of a result, best mean first."""
    sign = 1 if result["direction"] == "minimize" else -1
    return sorted(result[which], key=lambda entry: sign * float(entry["mean"]))


def plan_label(entry: Mapping[str, Any]) -> str:
    """Return the name of a result's plan or constant for messages.

    >>> plan_label({"number": 3}), plan_label({"number": None})
    ('trial 3', 'the default')
    """
    return "the default" if entry["number"] is None else f"trial {entry['number']}"
