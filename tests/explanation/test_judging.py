"""Verdicts on given numbers: the margin of a simpler schedule, and what agrees with it."""

from __future__ import annotations

import numpy as np
import pytest

from schedsearch.confirmation.paired import Paired
from schedsearch.confirmation.verdicts import CommonMetric, Contender
from schedsearch.explanation.judging import NOT_WORSE, Judged, compare, document, judge
from schedsearch.explanation.variants import Question, Variant
from schedsearch.plan import Plan
from schedsearch.schedules import Constant, Linear
from schedsearch.space import Objective

SEEDS = 8
MINIMIZE = Objective(metric="loss", direction="minimize")
MAXIMIZE = Objective(metric="accuracy", direction="maximize")
PLAN = Plan({("lr",): Linear(1.0, 0.0)})


def contender(plan: Plan, values: np.ndarray) -> Contender:
    return Contender(number=0, plan=plan, values=tuple(values), diverged=0)


def constant(value: float) -> Plan:
    return Plan({("lr",): Constant(value)})


def judged(
    plan: np.ndarray,
    constants: np.ndarray,
    *simpler: np.ndarray,
    margin: float | None = None,
    objective: Objective = MINIMIZE,
) -> list[Judged]:
    """Judge the best constants, and simpler schedules, against a plan."""
    changes = ["constant", "linear", "cosine", "step"][: len(simpler)]
    variants = [Variant(Question.GAIN, "constants", (), constant(0.0), {})]
    variants += [
        Variant(Question.SIMPLER, change, ("lr",), constant(i), {})
        for i, change in enumerate(changes, start=1)
    ]
    runs = [
        contender(variant.plan, values)
        for variant, values in zip(variants, (constants, *simpler), strict=True)
    ]
    explained = contender(PLAN, plan)
    return judge(compare(variants, runs, explained, objective, margin), explained)


def test_a_schedule_that_loses_a_quarter_of_the_gain_is_seldom_called_not_worse():
    """The constants differ by seed more than the plan, so the gain is known less well."""
    draws, repeats, claims = np.random.default_rng(0), 200, 0
    for _ in range(repeats):
        plan = draws.normal(0.0, 0.01, SEEDS)
        constants = draws.normal(1.0, 1.0, SEEDS)
        simpler = [plan + draws.normal(0.25, 0.001, SEEDS) for _ in range(3)]
        claims += any(each.verdict == NOT_WORSE for each in judged(plan, constants, *simpler))
    assert claims <= 0.05 * repeats


@pytest.mark.parametrize("objective", [MINIMIZE, MAXIMIZE])
@pytest.mark.parametrize("margin", [None, 0.3])
def test_the_interval_ends_below_the_margin_exactly_if_a_schedule_is_not_worse(margin, objective):
    draws, verdicts = np.random.default_rng(1), set()
    sign = 1 if objective is MINIMIZE else -1
    for _ in range(20):
        plan, noise = draws.normal(0.0, 0.1, SEEDS), draws.normal(0.0, 0.3, (2, SEEDS))
        values = (plan, 1.5 + noise[0], plan + draws.uniform(-0.2, 0.6) + 0.4 * noise[1])
        found = judged(*(sign * each for each in values), margin=margin, objective=objective)
        explained = contender(PLAN, sign * plan)
        result = document(found, explained, objective, CommonMetric("loss", True, ()))
        entry = result["comparisons"][1]
        worst = max(sign * end for end in entry["interval"])
        assert (worst < result["margin"]) == (entry["verdict"] == NOT_WORSE)
        assert entry["interval"][0] <= entry["difference"] <= entry["interval"][1]
        assert result["margin"] == pytest.approx(result["gain"] / 4 if margin is None else margin)
        verdicts.add(entry["verdict"])
    assert len(verdicts) == 2


def test_a_given_margin_is_exact():
    draws = np.random.default_rng(2)
    plan, simpler = draws.normal(0.0, 0.1, (2, SEEDS))
    _, found = judged(plan, plan + 1, simpler, margin=0.2)
    pair = Paired.of(tuple(simpler), tuple(plan))
    assert found.comparison.p == pair.p_below(0.2)
    assert found.interval == pytest.approx(pair.interval(found.level))


def test_without_a_gain_nothing_is_judged():
    draws = np.random.default_rng(3)
    plan = draws.normal(0.0, 0.1, SEEDS)
    _, found = judged(plan, plan - 1, plan - 2)
    assert (found.comparison.margin, found.comparison.p) == (None, 1.0)
    assert found.verdict == "not shown"
