"""The TPE sampler keeps Optuna's contract and rules, and learns from the right trials."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import HyperbandPruner
from optuna.samplers import BaseSampler, RandomSampler

# Optuna's split is the reference. It is private, so only tests use it.
from optuna.samplers._tpe.sampler import _split_trials, default_gamma
from optuna.study import Study
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    RelativeSamplerTestCase,
    SingleOnlySamplerTestCase,
)
from optuna.trial import Trial, TrialState, create_trial

from schedsearch.samplers.observations import Observations
from schedsearch.samplers.tpe import (
    TreeParzenSampler,
    below_count,
    recency_weights,
    split_below_above,
    subsample,
)
from schedsearch.space import Space
from tests.searches import ROOT

UNIT = FloatDistribution(0.0, 1.0)


class TestOptunaContract(BasicSamplerTestCase, RelativeSamplerTestCase, SingleOnlySamplerTestCase):
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return lambda: TreeParzenSampler(0, startup_trials=0)


def objective(trial: Trial) -> float:
    """An objective over a small tree of families, with one minimum in each."""
    x = trial.suggest_float("x", 1e-3, 1.0, log=True)
    family = trial.suggest_categorical("family", ["constant", "linear"])
    if family == "constant":
        return abs(x - 0.1) + abs(trial.suggest_float("constant.value", 0.0, 1.0) - 0.3)
    patience = trial.suggest_int("linear.patience", 0, 6)
    return abs(x - 0.1) + abs(trial.suggest_float("linear.slope", -1.0, 1.0) - 0.1 * patience)


def study_of_all_states(seed: int, trials: int, direction: str = "minimize") -> Study:
    """Return a study with trials of every state, some with infinite or missing values."""
    study = optuna.create_study(direction=direction, sampler=RandomSampler(seed))
    rng = np.random.default_rng(seed)
    for _ in range(trials):
        trial = study.ask()
        value = objective(trial)
        match rng.integers(8):
            case 0:
                study.tell(trial, state=TrialState.FAIL)
            case 1:
                study.tell(trial, state=TrialState.PRUNED)
            case 2 | 3:
                for step in range(1, 1 + int(rng.integers(1, 4))):
                    trial.report(math.nan if rng.random() < 0.2 else round(value, 1), step)
                study.tell(trial, state=TrialState.PRUNED)
            case 4:
                study.tell(trial, [math.inf, -math.inf][rng.integers(2)])
            case 5:
                pass  # keeps running
            case _:
                study.tell(trial, round(value, 1))
    return study


def observe(study: Study) -> Observations:
    observations = Observations(study.direction)
    observations.update(study.get_trials(deepcopy=False))
    return observations


def params_of(study: Study) -> list[dict]:
    return [trial.params for trial in study.get_trials(deepcopy=False)]


@given(
    seed=st.integers(0, 2**32 - 1),
    trials=st.integers(1, 60),
    direction=st.sampled_from(["minimize", "maximize"]),
)
@settings(max_examples=30, deadline=None)
def test_the_split_into_below_and_above_equals_optunas(seed, trials, direction):
    study = study_of_all_states(seed, trials, direction)
    states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
    seen = study.get_trials(deepcopy=False, states=states)
    finished = sum(trial.state.is_finished() for trial in seen)
    expected = _split_trials(study, seen, default_gamma(finished))
    observations = observe(study)
    assert observations.count == finished
    for names in (["x", "family"], ["constant.value"], ["linear.patience", "linear.slope"]):
        found = split_below_above(
            observations, names, observations.best_rows(below_count(finished))
        )
        assert [rows.tolist() for rows in found] == [
            [t.number for t in side if t.params.keys() >= set(names)] for side in expected
        ]


@given(
    seed=st.integers(0, 2**32 - 1),
    trials=st.integers(1, 40),
    direction=st.sampled_from(["minimize", "maximize"]),
)
@settings(max_examples=20, deadline=None)
def test_trials_are_ranked_as_in_optuna(seed, trials, direction):
    study = study_of_all_states(seed, trials, direction)
    observations = observe(study)
    seen = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    for count in range(len(seen) + 1):
        below, _ = _split_trials(study, seen, count)
        assert sorted(observations.best_rows(count)) == [trial.number for trial in below]


def test_many_updates_give_the_same_observations_as_one():
    study = optuna.create_study(sampler=RandomSampler(1))
    observations = Observations(study.direction)
    running: list[Trial] = []
    for i in range(60):
        running.append(study.ask())
        observations.update(study.get_trials(deepcopy=False))
        value = objective(running[-1])
        observations.update(study.get_trials(deepcopy=False))
        if i % 3 == 2:
            study.tell(running.pop(i % len(running)), value)
            failed = running.pop(0)
            study.tell(failed, state=TrialState.FAIL)
    observations.update(study.get_trials(deepcopy=False))
    whole = observe(study)
    assert observations.best_rows() == whole.best_rows()
    unended = [number for number in range(60) if not observations.has_finished(number)]
    assert unended == sorted(t.number for t in running)
    for name in ("x", "constant.value"):
        assert observations.parameter_group(name) == whole.parameter_group(name)
        held = np.flatnonzero(observations.has_all([name]))
        assert held.tolist() == np.flatnonzero(whole.has_all([name])).tolist()
        assert np.array_equal(observations.values([name], held), whole.values([name], held))


def test_a_trial_that_becomes_visible_late_is_observed():
    study = study_of_all_states(3, 40)
    trials = study.get_trials(deepcopy=False)
    observations = Observations(study.direction)
    observations.update([trial for trial in trials if trial.number not in (4, 5, 20)])
    observations.update(trials[:30])  # an older view loses nothing
    observations.update(trials)
    assert observations.best_rows() == observe(study).best_rows()
    whole = observe(study)
    assert [observations.has_finished(n) for n in range(40)] == [
        whole.has_finished(n) for n in range(40)
    ]


def test_parameters_that_occur_together_are_a_group():
    observations = observe(study_of_all_states(0, 60))
    assert (
        observations.parameter_group("x")
        == observations.parameter_group("family")
        == {"x", "family"}
    )
    assert observations.parameter_group("linear.slope") == {"linear.slope", "linear.patience"}
    assert observations.parameter_group("constant.value") == {"constant.value"}
    assert observations.parameter_group("unheard of") == frozenset()


def test_the_parameters_of_a_family_are_sampled_jointly():
    """If only the sum of two parameters matters, proposals pair low with high values."""
    study = optuna.create_study(sampler=RandomSampler(0))
    for place in np.linspace(0.05, 0.95, 10).tolist():
        for other in np.linspace(0.05, 0.95, 10).tolist():
            params = {"family": "sum", "sum.a": place, "sum.b": other}
            distributions = {"family": CategoricalDistribution(["sum", "other"])}
            distributions |= {"sum.a": UNIT, "sum.b": UNIT}
            value = abs(place + other - 1)
            study.add_trial(create_trial(params=params, distributions=distributions, value=value))
    study.sampler = TreeParzenSampler(0)
    drawn = []
    for _ in range(40):
        trial = study.ask()
        trial.suggest_categorical("family", ["sum", "other"])
        drawn.append([trial.suggest_float(f"sum.{name}", 0, 1) for name in "ab"])
        study.tell(trial, state=TrialState.FAIL)
    assert np.corrcoef(np.array(drawn).T)[0, 1] < -0.5


def test_proposals_are_better_than_random():
    late = {}
    for name, make in (("tpe", TreeParzenSampler), ("random", RandomSampler)):
        study = optuna.create_study(sampler=make(1))
        study.optimize(objective, n_trials=80)
        late[name] = np.median([trial.value for trial in study.get_trials(deepcopy=False)[40:]])
    assert late["tpe"] < 0.5 * late["random"]


def test_maximizing_equals_minimizing_the_negative():
    found = []
    for direction, sign in (("minimize", 1), ("maximize", -1)):
        study = optuna.create_study(direction=direction, sampler=TreeParzenSampler(7))
        study.optimize(lambda trial, sign=sign: sign * objective(trial), n_trials=25)
        found.append(params_of(study))
    assert found[0] == found[1]


def test_proposals_depend_on_the_seed():
    found = []
    for seed in (1, 1, 2):
        study = optuna.create_study(sampler=TreeParzenSampler(seed))
        study.optimize(objective, n_trials=25)
        found.append(params_of(study))
    assert found[0] == found[1]
    assert all(a != b for a, b in zip(found[0], found[2], strict=True))


def test_the_first_trials_are_random():
    study = optuna.create_study(sampler=TreeParzenSampler(5, startup_trials=8))
    study.optimize(objective, n_trials=8)
    chance = optuna.create_study(sampler=RandomSampler(5))
    chance.optimize(objective, n_trials=9)
    assert params_of(study) == params_of(chance)[:8]
    study.optimize(objective, n_trials=1)
    assert params_of(study)[8] != params_of(chance)[8]


@pytest.mark.parametrize(("finished", "is_modelled"), [(2, False), (3, True)])
def test_relative_sampling_starts_after_the_startup_trials(finished, is_modelled):
    study = optuna.create_study(sampler=TreeParzenSampler(0, startup_trials=3))
    for i in range(finished):
        study.add_trial(create_trial(params={"x": i / 3}, distributions={"x": UNIT}, value=i))
    study.ask()
    frozen = study.get_trials()[-1]
    proposal = study.sampler.sample_relative(study, frozen, {"x": UNIT})
    assert bool(proposal) == is_modelled


def test_proposed_values_of_finished_trials_are_forgotten():
    study = optuna.create_study(sampler=TreeParzenSampler(0, startup_trials=2))
    for _ in range(10):
        trial = study.ask()
        objective(trial)
        study.tell(trial, 0.0)
    for _ in range(10):
        # It requests one parameter of a group, and never the others.
        trial = study.ask()
        trial.suggest_float("x", 1e-3, 1.0, log=True)
        study.tell(trial, state=TrialState.FAIL)
    trial = study.ask()
    objective(trial)
    [cache] = study.sampler._caches[study._storage].values()
    assert set(cache.proposed) == {trial.number}


def median_distance(parallel: int) -> float:
    """Return the median distance between proposals that run in parallel."""
    study = optuna.create_study(sampler=TreeParzenSampler(0))
    for x in np.linspace(0, 1, 41).tolist():
        params, value = {"x": x, "y": x}, (x - 0.5) ** 2
        distributions = {"x": UNIT, "y": UNIT}
        study.add_trial(create_trial(params=params, distributions=distributions, value=value))
    drawn, running = [], []
    for _ in range(12):
        running.append(study.ask())
        drawn.append([running[-1].suggest_float(name, 0, 1) for name in "xy"])
        if len(running) >= parallel:
            study.tell(running.pop(0), state=TrialState.FAIL)
    pairs = itertools.combinations(np.array(drawn), 2)
    return float(np.median([np.abs(a - b).max() for a, b in pairs]))


def test_parallel_proposals_are_kept_apart():
    assert median_distance(parallel=12) > 1.5 * median_distance(parallel=1)


def test_relative_sampling_uses_only_trials_that_have_all_parameters():
    """The best trials lack `y`; among the trials that have it, a high `x` is best."""
    study = optuna.create_study(sampler=TreeParzenSampler(0))
    for i in range(60):
        params = {"x": (i % 20) / 19} | ({"y": 0.5} if i % 2 else {})
        distributions = dict.fromkeys(params, UNIT)
        value = 5 - params["x"] if i % 2 else params["x"]
        study.add_trial(create_trial(params=params, distributions=distributions, value=value))
    trial = study.ask()
    frozen = study.get_trials()[trial.number]
    drawn = [
        study.sampler.sample_relative(study, frozen, {"x": UNIT, "y": UNIT})["x"] for _ in range(20)
    ]
    assert np.mean(drawn) > 0.75


@given(
    count=st.integers(0, 700),
    most=st.integers(2, 300),
    running=st.sets(st.integers(0, 699), max_size=40),
)
@settings(max_examples=60, deadline=None)
def test_a_subsample_keeps_the_total_weight_the_running_and_the_newest_trials(count, most, running):
    rows = np.arange(count)
    kept, weights = subsample(rows, np.isin(rows, list(running)), most)
    assert weights.sum() == pytest.approx(recency_weights(count).sum())
    assert len(kept) <= most + len(running)
    assert set(kept) >= {row for row in running if row < count}
    assert set(kept) >= set(rows[count - min(count, most // 2) :])
    if count <= most:
        assert kept.tolist() == rows.tolist()


def test_a_changed_range_applies_to_the_next_proposal():
    study = optuna.create_study(sampler=TreeParzenSampler(0, startup_trials=3))
    for high in (1.0, 0.1, 10.0):
        for _ in range(8):
            trial = study.ask()
            x, y = trial.suggest_float("x", 0, high), trial.suggest_float("y", 0, high)
            assert 0 <= x <= high
            assert 0 <= y <= high
            study.tell(trial, -x - y)


@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_proposals_are_in_the_space(data):
    kinds = st.one_of(
        st.builds(
            lambda low, width: FloatDistribution(low, low + width),
            st.floats(-1e6, 1e6),
            st.floats(1e-3, 1e6),
        ),
        st.builds(
            lambda low, ratio: FloatDistribution(low, low * ratio, log=True),
            st.floats(1e-12, 1e6),
            st.floats(1.001, 1e6),
        ),
        st.builds(
            lambda low, count, step: FloatDistribution(
                low, round(low + count * step, 9), step=step
            ),
            st.integers(-10, 10),
            st.integers(1, 40),
            st.sampled_from([0.1, 0.25, 1.0, 3.0]),
        ),
        st.builds(
            lambda low, count, step: IntDistribution(low, low + count * step, step=step),
            st.integers(-10, 10),
            st.integers(1, 40),
            st.integers(1, 5),
        ),
        st.builds(lambda high: IntDistribution(1, high, log=True), st.integers(2, 10_000)),
        st.builds(
            lambda count: CategoricalDistribution([f"c{i}" for i in range(count)]),
            st.integers(2, 6),
        ),
    )
    space = dict(enumerate_names(data.draw(st.lists(kinds, min_size=1, max_size=4))))
    values = st.floats(allow_nan=False)
    study = optuna.create_study(sampler=TreeParzenSampler(0, startup_trials=2))
    for _ in range(10):
        trial = study.ask(space)
        for name, distribution in space.items():
            assert trial.params[name] in Values(distribution)
        study.tell(trial, data.draw(values))


def enumerate_names(distributions):
    return ((f"p{i}", d) for i, d in enumerate(distributions))


class Values:
    """The values of a distribution, for `in`."""

    def __init__(self, distribution):
        self.of = distribution

    def __contains__(self, value) -> bool:
        if isinstance(self.of, CategoricalDistribution):
            return value in self.of.choices
        on_step = True
        if self.of.step:
            steps = (value - self.of.low) / self.of.step
            on_step = abs(steps - round(steps)) < 1e-8
        return on_step and self.of.low <= value <= self.of.high


def test_one_sampler_serves_two_studies():
    sampler = TreeParzenSampler(0, startup_trials=2)
    studies = [optuna.create_study(sampler=sampler) for _ in range(2)]
    for _ in range(6):
        studies[0].optimize(objective, n_trials=1)
        studies[1].optimize(lambda trial: trial.suggest_float("x", 5, 6), n_trials=1)
    assert all(5 <= params["x"] <= 6 for params in params_of(studies[1]))


@pytest.mark.parametrize(
    "file", sorted((ROOT / "search_spaces").glob("*.toml")), ids=lambda f: f.stem
)
def test_every_shipped_space_is_searched(file):
    space = Space.load(file)
    study = optuna.create_study(sampler=TreeParzenSampler(0, startup_trials=5))
    plans = set()
    for i in range(20):
        trial = study.ask()
        plans.add(str(space.suggest(trial).to_tables()))
        study.tell(trial, float(i % 7))
    assert len(plans) == 20


def test_the_observations_of_each_hyperband_bracket_are_cached():
    pruner = HyperbandPruner(min_resource=1, max_resource=9, reduction_factor=3)
    sampler = TreeParzenSampler(seed=0)
    study = optuna.create_study(sampler=sampler, pruner=pruner)
    study.optimize(reporting_objective, n_trials=20)
    views = [pruner._create_bracket_study(study, bracket) for bracket in (0, 1, 2, 0, 1, 2)]
    caches = [sampler._cache_of(view) for view in views]
    assert caches[:3] == caches[3:]
    assert len({id(cache) for cache in caches}) == 3


def reporting_objective(trial: Trial) -> float:
    trial.report(1.0, 1)
    trial.should_prune()
    return objective(trial)
