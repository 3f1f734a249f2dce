"""Luck or poor constants do not make `confirm` call a schedule better."""

from __future__ import annotations

import pytest

from schedsearch.confirmation.paired import Paired, Verdict, judge
from schedsearch.confirmation.study import recorded_runs
from schedsearch.plan import Plan
from schedsearch.report.confirmation import confirmation_lines
from schedsearch.space import Space
from schedsearch.space.constant_coverage import constant_coverage_warnings
from tests.confirmation import tasks
from tests.confirmation.tasks import confirmed, content_of, open_confirmation, searched

pytestmark = pytest.mark.long


def test_where_schedules_do_nothing_the_luckiest_of_many_is_no_different(tmp_path):
    study = searched(tmp_path, content_of(tasks.train_by_luck, trials=60))
    assert study.complete_trials(constant=False)[0].value < 0.1  # and yet each gives 0.5 on average
    result = confirmed(study, top=3, seeds=12)
    assert [plan["verdict"] for plan in result["plans"]] == ["no difference seen"] * 3


def test_constants_that_are_coarse_would_make_a_schedule_look_good_and_the_studys_do_not(tmp_path):
    content = content_of(tasks.train_to_the_mean, trials=100, sampler={"constants": 0.2})
    lr = content["hyperparameters"]["lr"]
    lr["families"]["constant"] = {"value": {"low": 0.01, "high": 0.9}}
    lr["families"]["exponential"] |= {"decay_rate": {"low": 0.7, "high": 0.9}}
    study = searched(tmp_path, content)
    result = confirmed(study, top=3, seeds=12)
    assert "better" not in {plan["verdict"] for plan in result["plans"]}

    seeds = range(*result["seeds"])
    of_plans = [Plan.from_tables(plan["plan"]) for plan in result["plans"]]
    known = recorded_runs(open_confirmation(study))
    tested = [[known[plan, seed].test for seed in seeds] for plan in of_plans]
    # The same runs, had the study tried these constants alone.
    coarse = [coarse_runs(value, seeds) for value in (0.01, 0.455, 0.9)]
    judged = judge([[Paired.of(runs, others) for others in coarse] for runs in tested])
    assert Verdict.BETTER in {judgement.verdict for judgement in judged}

    # Such a study says so itself: `check` beforehand, and the verdict afterwards.
    assert result["coarse"] == []
    lr["families"]["constant"] = {"value": {"levels": [0.01, 0.455, 0.9]}}
    [warning] = constant_coverage_warnings(Space.from_document(content, "small.toml"))
    assert warning.startswith("lr: `constant` has only 3 values")
    assert confirmation_lines(result | {"coarse": [warning]})[-1].endswith(warning)


def coarse_runs(value: float, seeds: range) -> list[float]:
    """Return the test metric of a constant, by the task's own formula."""
    rates = [value] * 9
    return [tasks.off_target(rates, f"{seed} {rates} tested") for seed in seeds]
