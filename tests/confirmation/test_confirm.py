"""The plans that a confirmation compares, and the verdicts on their runs."""

from __future__ import annotations

import itertools
import json
import math
import random

import pytest

from schedsearch.confirmation.candidates import Candidate, candidates, few_constants_warning
from schedsearch.confirmation.confirm import prepare_confirmation
from schedsearch.confirmation.paired import Paired
from schedsearch.confirmation.stored_result import confirmation_result, keep_result
from schedsearch.confirmation.study import RunResult
from schedsearch.confirmation.verdicts import CommonMetric, common_metric, contend, document, winner
from schedsearch.engines.loop import LoopEngine
from schedsearch.errors import InputError, SchedSearchError, StudyError
from schedsearch.plan import Plan
from schedsearch.race.planned import trials_for_constants
from schedsearch.run import Run
from schedsearch.schedules import Constant
from schedsearch.space import Objective
from schedsearch.storage import plan_of
from schedsearch.training import search_seeds, train_to_end
from tests import searches
from tests.confirmation import tasks
from tests.confirmation.tasks import (
    FRESH,
    confirmed,
    content_of,
    open_confirmation,
    searched,
)
from tests.searches import is_constant, make_study, work

SEEDS = range(FRESH, FRESH + 8)
TEST = CommonMetric("test_loss", is_test=True, values=[])
LESS, MORE = Objective(metric="val_loss"), Objective(metric="val_loss", direction="maximize")


def candidate(number: int) -> Candidate:
    return Candidate(number, Plan({("lr",): Constant(float(number))}))


def judged(schedules, constants, objective=LESS):
    """Return the result for runs, a list for each plan, numbered in their order."""
    runs = [*schedules, *constants]
    contenders = contend([candidate(i) for i in range(len(runs))], runs, objective)
    count = len(schedules)
    result = document(contenders[:count], contenders[count:], objective, TEST, SEEDS)
    return json.loads(json.dumps(result, allow_nan=False))


LOW, MIDDLE, HIGH = ([base + 0.01 * i for i in range(8)] for base in (1.0, 2.0, 3.0))


@pytest.mark.parametrize("objective", [LESS, MORE])
def test_a_clear_difference_is_better_or_worse_in_the_objectives_direction(objective):
    good, bad = (LOW, HIGH) if objective is LESS else (HIGH, LOW)
    result = judged([good, bad, MIDDLE], [MIDDLE, bad], objective)
    verdicts = [plan["verdict"] for plan in result["plans"]]
    assert verdicts == ["better", "worse", "no difference seen"]
    assert result["baseline"]["number"] == 3
    assert result["direction"] == objective.direction
    assert winner(result) == 0


def test_differences_are_of_the_metric_as_it_is_whatever_the_direction():
    for objective in (LESS, MORE):
        [plan] = judged([HIGH], [MIDDLE], objective)["plans"]
        assert plan["difference"] == pytest.approx(1.0)
        assert plan["interval"] == sorted(plan["interval"])
        assert plan["interval"] == pytest.approx([1.0, 1.0])
        assert {plan["wins"], plan["losses"]} == {0, 8}


def test_better_has_to_hold_against_every_constant_not_only_the_baseline():
    often_best = [0.5] * 5 + [30.0] * 3  # its mean is the highest, and yet it mostly wins
    result = judged([LOW], [MIDDLE, often_best])
    [plan] = result["plans"]
    assert result["baseline"]["number"] == 1
    assert (plan["wins"], plan["verdict"]) == (8, "no difference seen")
    assert [against["number"] for against in plan["against"]] == [1, 2]
    assert winner(result) is None


def test_a_diverged_run_counts_as_the_worst_of_all_others():
    runs = [[1.0, math.nan], [2.0, 5.0]]
    [first, second] = contend([candidate(0), candidate(1)], runs, LESS)
    assert (first.values, first.diverged) == ((1.0, 5.0), 1)
    assert (second.values, second.diverged) == ((2.0, 5.0), 0)
    [first, _] = contend([candidate(0), candidate(1)], runs, MORE)
    assert first.values == (1.0, 1.0)


def test_a_plan_that_diverged_more_often_than_a_constant_is_not_called_better():
    nan = math.nan
    [as_worst] = judged([[*LOW[:7], 9.0]], [[*HIGH[:7], 9.0]])["plans"]
    [plan] = judged([[*LOW[:7], nan]], [[*HIGH[:7], 9.0]])["plans"]
    assert (as_worst["verdict"], plan["verdict"]) == ("better", "no difference seen")
    assert (as_worst["mean"], plan["diverged"]) == (plan["mean"], 1)
    assert as_worst["interval"][1] < 0
    assert plan["interval"] == [as_worst["interval"][0], 0.0]
    [plan] = judged([[*LOW[:7], nan]], [[*HIGH[:7], nan]])["plans"]
    assert plan["verdict"] == "better"
    [plan] = judged([[*LOW[:7], nan]], [[*HIGH[:7], nan], [*MIDDLE[:7], 9.0]])["plans"]
    assert plan["verdict"] == "no difference seen"


def test_what_the_study_keeps_of_the_most_schedules_fits_into_an_attribute_of_mysql(tmp_path):
    tables = {"piecewise": {"values": [i / 7 for i in range(60)]}}
    plan = Plan.from_tables({"hyperparameters": {"lr": {"families": tables}}})
    draws = random.Random(0)
    chosen = [Candidate(10_000 + number, plan) for number in range(54)]
    runs = [[draws.random() for _ in SEEDS] for _ in chosen]
    contenders = contend(chosen, runs, LESS)
    result = document(contenders[:50], contenders[50:], LESS, TEST, SEEDS)
    study = make_study(tmp_path)
    keep_result(study, open_confirmation(study), result)
    assert len(json.dumps(confirmation_result(study))) < 65_535 < len(json.dumps(result))


def test_if_every_run_diverged_there_is_nothing_to_compare():
    with pytest.raises(SchedSearchError, match="every run diverged"):
        contend([candidate(0)], [[math.nan] * 2], LESS)


def test_the_test_metric_compares_unless_a_run_lacks_it():
    both = [RunResult(0.5, 0.6), RunResult(0.7, 0.8)]
    assert common_metric(both, "val_loss") == CommonMetric("test_loss", True, [0.6, 0.8])
    without = [*both, RunResult(0.9, None)]
    assert common_metric(without, "val_loss") == CommonMetric("val_loss", False, [0.5, 0.7, 0.9])


def test_the_winner_is_the_best_mean_among_the_better():
    result = judged([MIDDLE, LOW, HIGH], [HIGH])
    assert [plan["verdict"] for plan in result["plans"]][:2] == ["better"] * 2
    assert winner(result) == 1


# --- on a study ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return searched(tmp_path_factory.mktemp("study"), content_of(trials=24))


def test_the_best_distinct_schedules_meet_the_three_best_constants_and_the_default(study):
    schedules, constants = candidates(study, 4)
    ranked = study.complete_trials(constant=False)
    assert [c.number for c in schedules] == [trial.number for trial in ranked[:4]]
    assert [c.plan for c in schedules] == [plan_of(trial) for trial in ranked[:4]]
    *best, default = constants
    assert [c.number for c in best] == [t.number for t in study.complete_trials(constant=True)[:3]]
    assert (default.number, default.plan) == (0, study.space.baseline())
    assert len({c.plan for c in constants}) == 4


def test_equal_plans_take_part_once(tmp_path):
    content = content_of()
    families = content["hyperparameters"]["lr"]["families"]
    families["constant"] = {"value": {"levels": [0.1, 0.2]}}  # of which one is the default
    families["exponential"] = {"initial": 0.9, "decay_rate": {"levels": [0.7, 0.8]}}
    schedules, constants = candidates(searched(tmp_path, content), 5)
    assert len(schedules) == len({c.plan for c in schedules}) == 2
    assert len(constants) == len({c.plan for c in constants}) == 2


def test_schedules_that_stay_at_a_bound_take_part_neither_twice_nor_beside_the_constant(tmp_path):
    content = content_of(trials=40)
    lr = content["hyperparameters"]["lr"]
    lr |= {"default": 0.5, "bounds": [0.1, 0.5]}
    rates = {"levels": [1.0, 1.1, 1.2, 1.3]}  # above the bound at once: as the default
    lr["families"] = {
        "constant": {"value": {"levels": [0.1, 0.5]}},
        "exponential": {"initial": 0.5, "decay_rate": rates},
        "linear": {"initial": 0.5, "final": {"levels": [0.2, 0.7, 0.9]}, "duration": 4},
    }
    schedules, constants = candidates(searched(tmp_path, content), 5)
    assert {c.plan.schedules[("lr",)].family for c in schedules} == {"linear"}
    assert [c.plan.schedules[("lr",)].final for c in schedules] == [0.2]
    assert {c.plan.schedules[("lr",)].value for c in constants} == {0.1, 0.5}


def test_without_a_complete_schedule_there_is_nothing_to_confirm(tmp_path):
    study = make_study(tmp_path, content_of(trials=1))
    work(study)
    with pytest.raises(StudyError, match="study small has no complete trial with a schedule yet"):
        candidates(study, 5)


def test_a_study_that_tried_few_constants_is_told_so(study, tmp_path):
    assert len(study.complete_trials(constant=True)) >= 10
    assert few_constants_warning(study) == []
    short = searched(tmp_path, content_of(trials=9))
    [line] = few_constants_warning(short)
    tried = len(short.complete_trials(constant=True))
    assert line.startswith(
        f"{tried} constants were tried, for 1 searched hyperparameter: {10 - tried} more are needed"
    )
    total = max(math.ceil(9 * 10 / tried), trials_for_constants(short.space, 10))
    assert f"`schedsearch start FILE --trials {total}` tries about so many" in line


def test_one_constant_is_singular(tmp_path):
    study = searched(tmp_path, content_of(trials=1))
    assert len(study.complete_trials(constant=True)) == 1
    [line] = few_constants_warning(study)
    assert line.startswith("1 constant was tried, for 1 searched hyperparameter: 9 more are needed")


def test_too_few_seeds_are_refused_with_the_number_needed(study):
    for top, least in ((1, 6), (5, 8)):
        with pytest.raises(InputError, match=f"--seeds is 5, but must be at least {least}"):
            prepare_confirmation(study, top=top, seeds=5)
    with pytest.raises(InputError) as refused:
        prepare_confirmation(study, top=5, seeds=7)
    assert str(refused.value) == (
        "--seeds is 7, but must be at least 8 to compare 5 schedules: with 7 seeds the smallest "
        "possible p is 2 / 2^7 = 0.016, but it must be below 0.05 / 5 = 0.01; raise --seeds or "
        "lower --top"
    )
    assert confirmation_result(study) is None


def test_another_task_than_the_searched_one_is_refused(study, monkeypatch):
    changed = {**searches.DEFAULTS, "new": 1.0}
    monkeypatch.setattr(tasks.train_with_noise, "hyperparameters", changed)
    with pytest.raises(StudyError, match="changed since study `small` was created"):
        prepare_confirmation(study, top=2, seeds=8)


@pytest.mark.long
def test_schedules_that_win_are_found_better_alike_each_time_and_the_result_is_kept(study):
    result = confirmed(study)
    assert result == confirmed(study)
    for entry in (result["baseline"], *result["constants"], *result["plans"]):
        del entry["plan"]
    assert confirmation_result(study) == json.loads(json.dumps(result))
    assert (result["metric"], result["test"]) == ("test_loss", True)
    assert [plan["verdict"] for plan in result["plans"]] == ["better"] * 2
    fresh = range(*result["seeds"])
    assert len(fresh) == 8
    assert not set(fresh) & set(search_seeds(study.space))


@pytest.mark.long
def test_other_schedules_on_the_same_seeds_are_another_look(tmp_path):
    study = searched(tmp_path, content_of(trials=24))
    looks = [confirmed(study, top=top)["looks"] for top in (1, 2, 1)]
    assert looks == [[8], [8, 8], [8, 8]]


@pytest.mark.long
def test_the_result_is_that_of_training_by_hand_on_the_same_seeds(study):
    result = confirmed(study)
    engine = LoopEngine(tasks.train_with_noise, horizon=study.space.horizon)

    def tested(tables, seed):
        run = Run(engine, space=study.space, plan=Plan.from_tables(tables), seed=seed)
        train_to_end([run])
        return run.test()["test_loss"]

    runs = {
        entry["number"]: [tested(entry["plan"], seed) for seed in range(*result["seeds"])]
        for entry in [*result["plans"], *result["constants"]]
    }
    for plan, constant in itertools.product(result["plans"], result["constants"]):
        paired = Paired.of(runs[plan["number"]], runs[constant["number"]])
        [against] = [a for a in plan["against"] if a["number"] == constant["number"]]
        assert against["difference"] == paired.mean
        assert against["interval"] == list(paired.interval(plan["level"]))
    assert all(is_constant(study, study.trial(c["number"])) for c in result["constants"])


@pytest.mark.long
def test_where_schedules_do_nothing_no_difference_is_seen_and_validation_compares(tmp_path):
    study = searched(tmp_path, content_of(tasks.train_indifferently))
    result = confirmed(study)
    assert (result["metric"], result["test"]) == ("val_loss", False)
    assert {plan["verdict"] for plan in result["plans"]} == {"no difference seen"}
    assert all(plan["interval"] == [0.0, 0.0] for plan in result["plans"])
    assert winner(result) is None
