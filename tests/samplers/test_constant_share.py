"""The constant share: its trials have a separate sampler, and other exemptions do not overlap."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import TrialState, create_trial

from schedsearch.samplers import is_audited, is_exempt_from_pruning, make_sampler
from schedsearch.samplers.constant_share import ConstantShareSampler
from schedsearch.space import Space
from schedsearch.space.suggesters import FixedSuggester
from tests.searches import document

UNIT = FloatDistribution(0.0, 1.0)
CONSTANT = {"lr.family": "constant", "lr.constant.value": 0.1}
SCHEDULE = {
    "lr.family": "exponential",
    "lr.exponential.initial": 0.1,
    "lr.exponential.decay_rate": 0.9,
}
METHODS = [name for name in vars(BaseSampler) if not name.startswith("_")]


class Recorder(RandomSampler):
    """A sampler that records the names of the methods that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.called: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        if name in METHODS:
            self.called.append(name)
        return super().__getattribute__(name)


def space_of(sampler: str = "tpe", **options: Any) -> Space:
    content = document(sampler={"name": sampler, **options}, pruner={"audit": 0.3})
    return Space.from_document(content, "small.toml")


@pytest.mark.parametrize(("sample_index", "is_constant"), [(0, False), (1, True)])
def test_every_call_goes_to_the_sampler_of_the_trial(sample_index, is_constant):
    schedules, constants = Recorder(), Recorder()
    sampler = ConstantShareSampler(schedules, constants, share=0.5)
    study = optuna.create_study()
    trial = create_trial(state=TrialState.RUNNING, user_attrs={"draw": sample_index})
    sampler.infer_relative_search_space(study, trial)
    sampler.sample_relative(study, trial, {"x": UNIT})
    sampler.sample_independent(study, trial, "x", UNIT)
    sampler.before_trial(study, trial)
    sampler.after_trial(study, trial, TrialState.COMPLETE, [0.0])
    used, other = (constants, schedules) if is_constant else (schedules, constants)
    sampler.reseed_rng()
    assert sorted(used.called) == sorted(METHODS)
    assert other.called == ["reseed_rng"]


def test_constants_and_schedules_have_independent_random_numbers():
    sampler = make_sampler(space_of("random"), "ann")
    assert isinstance(sampler, ConstantShareSampler)
    study, trial = optuna.create_study(), create_trial(state=TrialState.RUNNING)
    schedules, constants = (
        {each.sample_independent(study, trial, "x", UNIT) for _ in range(9)}
        for each in sampler._samplers
    )
    assert schedules.isdisjoint(constants)


@pytest.mark.parametrize("sample_index", range(20))
def test_exempt_are_the_constant_share_and_in_a_grid_all_constants(sample_index):
    share, grid = space_of(constants=0.15), space_of("grid", constants=0.15)
    for parameters in (CONSTANT, SCHEDULE):
        plan = share.suggest(FixedSuggester(parameters))
        assert is_exempt_from_pruning(share, sample_index, plan) == (sample_index in (6, 13, 19))
        assert is_exempt_from_pruning(grid, sample_index, plan) == (parameters == CONSTANT)


def test_in_a_grid_the_audited_share_is_of_all_samples():
    audited = [index for index in range(20) if is_audited(space_of("grid"), index)]
    assert audited == [3, 6, 9, 13, 16, 19]
