"""Each sampler completes a study, and refuses a space that it cannot search."""

from __future__ import annotations

from collections import Counter

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.samplers import RandomSampler
from optuna.trial import TrialState, create_trial

from schedsearch.errors import InputError
from schedsearch.samplers import limit_trials, make_sampler
from schedsearch.samplers.fixed_family import CompleteCaseSampler
from schedsearch.samplers.grid import FamilyGridSampler
from schedsearch.space import Space
from tests.claims import claim
from tests.searches import document, is_constant, make_study, work

SAMPLERS = ("forecast", "tpe", "random", "grid", "gp", "cmaes", "qmc")


def content(sampler: str, **search) -> dict:
    return document(sampler={"name": sampler}, pruner={"name": "none"}, **search)


def grid_content(**search) -> dict:
    """Return a space of 3 constants, one of them the baseline, and 2 x 4 decays."""
    made = content("grid", **search)
    made["hyperparameters"]["lr"]["families"] = {
        "constant": {"value": {"low": 0.1, "high": 0.3, "step": 0.1}},
        "exponential": {
            "initial": {"levels": [0.2, 0.4]},
            "decay_rate": {"low": 0.6, "high": 0.9, "step": 0.1},
        },
    }
    return made


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_completes_a_study_with_constants_and_schedules(tmp_path, sampler):
    study = make_study(tmp_path, content(sampler, trials=24))
    ears = work(study)
    trials = study.trials()
    assert not ears.wrong
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 24
    if sampler != "grid":
        indices = [t.user_attrs.get("draw") for t in trials if t.user_attrs.get("unpruned")]
        assert indices == [None, 6, 13, 19]
        assert all(is_constant(study, t) for t in trials if t.user_attrs.get("unpruned"))
    assert sum(not is_constant(study, trial) for trial in trials) >= 8
    assert len({str(trial.user_attrs["plan"]) for trial in trials}) == 24


@pytest.mark.parametrize("sampler", ["gp", "cmaes", "qmc"])
def test_samplers_of_a_fixed_set_of_parameters_refuse_two_schedule_families(sampler):
    given = content(sampler)
    given["hyperparameters"]["lr"]["families"]["linear"] = {"initial": 0.1, "final": 0.0}
    with pytest.raises(InputError, match="but lr has exponential, linear: keep one of them, or"):
        make_sampler(Space.from_document(given, "small.toml"), "ann")


def test_proposals_depend_on_the_name_of_the_worker(tmp_path):
    first = {}
    for worker in ("ann", "bob", "ann"):
        folder = tmp_path / f"{worker}-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        study = make_study(folder, content("random", trials=4))
        work(study, worker)
        first.setdefault(worker, []).append([trial.params for trial in study.trials()[1:]])
    assert first["ann"][0] == first["ann"][1] != first["bob"][0]


def test_a_complete_case_sampler_models_only_complete_trials_with_every_parameter():
    modelled: list[dict] = []

    class Recording(RandomSampler):
        def infer_relative_search_space(self, study, trial):
            modelled.extend(t.params for t in study.get_trials() if t.state.is_finished())
            return {}

    space = {"x": FloatDistribution(0.0, 1.0), "y": FloatDistribution(0.0, 1.0)}
    both, one = {"x": 0.1, "y": 0.2}, {"x": 0.3}
    study = optuna.create_study()
    for params in (both, one):
        distributions = {name: space[name] for name in params}
        study.add_trial(create_trial(params=params, distributions=distributions, value=1.0))
    study.add_trial(create_trial(state=TrialState.PRUNED, params=both, distributions=space))
    trial = study.get_trials()[-1]
    proposal = CompleteCaseSampler(Recording(0)).sample_relative(study, trial, space)
    assert modelled == [both]
    assert proposal.keys() == space.keys()


def quasi_random_points(*workers: str) -> list[dict]:
    """Return the parameters of trials that these workers propose in turn."""
    given = document(sampler={"name": "qmc", "constants": 0.0})
    samplers = {
        name: make_sampler(Space.from_document(given, "small.toml"), name) for name in workers
    }
    space, study = Space.from_document(given, "small.toml"), optuna.create_study()
    for index, name in enumerate(workers):
        study.sampler = samplers[name]
        trial = study.ask()
        trial.set_user_attr("draw", index)
        space.suggest_tables(trial)
        study.tell(trial, 0.0)
    return [trial.params for trial in study.trials]


def test_quasi_random_workers_share_one_sequence():
    assert quasi_random_points(*["ann"] * 8) == quasi_random_points(*["ann", "bob"] * 4)


def test_startup_trials_are_the_random_trials_before_the_model():
    def proposals(startup_trials: int) -> list[dict]:
        options = {"name": "tpe", "startup_trials": startup_trials, "constants": 0.0}
        space = Space.from_document(document(sampler=options), "small.toml")
        study = optuna.create_study(sampler=make_sampler(space, "ann"))
        for number in range(5):
            trial = study.ask()
            space.suggest_tables(trial)
            study.tell(trial, float(number))
        return [trial.params for trial in study.trials]

    random, modelled = proposals(5), proposals(3)
    assert random[:3] == modelled[:3]
    assert random[3:] != modelled[3:]


def test_a_grid_has_every_distinct_point_once_besides_the_baseline(tmp_path):
    study = make_study(tmp_path, grid_content(trials=1000))
    assert study.total() == 1 + 10
    work(study)
    plans = Counter(str(trial.user_attrs["plan"]) for trial in study.trials())
    assert len(plans) == 11
    assert set(plans.values()) == {1}


def test_two_workers_try_every_grid_point_once_although_one_crashes(tmp_path):
    study = make_study(tmp_path, grid_content(trials=1000))
    for _ in range(3):  # the baseline and two samples, lost before parameters were chosen
        claim(study, "gone")
    seen = []

    def after_five() -> bool:
        seen.append(1)
        return study.queue.counts().finished >= 5

    work(study, "ann", should_stop=after_five)
    study.queue.requeue_trials_of("gone")
    work(study, "bob")
    plans = Counter(str(trial.user_attrs["plan"]) for trial in study.trials())
    assert len(plans) == 11
    assert set(plans.values()) == {1}
    assert study.queue.counts().finished == study.total()


def test_a_study_shorter_than_its_grid_can_be_extended(tmp_path):
    study = make_study(tmp_path, grid_content(trials=4))
    assert study.total() == 4
    work(study)
    study = make_study(tmp_path, grid_content(trials=50))
    work(study)
    assert len({str(trial.user_attrs["plan"]) for trial in study.trials()}) == 11


def test_a_grid_that_does_not_contain_the_baseline_has_all_its_points():
    given = grid_content()
    given["hyperparameters"]["lr"]["default"] = 0.25
    space = Space.from_document(given, "small.toml")
    assert limit_trials(space, 1000) == 1 + 11
    grid = FamilyGridSampler(space, 5, seed=0)
    assert len({tuple(grid.grid_point(index).items()) for index in range(11)}) == 11


def test_a_large_grid_starts_at_once_and_repeats_no_point():
    given = content("grid")
    given["hyperparameters"]["lr"]["families"]["piecewise"] = {
        "segments": 8,
        "values": {"low": 0.0, "high": 1.0},
    }
    space = Space.from_document(given, "small.toml")
    assert limit_trials(space, 500) == 500
    grid = FamilyGridSampler(space, 5, seed=3)
    assert grid.size == 5**8 + 5 + 25
    points = [tuple(grid.grid_point(index).items()) for index in range(500)]
    assert len(set(points)) == 500
    # Shuffled: in the order of the space, the few constants and decays would be first.
    assert {grid.grid_point(index)["lr.family"] for index in range(30)} == {"piecewise"}
    again = FamilyGridSampler(space, 5, seed=3)
    assert tuple(again.grid_point(499).items()) == points[499]
