"""The trials of a study as a forecast sees them."""

from __future__ import annotations

import math

import numpy as np
import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from schedsearch.forecast import TrainedPlans, representative
from schedsearch.forecast.history import TrainedPlan
from schedsearch.space import Space
from schedsearch.storage.attributes import PLAN, SUPERSEDED_BY
from tests.searches import document

HORIZON = 9


def space_of(direction: str = "minimize") -> Space:
    content = document()
    content["objective"]["direction"] = direction
    content["hyperparameters"]["lr"]["default"] = 0.1
    return Space.from_document(content, "small.toml")


def plan_tables(value: float) -> dict:
    return {"hyperparameters": {"lr": {"families": {"constant": {"value": value}}}}}


def trial_of(
    value: float = 1.0, curve: list[float] | None = None, state=TrialState.COMPLETE, **attributes
) -> FrozenTrial:
    reports = dict(enumerate(curve or [2.0] * 8 + [value], start=1))
    return create_trial(
        state=state,
        value=value if state is TrialState.COMPLETE else None,
        intermediate_values=reports,
        user_attrs={PLAN: plan_tables(0.3), **attributes},
    )


def study_of(*trials: FrozenTrial, direction: str = "minimize") -> optuna.Study:
    study = optuna.create_study(direction=direction)
    for trial in trials:
        study.add_trial(trial)
    return study


def test_complete_trials_are_read_once_when_they_have_ended():
    running = trial_of(state=TrialState.RUNNING)
    study, trained = study_of(trial_of(0.5), running), TrainedPlans(space_of())
    trained.update(study.trials)
    assert [plan.final for plan in trained.plans] == [0.5]
    trained.update(study.trials)
    assert len(trained.plans) == 1
    later = study_of(trial_of(0.5), trial_of(0.25), trial_of(0.75))
    trained.update(later.trials)
    assert [plan.final for plan in trained.plans] == [0.5, 0.25, 0.75]


@pytest.mark.parametrize(
    "trial",
    [
        trial_of(state=TrialState.PRUNED),
        trial_of(state=TrialState.FAIL),
        trial_of(**{SUPERSEDED_BY: 3}),
        trial_of(**{PLAN: {"hyperparameters": {}}}),
        trial_of(**{PLAN: {"hyperparameters": {"lr": {"families": {"unknown": {}}}}}}),
    ],
    ids=["pruned", "failed", "superseded", "another hyperparameter", "unknown family"],
)
def test_other_trials_are_left_out(trial):
    trained = TrainedPlans(space_of())
    trained.update(study_of(trial_of(0.5), trial).trials)
    assert [plan.final for plan in trained.representative(9)] == [0.5]
    assert len(trained.plans) == 1


def test_what_is_maximised_is_negated():
    trained = TrainedPlans(space_of("maximize"))
    trained.update(study_of(trial_of(0.5, [0.1] * 8 + [0.5]), direction="maximize").trials)
    [plan] = trained.plans
    assert plan.final == -0.5
    assert plan.curve.tolist() == [-0.1] * 8 + [-0.5]


def test_a_missing_metric_is_that_of_the_epoch_before():
    curve = [math.nan, 3.0, math.nan, math.inf, 2.0]
    trained = TrainedPlans(space_of())
    trained.update(study_of(trial_of(1.0, curve)).trials)
    assert trained.plans[0].curve.tolist() == [3.0, 3.0, 3.0, 3.0, 2.0, 2.0, 2.0, 2.0, 2.0]


def test_a_run_in_training_goes_on_as_the_study_usually_does():
    """A plateau rule of a run that is at 5 gets the usual fall from there on."""
    trained = TrainedPlans(space_of())
    trained.update(study_of(*[trial_of(1.0, [9.0 - e for e in range(9)])] * 3).trials)
    assert [one.metric for one in trained.typical_feedback] == [9.0 - e for e in range(9)]
    family = {"increment_on_plateau": {"initial": 0.1, "increment": 0.1, "patience": 0}}
    content = {"hyperparameters": {"lr": {"families": family}}}
    plan = trained.plan_of(create_trial(value=1.0, user_attrs={PLAN: content}))
    assert plan is not None
    falling = trained.path_ahead(plan, [9.0, 8.0, 7.0])
    level = trained.path_ahead(plan, [5.0, 5.0, 5.0])
    assert falling[-1, 0] == pytest.approx(0.1)
    # Two epochs without improvement, and none afterwards.
    assert level[-1, 0] == pytest.approx(0.3)


def test_a_bounded_history_keeps_the_best_and_spreads_over_the_others():
    plans = [
        TrainedPlan(float(abs(i - 70)), {}, trial_of(), TrainedPlans(space_of()))
        for i in range(100)
    ]
    kept = representative(plans, 20)
    finals = [plan.final for plan in kept]
    assert len(kept) == 20
    assert set(range(5)) <= set(finals)
    # The other 85 plans are in all parts of the study.
    others = [i for i, plan in enumerate(plans) if plan in kept and plan.final > 5]
    assert max(np.diff([0, *others, 100])) <= 21
    assert representative(plans, 100) is plans


def test_a_bounded_history_changes_little_with_another_plan():
    plans = [
        TrainedPlan(float(i % 89), {}, trial_of(), TrainedPlans(space_of())) for i in range(1000)
    ]
    for count in range(500, 520):
        before = representative(plans[:count], 100)
        assert sum(plan not in before for plan in representative(plans[: count + 1], 100)) <= 2
