"""The view of a study without the audit: what samplers and pruners read of it."""

from __future__ import annotations

import math

import optuna
import pytest
from optuna.samplers import BaseSampler, RandomSampler
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.testing.pytest_storages import StorageTestCase
from optuna.trial import FrozenTrial, TrialState, create_trial

from schedsearch.storage.pruned_view import PrunedView

RUNNING, COMPLETE, PRUNED = TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED
CURVE = {1: 0.9, 2: 0.8, 3: 0.1}


class TestPrunedView(StorageTestCase):
    """Without an audit the view is a storage like any other."""

    @pytest.fixture
    def storage(self) -> BaseStorage:
        return PrunedView(InMemoryStorage())


@pytest.fixture
def study() -> optuna.Study:
    return optuna.create_study(storage=InMemoryStorage(), study_name="audited")


def viewed(study: optuna.Study, sampler: BaseSampler | None = None) -> optuna.Study:
    return optuna.load_study(
        study_name="audited", storage=PrunedView(study._storage), sampler=sampler
    )


def audited(state: TrialState = COMPLETE, **attributes: object) -> FrozenTrial:
    return create_trial(
        state=state,
        value=0.1 if state is COMPLETE else None,
        intermediate_values=CURVE,
        user_attrs={"would_prune": 2, **attributes},
    )


def test_a_finished_trial_ends_where_the_pruner_would_have_stopped_it(study):
    study.add_trial(audited())
    [trial] = viewed(study).trials
    assert (trial.state, trial.value) == (PRUNED, 0.8)
    assert trial.intermediate_values == {1: 0.9, 2: 0.8}
    [stored] = study.trials
    assert (stored.state, stored.value, stored.intermediate_values) == (COMPLETE, 0.1, CURVE)


def test_a_running_trial_goes_on_but_what_it_reports_is_not_shown(study):
    study.add_trial(audited(RUNNING))
    view = viewed(study)
    [trial] = view.trials
    assert (trial.state, trial.intermediate_values) == (RUNNING, {1: 0.9, 2: 0.8})
    view.tell(0, 0.1)
    [trial] = view.trials
    assert (trial.state, trial.intermediate_values) == (PRUNED, {1: 0.9, 2: 0.8})


def test_a_trial_is_noticed_when_it_is_audited_after_the_first_look(study):
    view, trial = viewed(study), study.ask()
    trial.report(0.5, 1)
    assert view.trials[0].intermediate_values == {1: 0.5}
    trial.set_user_attr("would_prune", 1)
    trial.report(0.4, 2)
    assert view.trials[0].intermediate_values == {1: 0.5}
    study.tell(trial, 0.4)
    study.add_trial(create_trial(value=0.3))
    assert [trial.state for trial in view.trials] == [PRUNED, COMPLETE]


def test_a_trial_that_was_replaced_by_its_retry_stays_failed(study):
    study.add_trial(audited(TrialState.FAIL, superseded_by=1))
    assert viewed(study).trials[0].state is TrialState.FAIL


def test_states_are_chosen_and_copies_made_of_what_is_shown(study):
    study.add_trials([audited(), create_trial(value=0.3, user_attrs={"note": [1]})])
    view = viewed(study)
    assert [trial.number for trial in view.get_trials(states=(PRUNED,))] == [0]
    assert [trial.number for trial in view.get_trials(states=(COMPLETE,))] == [1]
    view.trials[1].user_attrs["note"].append(2)
    assert view.trials[1].user_attrs["note"] == [1]
    assert view.best_value == 0.3


class Recorder(RandomSampler):
    """Records what a sampler of Optuna reads of a study, by its public and its cached call."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[TrialState] = []

    def sample_independent(self, study, trial, param_name, param_distribution):
        self.read += [other.state for other in study.get_trials(deepcopy=False)]
        self.read += [other.state for other in study._get_trials(deepcopy=False, use_cache=True)]
        return super().sample_independent(study, trial, param_name, param_distribution)


def test_every_way_in_which_optuna_reads_the_trials_goes_through_the_view(study):
    sampler = Recorder()
    study.add_trial(audited())
    assert math.isfinite(viewed(study, sampler).ask().suggest_float("x", 0.0, 1.0))
    assert sampler.read == [PRUNED, RUNNING] * 2
