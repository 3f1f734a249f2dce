"""The forecast's proposals: better than random ones, different from each other, and valid."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import optuna
from optuna.trial import TrialState, create_trial

from schedsearch.forecast import path_of
from schedsearch.forecast.prior import ranks_of
from schedsearch.plan import Plan
from schedsearch.samplers import make_sampler
from schedsearch.samplers.forecast import ForecastSampler
from schedsearch.space import Space
from schedsearch.space.suggesters import RandomSuggester
from schedsearch.storage import PATH_POINTS, EarlierStudy
from schedsearch.storage.attributes import DIVERGED, PLAN, TAKEN_FROM
from tests.searches import document, make_study, work


def space_of(**families: dict) -> Space:
    content = document(sampler={"name": "forecast", "constants": 0.0})
    content["hyperparameters"]["lr"]["default"] = 0.1
    content["hyperparameters"]["lr"]["families"] |= families
    return Space.from_document(content, "small.toml")


def value_of(tables: dict) -> float:
    """Return a value that depends on the learning rate early and late: 0.3, then 0.03, is best."""
    plan = Plan.from_tables(tables).resolve(9, 0)
    state, values = plan.start(), []
    for _ in range(9):
        values.append(math.log10(plan.values(state)["lr"]))
        state = {name: {"epoch": one["epoch"] + 1} for name, one in state.items()}
    return 0.01 + (values[0] + 0.5) ** 2 + (values[-1] + 1.5) ** 2


def begin(study: optuna.Study, space: Space) -> tuple[optuna.Trial, dict]:
    trial = study.ask()
    tables = space.suggest_tables(trial)
    trial.set_user_attr(PLAN, tables)
    return trial, tables


def search(
    sampler: optuna.samplers.BaseSampler,
    space: Space,
    trials: int = 40,
    value_of: Callable[[dict], float] = value_of,
) -> list[float]:
    study = optuna.create_study(sampler=sampler)
    for _ in range(trials):
        trial, tables = begin(study, space)
        value = value_of(tables)
        for epoch in range(1, 10):
            trial.report(value, epoch)
        study.tell(trial, value)
    return [trial.value for trial in study.trials]


def test_proposals_are_better_than_random_ones():
    space, better = space_of(), 0
    for seed in range(8):
        found = search(ForecastSampler(space, seed), space)
        random = search(optuna.samplers.RandomSampler(seed), space)
        better += sorted(found[20:])[10] < sorted(random[20:])[10]
    assert better == 8


def test_the_first_trials_are_random():
    space = space_of()
    values = {
        startup: search(ForecastSampler(space, 0, startup_trials=startup), space, 24)
        for startup in (12, 24)
    }
    assert values[12][:12] == values[24][:12]
    assert values[12][12:] != values[24][12:]


def test_plans_that_are_proposed_together_differ():
    space = space_of()
    study = optuna.create_study(sampler=ForecastSampler(space, 0))
    for _ in range(20):
        trial, tables = begin(study, space)
        trial.report(value_of(tables), 9)
        study.tell(trial, value_of(tables))
    together = [begin(study, space)[1] for _ in range(16)]
    values = {round(value_of(tables), 6) for tables in together}
    assert len(values) == 16
    # Those of the second half are no crowd around the first: the model counts them as trained.
    ends = sorted(
        Plan.from_tables(t).resolve(9, 0).values({"lr": {"epoch": 8}})["lr"] for t in together
    )
    assert ends[-1] > 2 * ends[0]


def test_schedules_that_stay_at_a_bound_are_no_lottery():
    """Where many plans have the same values, noise alone would make some of them look better."""
    bounded = space_of().to_document()
    rate = bounded["hyperparameters"]["lr"]
    rate |= {"default": 0.01, "bounds": [0.01, 0.9]}
    # From the lower bound it cannot fall any further.
    rate["families"] = {
        "constant": {"value": {"low": 0.01, "high": 0.9, "log": True}},
        "exponential": {"initial": 0.01, "decay_rate": {"low": 0.1, "high": 0.99}},
        "linear": {"initial": {"low": 0.01, "high": 0.9}, "final": 0.01, "duration": 9},
    }
    space, noise = Space.from_document(bounded, "small.toml"), np.random.default_rng(0)
    stayed: list[bool] = []

    def lucky(tables: dict) -> float:
        stayed.append("exponential" in tables["hyperparameters"]["lr"]["families"])
        return 0.1 + 0.1 * noise.random() + 0.001 * (not stayed[-1])

    search(ForecastSampler(space, 0), space, 60, lucky)
    # Half of the first trials, and half of the 15 % that are random.
    assert sum(stayed[20:]) < 10


def test_a_schedule_that_stays_at_a_bound_does_not_keep_its_value_from_the_constants():
    content = space_of().to_document()
    levels = {"levels": [0.1, 0.3, 0.5, 0.7, 0.9]}
    content["hyperparameters"]["lr"]["families"] = {
        "constant": {"value": levels},
        "linear": {"initial": levels, "final": levels},
    }
    space = Space.from_document(content, "small.toml")
    study = optuna.create_study()
    # The mean of the values is the objective; the last schedule stays at the best constant.
    for initial, final in [(0.9, 0.5), (0.3, 0.7), (0.5, 0.1), (0.7, 0.9), (0.3, 0.1)] * 3 + [
        (0.1, 0.1)
    ]:
        line = {"initial": initial, "final": final, "duration": 9}
        tables = {"hyperparameters": {"lr": {"families": {"linear": line}}}}
        value = (initial + final) / 2
        reports = dict.fromkeys(range(1, 10), value)
        study.add_trial(
            create_trial(value=value, user_attrs={PLAN: tables}, intermediate_values=reports)
        )
    proposed = []
    for seed in range(10):
        study.sampler = ForecastSampler(space, seed, constants=True)
        _, tables = begin(study, space)
        [value] = tables["hyperparameters"]["lr"]["families"]["constant"].values()
        proposed.append(value)
        study.tell(study.trials[-1].number, state=TrialState.FAIL)
    assert proposed.count(0.1) > 5


def test_all_constant_plans_come_from_the_share_of_constants_alone(tmp_path):
    content = document(trials=40, sampler={"name": "forecast"}, pruner={"name": "none"})
    study = make_study(tmp_path, content)
    ears = work(study)
    assert not ears.wrong
    for trial in study.trials():
        constant = study.space.is_constant_plan(trial.user_attrs["plan"])
        assert constant == bool(trial.user_attrs.get("unpruned"))


def test_a_space_of_constants_only_is_searched_too(tmp_path):
    content = document(trials=20, sampler={"name": "forecast"}, pruner={"name": "none"})
    del content["hyperparameters"]["lr"]["families"]["exponential"]
    study = make_study(tmp_path, content)
    assert not work(study).wrong
    assert {trial.state for trial in study.trials()} == {TrialState.COMPLETE}
    # A plan is drawn as a whole, so the model can choose among several.
    sampler = ForecastSampler(study.space, 0)
    assert sampler._draw().parameters.keys() == {"lr.constant.value"}


def test_parameters_that_always_break_a_rule_together_are_proposed_all_the_same(tmp_path):
    content = document(trials=20, sampler={"name": "forecast"}, pruner={"name": "none"})
    above = {"low": 1e300, "high": 2e300}
    overflowing = {"exponential": {"initial": above, "decay_rate": {"low": 1e3, "high": 2e3}}}
    content["hyperparameters"]["lr"]["families"] |= overflowing
    study = make_study(tmp_path, content)
    assert not work(study).wrong
    assert any("overflows" in trial.user_attrs.get("refused", "") for trial in study.trials())


def test_a_copy_with_new_random_numbers_proposes_other_plans():
    space = space_of()
    first, second = ForecastSampler(space, 0), ForecastSampler(space, 0)
    second.reseed_rng()
    assert search(first, space, 4) != search(second, space, 4)


def test_any_space_that_tpe_takes_is_taken():
    made = make_sampler(space_of(linear={"initial": 0.1, "final": 0.0}), "ann")
    assert search(made, space_of(linear={"initial": 0.1, "final": 0.01}), 14)


def test_trials_whose_plans_set_other_hyperparameters_tell_nothing():
    study = optuna.create_study(sampler=ForecastSampler(space_of(), 0))
    other = {"hyperparameters": {"other": {"families": {"constant": {"value": 1.0}}}}}
    for number in range(30):
        reports = {9: float(number)}
        study.add_trial(
            create_trial(value=1.0, intermediate_values=reports, user_attrs={PLAN: other})
        )
    plans = [begin(study, space_of())[1] for _ in range(12)]
    assert all("lr" in tables["hyperparameters"] for tables in plans)


def known_value(tables: dict) -> float:
    """Return a value that depends on one rate and four arguments."""
    found = {name: table["value"] for name, table in tables["arguments"].items()}
    rate = tables["hyperparameters"]["lr"]["families"]["constant"]["value"]
    value = (math.log10(rate) + 1.5) ** 2 + {"sgd": 0.3, "adamw": 0.0, "rmsprop": 0.2}[found["a"]]
    return 0.05 + value + (found["b"] - 0.2) ** 2 + (found["c"] - 0.7) ** 2 + abs(found["d"] - 5)


def test_variants_of_the_best_plans_find_what_random_candidates_do_not(monkeypatch):
    content = document(sampler={"name": "forecast", "constants": 0.0})
    del content["hyperparameters"]["lr"]["families"]["exponential"]
    content["arguments"] = {
        "a": {"levels": ["sgd", "adamw", "rmsprop"]},
        "b": {"low": 0.0, "high": 1.0},
        "c": {"low": 0.0, "high": 1.0},
        "d": {"low": 1, "high": 9, "step": 1},
    }
    space = Space.from_document(content, "small.toml")
    regrets, others = [], []
    for seed in range(6):
        found = search(ForecastSampler(space, seed), space, 60, known_value)
        with monkeypatch.context() as patch:
            patch.setattr("schedsearch.samplers.forecast._VARIANTS", 0)
            without = search(ForecastSampler(space, seed), space, 60, known_value)
        regrets.append(min(found) - 0.05)
        others.append(min(without) - 0.05)
    assert sum(regrets) < sum(others) / 2


def earlier_of(space: Space, sign: float) -> EarlierStudy:
    """Return what an earlier study of other values, in the same order, tells of random plans."""
    suggester, paths, values = RandomSuggester(0), [], []
    for _ in range(40):
        tables = space.suggest_tables(suggester)
        plan = Plan.from_tables(tables).resolve(9, 0)
        paths.append(tuple(map(tuple, path_of(plan, ("lr",), 9, [], points=PATH_POINTS).tolist())))
        values.append(sign * value_of(tables))
    ranks = tuple(ranks_of(np.array(values)).tolist())
    return EarlierStudy("earlier", "a:B", "loss", 9, 40, ("lr",), ranks, tuple(paths))


def test_the_first_trials_are_better_from_an_earlier_study_once_results_agree():
    space, better = space_of(), 0
    earlier = [earlier_of(space, 1.0)]
    for seed in range(8):
        found, cold = (
            search(ForecastSampler(space, seed, startup_trials=16, earlier=studies), space, 16)
            for studies in (earlier, [])
        )
        better += sorted(found)[8] < sorted(cold)[8]
    assert better >= 7


def test_before_any_result_earlier_studies_propose_nothing():
    space, first = space_of(), []
    for earlier in ([], [earlier_of(space, 1.0)]):
        study = optuna.create_study(sampler=ForecastSampler(space, 0, earlier=earlier))
        first.append([begin(study, space)[1] for _ in range(32)])
    assert first[0] == first[1]


def test_plans_of_earlier_studies_do_not_count_as_startup_trials():
    space, found = space_of(), []
    for attributes in ({}, {TAKEN_FROM: {"study": "earlier", "trial": 1}}, None):
        study = optuna.create_study(sampler=ForecastSampler(space, 0, startup_trials=10))
        suggester = RandomSuggester(1)
        for _ in range(0 if attributes is None else 12):
            tables = space.suggest_tables(suggester)
            value = value_of(tables)
            reports = dict.fromkeys(range(1, 10), value)
            study.add_trial(
                create_trial(
                    value=value,
                    intermediate_values=reports,
                    user_attrs={PLAN: tables, **attributes},
                )
            )
        found.append([begin(study, space)[1] for _ in range(8)])
    own, taken, none = found
    assert taken == none != own


def test_an_earlier_study_that_misleads_does_little_harm():
    space = space_of()
    earlier = [earlier_of(space, -1.0)]
    found, cold = [], []
    for seed in range(8):
        found += search(ForecastSampler(space, seed, earlier=earlier), space)[20:]
        cold += search(ForecastSampler(space, seed), space)[20:]
    assert sorted(found)[80] < 1.25 * sorted(cold)[80]


def test_plans_that_diverge_are_avoided():
    space, diverged = space_of(), 0
    study = optuna.create_study(sampler=ForecastSampler(space, 0))
    for _ in range(80):
        trial, tables = begin(study, space)
        plan = Plan.from_tables(tables).resolve(9, 0)
        first = plan.values(plan.start())["lr"]
        trial.report(1.0, 1)
        if first > 0.1:  # the best ones are near the cliff
            trial.set_user_attr(DIVERGED, 1)
            study.tell(trial, state=TrialState.PRUNED)
            diverged += trial.number >= 40
        else:
            study.tell(trial, 2.0 - first)
    assert diverged <= 20


def test_a_plan_whose_trial_was_stopped_is_not_proposed_again():
    content = document(sampler={"name": "forecast", "constants": 0.0})
    content["hyperparameters"]["lr"]["default"] = 0.1
    levels = [0.01 * i for i in range(1, 31)]
    content["hyperparameters"]["lr"]["families"] = {
        "constant": {"value": 0.1},
        "linear": {"initial": {"levels": levels}, "final": {"levels": levels}},
    }
    space = Space.from_document(content, "small.toml")
    study, stopped = optuna.create_study(sampler=ForecastSampler(space, 0)), []
    for number in range(80):
        trial, tables = begin(study, space)
        value = value_of(tables)
        trial.report(value, 1)
        if number >= 12 and number % 2:
            stopped.append(tables)
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, value)
    # A share of the proposals is random, and may be any plan.
    assert sum(tables in stopped[:i] for i, tables in enumerate(stopped)) <= 2
