"""Pruners: ASHA by known answers, and exempt trials, which no pruner stops."""

from __future__ import annotations

import math

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial

from schedsearch.pruners import AshaPruner, make_pruner
from schedsearch.space import Space
from schedsearch.space.rungs import geometric_rungs, rungs
from tests.searches import document, make_study, work

NAMES = ("forecast", "asha", "hyperband", "median", "patient", "none")


def study_of(
    *curves: list[float], direction: str = "minimize", last: dict | None = None
) -> optuna.Study:
    """Return a study of running trials with a value per epoch; `last`: attributes of the last."""
    study = optuna.create_study(direction=direction)
    for number, curve in enumerate(curves):
        attributes = (last or {}) if number == len(curves) - 1 else {}
        study.add_trial(
            create_trial(
                state=TrialState.RUNNING,
                user_attrs=attributes,
                intermediate_values=dict(enumerate(curve, start=1)),
            )
        )
    return study


def prunes_last(study: optuna.Study, min_epochs: int = 2, reduction_factor: int = 3) -> bool:
    rungs = geometric_rungs(min_epochs, reduction_factor, 100)
    return AshaPruner(tuple(rungs), reduction_factor).prune(study, study.trials[-1])


def test_asha_prunes_only_at_rungs():
    good, bad = [0.1] * 20, [0.9] * 20
    pruned = [n for n in range(1, 21) if prunes_last(study_of(good, bad[:n]))]
    assert pruned == [2, 6, 18]


@pytest.mark.parametrize(
    ("others", "own", "pruned"),
    [
        ([], 0.5, False),  # the first at the rung
        ([0.4], 0.5, True),  # not the best of two
        ([0.6], 0.5, False),
        ([0.4, 0.6, 0.7, 0.8, 0.9], 0.5, False),  # second of six: the best two continue
        ([0.3, 0.4, 0.7, 0.8, 0.9], 0.5, True),  # third of six
        ([0.3, 0.4, 0.7, 0.8], 0.5, True),  # of five only the best continues
        ([0.5], 0.5, False),  # a tie is not worse
        ([0.5, 0.5, 0.5], 0.5, False),
        ([math.nan, math.nan], 0.5, False),  # diverged trials do not count
        ([0.4, math.nan, math.nan, math.nan, math.nan], 0.5, True),
    ],
)
def test_asha_keeps_the_best_third_of_those_at_a_rung(others, own, pruned):
    curves = [[1.0, value] for value in (*others, own)]
    assert prunes_last(study_of(*curves)) is pruned
    negated = [[-value for value in curve] for curve in curves]
    assert prunes_last(study_of(*negated, direction="maximize")) is pruned


def test_asha_counts_exactly_the_trials_that_reached_the_rung():
    assert prunes_last(study_of([1.0, 0.4], [1.0, 0.5]))
    assert not prunes_last(study_of([1.0], [1.0, 0.5]))


def test_asha_prunes_a_trial_that_diverged_at_a_rung():
    assert prunes_last(study_of([1.0, math.nan]))


def test_asha_does_not_count_a_trial_that_a_retry_replaced():
    study = optuna.create_study()
    curve = {1: 1.0, 2: 0.1}
    study.add_trial(
        create_trial(
            state=TrialState.RUNNING, user_attrs={"superseded_by": 1}, intermediate_values=curve
        )
    )
    study.add_trial(create_trial(state=TrialState.RUNNING, intermediate_values={1: 1.0, 2: 0.2}))
    assert not prunes_last(study)


def expected_decision(study: optuna.Study, trial: optuna.trial.FrozenTrial, factor: int) -> bool:
    """Return the decision by its definition, computed from all trials."""
    rung = trial.last_step
    values = [other.intermediate_values.get(rung, math.nan) for other in study.trials]
    value = trial.intermediate_values[rung]
    if math.isnan(value):
        return True
    rank = sum(other < value for other in values)
    return rank >= max(1, sum(other == other for other in values) // factor)


@given(st.data())
def test_the_cache_of_finished_trials_changes_no_decision_of_asha(data):
    study, pruner = optuna.create_study(), AshaPruner((1, 2, 4, 8, 16, 32), reduction_factor=2)
    running: list[optuna.Trial] = []
    for _ in range(data.draw(st.integers(1, 40))):
        if not running or data.draw(st.booleans()):
            running.append(study.ask())
        trial = data.draw(st.sampled_from(running))
        frozen = study.trials[trial.number]
        epochs = (frozen.last_step or 0) + 1
        trial.report(data.draw(st.sampled_from([0.1, 0.2, 0.3, 0.4, math.nan])), epochs)
        frozen = study.trials[trial.number]
        decided = pruner.prune(study, frozen)
        assert decided == (epochs in (1, 2, 4, 8) and expected_decision(study, frozen, 2))
        if decided or epochs == 8:
            running.remove(trial)
            study.tell(trial, state=TrialState.PRUNED)


def test_asha_does_not_count_exempt_trials():
    study = study_of([1.0, 0.1], last={"unpruned": True})
    study.add_trial(create_trial(state=TrialState.RUNNING, intermediate_values={1: 1.0, 2: 0.9}))
    assert not prunes_last(study)


@pytest.mark.parametrize("name", NAMES)
def test_no_pruner_prunes_an_exempt_trial(tmp_path, name):
    options = {"name": name, "min_epochs": 1, "startup_trials": 3, "patience": 1}
    study = make_study(tmp_path, document(trials=30, pruner=options, sampler={"name": "random"}))
    ears = work(study)
    assert not ears.wrong
    trials = study.trials()
    assert len(trials) == study.queue.counts().finished == 30
    exempt = [trial for trial in trials if trial.user_attrs.get("unpruned")]
    assert {trial.state for trial in exempt} == {TrialState.COMPLETE}
    pruned = sum(trial.state is TrialState.PRUNED for trial in trials)
    assert (pruned > 0) == (name not in ("none", "patient"))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, (2, 6, 18)),
        (["33%"], (7,)),
        (["50%", 3, "100%", 25, "1%", 3], (1, 3, 10)),
    ],
)
def test_rungs_are_geometric_or_those_of_the_space(given, expected):
    options = {"name": "asha", "min_epochs": 2} | ({"rungs": given} if given else {})
    space = space_of(20, **options)
    assert rungs(space) == expected
    pruner, pruned = make_pruner(space), []
    for epochs in range(1, 20):
        study = study_of([0.1] * 19, [0.9] * epochs)
        if pruner.prune(study, study.trials[-1]):
            pruned.append(epochs)
        pruner = make_pruner(space)
    assert tuple(pruned) == expected


def space_of(horizon: int, **pruner) -> Space:
    return Space.from_document(document(pruner=pruner) | {"horizon": horizon}, "small.toml")


def first_pruned(name: str, min_epochs: int, horizon: int) -> set[int]:
    """Return the epochs at which trials that get worse are pruned, beside constant good ones."""
    options = {"min_epochs": min_epochs, "startup_trials": 1, "patience": 0, "reduction_factor": 2}
    pruner, pruned = make_pruner(space_of(horizon, name=name, **options)), set()
    study = optuna.create_study(study_name="brackets depend on the name", pruner=pruner)
    for number in range(24):
        trial = study.ask()
        for epoch in range(1, horizon + 1):
            trial.report(1.0 + number * epoch if number % 2 else 0.1, epoch)
            if pruner.prune(study, study.trials[-1]) and number % 2:
                pruned.add(epoch)
                study.tell(trial, state=TrialState.PRUNED)
                break
        else:
            study.tell(trial, 0.1)
    return pruned


@pytest.mark.parametrize("name", ["asha", "hyperband", "median", "patient"])
def test_pruning_starts_at_min_epochs(name):
    assert min(first_pruned(name, min_epochs=4, horizon=16)) == 4


@pytest.mark.parametrize("name", ["asha", "hyperband", "median", "patient"])
def test_nothing_is_pruned_if_min_epochs_are_beyond_the_horizon(name):
    assert not first_pruned(name, min_epochs=30, horizon=9)


def test_the_patient_pruner_prunes_a_trial_that_stops_improving():
    options = {"min_epochs": 1, "startup_trials": 1, "patience": 2}
    pruner = make_pruner(space_of(9, name="patient", **options))
    study = optuna.create_study()
    good = dict(enumerate([0.5, 0.4, 0.3, 0.2, 0.1], start=1))
    study.add_trial(create_trial(value=0.1, intermediate_values=good))
    worse = dict(enumerate([0.5, 0.5, 0.6, 0.6, 0.6], start=1))
    study.add_trial(create_trial(state=TrialState.RUNNING, intermediate_values=worse))
    falling = dict(enumerate([0.9, 0.8, 0.7, 0.6, 0.55], start=1))
    study.add_trial(create_trial(state=TrialState.RUNNING, intermediate_values=falling))
    assert [pruner.prune(study, trial) for trial in study.trials[1:]] == [True, False]
