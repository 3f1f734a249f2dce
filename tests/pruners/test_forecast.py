"""Pruning by the forecast: schedules that cross are no obstacle, hopeless trials are stopped."""

from __future__ import annotations

import itertools
import math

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial

from schedsearch.pruners.decision import decide_pruning
from schedsearch.pruners.forecast import ForecastPruner
from schedsearch.space import Space
from schedsearch.storage.attributes import AUDITED, FORECAST, FROM_EPOCH, PLAN, RACED_TRIAL, SEED
from tests.searches import document, make_study, work

HORIZON = 20


def space_of(direction: str = "minimize", **pruner) -> Space:
    options = {"name": "forecast", "min_epochs": 4, "every": 2, "startup_trials": 8} | pruner
    content = document(pruner=options) | {"horizon": HORIZON}
    content["hyperparameters"]["lr"]["default"] = 0.1
    content["objective"]["direction"] = direction
    return Space.from_document(content, "small.toml")


def tables(falls: int) -> dict:
    """Return a plan whose learning rate falls after some epochs."""
    family = {"multistep": {"initial": 0.1, "decay_rate": 0.01, "milestones": [falls]}}
    return {"hyperparameters": {"lr": {"families": family}}}


#: Of trials that belong to no study.
_NUMBERS = itertools.count(1000)


def trial_of(falls: int, epochs: int = HORIZON, noise: float = 0.0, sign: int = 1, **attributes):
    """Return a trial that ends the better the later its rate falls, but looks worse until then."""
    final = math.exp(-falls / 20 + noise)
    curve = [final * (math.e if epoch < falls else 1.0) for epoch in range(epochs)]
    complete = epochs == HORIZON
    trial = create_trial(
        state=TrialState.COMPLETE if complete else TrialState.RUNNING,
        value=sign * curve[-1] if complete else None,
        intermediate_values={epoch: sign * value for epoch, value in enumerate(curve, start=1)},
        user_attrs={PLAN: tables(falls), **attributes},
    )
    trial.number = next(_NUMBERS)
    return trial


def trained(number: int = 30, sign: int = 1) -> optuna.Study:
    study = optuna.create_study(direction="minimize" if sign == 1 else "maximize")
    rng = np.random.default_rng(0)
    for _ in range(number):
        falls, noise = int(rng.integers(1, HORIZON - 1)), 0.03 * rng.normal()
        study.add_trial(trial_of(falls, noise=noise, sign=sign))
    return study


@pytest.mark.parametrize(("direction", "sign"), [("minimize", 1), ("maximize", -1)])
def test_what_looks_worse_but_will_end_better_goes_on(direction, sign):
    study, pruner = trained(sign=sign), ForecastPruner(space_of(direction))
    late, early = trial_of(17, 10, sign=sign), trial_of(3, 10, sign=sign)
    assert sign * late.intermediate_values[10] > sign * early.intermediate_values[10]
    assert not pruner.prune(study, late)
    assert pruner.prune(study, early)


def test_decisions_are_made_every_few_epochs_and_not_before_the_first():
    study, pruner = trained(), ForecastPruner(space_of(min_epochs=5, every=4))
    decided = [n for n in range(1, HORIZON) if pruner.prune(study, trial_of(2, n))]
    assert decided == [5, 9, 13, 17]


def test_nothing_is_stopped_before_enough_trials_are_complete():
    hopeless = trial_of(2, 10)
    assert not ForecastPruner(space_of(startup_trials=8)).prune(trained(7), hopeless)
    assert ForecastPruner(space_of(startup_trials=30)).prune(trained(30), hopeless)


def test_trials_whose_plans_set_other_hyperparameters_tell_nothing():
    study, pruner = optuna.create_study(), ForecastPruner(space_of())
    family = {"constant": {"value": 0.1}}
    for _ in range(30):
        other = {PLAN: {"hyperparameters": {"other": {"families": family}}}}
        study.add_trial(trial_of(19, **other))
    assert not pruner.prune(study, trial_of(1, 10))
    assert pruner.forecast(study, trial_of(1, 10)) is None


def test_no_trial_is_stopped_within_its_cached_prefix():
    study, pruner = trained(), ForecastPruner(space_of())
    assert not pruner.prune(study, trial_of(2, 10, **{FROM_EPOCH: 10}))
    assert pruner.prune(study, trial_of(2, 10, **{FROM_EPOCH: 9}))


def test_a_chance_of_zero_stops_nothing():
    assert not ForecastPruner(space_of(chance=0.0)).prune(trained(), trial_of(2, 10))


def test_a_plan_unlike_all_others_goes_on():
    study, pruner = trained(), ForecastPruner(space_of())
    strange = {"hyperparameters": {"lr": {"families": {"constant": {"value": 1e4}}}}}
    trial = trial_of(3, 10)
    trial.user_attrs[PLAN] = strange
    trial.intermediate_values = dict.fromkeys(range(1, 11), 0.4)
    assert not pruner.prune(study, trial)


def test_the_forecast_of_an_audited_trial_is_recorded_once_and_it_goes_on():
    space, study = space_of(), trained()
    pruner = ForecastPruner(space)
    audited = trial_of(3, 10, **{AUDITED: True})
    decision = decide_pruning(pruner, space, study, audited)
    assert not decision.prune
    assert decision.would_prune
    assert decision.forecast is not None
    low, median, high = decision.forecast
    assert low < median < high
    assert low <= math.exp(-3 / 20) <= high
    audited.user_attrs[FORECAST] = [10, *decision.forecast]
    assert decide_pruning(pruner, space, study, audited).forecast is None


def test_quantiles_are_in_the_direction_of_the_metric():
    forecast = ForecastPruner(space_of("maximize")).forecast(
        trained(sign=-1), trial_of(3, 10, sign=-1)
    )
    assert forecast is not None
    assert forecast[0] < forecast[1] < forecast[2] < 0


def test_a_search_learns_from_its_audited_trials_and_counts_them(tmp_path):
    options = {"name": "forecast", "min_epochs": 2, "startup_trials": 5, "audit": 0.3}
    study = make_study(tmp_path, document(trials=60, pruner=options))
    assert not work(study).wrong
    states = [trial.state for trial in study.trials()]
    assert states.count(TrialState.PRUNED) > 5
    forecasts = [t.user_attrs[FORECAST] for t in study.trials() if FORECAST in t.user_attrs]
    assert forecasts
    assert all(2 <= epoch < 9 and low <= median <= high for epoch, low, median, high in forecasts)


def test_a_trial_goes_on_if_its_best_epoch_counts_and_beats_the_third_best():
    study, content = trained(), space_of().to_document()
    content["objective"]["value"] = "best"
    good_before = trial_of(3, 10)
    good_before.intermediate_values[2] = 0.01
    assert ForecastPruner(space_of()).prune(study, good_before)
    assert not ForecastPruner(Space.from_document(content, "small.toml")).prune(study, good_before)


def test_runs_of_a_race_on_an_easier_seed_do_not_raise_the_bar():
    study, pruner = trained(), ForecastPruner(space_of())
    finals = sorted(trial.value for trial in study.trials)
    for trial in sorted(study.trials, key=lambda trial: trial.value)[:4]:
        study.add_trial(
            create_trial(
                value=trial.value / 2,
                intermediate_values={n: v / 2 for n, v in trial.intermediate_values.items()},
                user_attrs={**trial.user_attrs, RACED_TRIAL: trial.number, SEED: 1},
            )
        )
    as_good_as_the_second = trial_of(17, 10)
    assert finals[1] / 2 < finals[0]
    assert not pruner.prune(study, as_good_as_the_second)
    assert pruner._third_best() == finals[2]


def test_a_best_value_without_logarithm_needs_another_scale():
    study, pruner = trained(), ForecastPruner(space_of())
    assert not pruner.prune(study, trial_of(17, 10))
    for _ in range(3):
        trial = trial_of(18)
        trial.values = [0.0]
        study.add_trial(trial)
    assert not pruner.prune(study, trial_of(18, 10))


def shifted(trial, shift: float):
    trial.intermediate_values = {n: v + shift for n, v in trial.intermediate_values.items()}
    if trial.values:
        trial.values = [trial.value + shift]
    return trial


def test_one_run_that_becomes_bad_late_does_not_hide_the_hopeless_ones():
    # Values without logarithms, such as those of a maximized metric.
    stopped = []
    for outlier in (False, True):
        study, rng = optuna.create_study(), np.random.default_rng(0)
        for _ in range(40):
            falls, noise = int(rng.integers(1, HORIZON - 1)), 0.03 * rng.normal()
            study.add_trial(shifted(trial_of(falls, noise=noise), -1.0))
        if outlier:
            bad = trial_of(10)
            bad.intermediate_values |= dict.fromkeys(range(16, HORIZON + 1), 50.0)
            bad.values = [50.0]
            study.add_trial(bad)
        pruner = ForecastPruner(space_of())
        stopped.append(
            [n for n in range(1, 18) if pruner.prune(study, shifted(trial_of(n, 10), -1))]
        )
    assert 5 < len(stopped[0]) < 17
    assert len({*stopped[0]} ^ {*stopped[1]}) <= 2


def test_metrics_that_hardly_differ_are_no_error():
    study, space = optuna.create_study(direction="maximize"), space_of("maximize")
    for i in range(30):
        trial = trial_of(int(i % 18) + 1)
        trial.intermediate_values = {n: 0.9 + 1e-9 * ((i * n) % 3) for n in range(1, HORIZON + 1)}
        trial.values = [trial.intermediate_values[HORIZON]]
        study.add_trial(trial)
    running = trial_of(3, 10)
    running.intermediate_values = dict.fromkeys(range(1, 11), 0.9)
    assert ForecastPruner(space).prune(study, running) in (True, False)
