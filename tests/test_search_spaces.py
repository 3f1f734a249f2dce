"""The shipped spaces fit their tasks, and the patterns hold their exact numbers."""

import json
from pathlib import Path

import pytest
import torch

from schedsearch.schedules import Feedback
from schedsearch.space import Space
from schedsearch.space.suggesters import FixedSuggester, RandomSuggester
from schedsearch.task import load_task
from schedsearch.tasks import BUILT_IN

SPACES = Path(__file__).parent.parent / "search_spaces"
PATHS = sorted(SPACES.glob("*.toml"))


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def space(request):
    return Space.load(request.param)


def first_terms(task):
    torch.manual_seed(0)
    splits, model = task.data(0), task.model(0)
    batch = {name: tensor[: task.batch_size] for name, tensor in splits.train.items()}
    noise = {name: torch.randn(shape) for name, shape in task.noise.items()}
    hp = {name: torch.tensor(value) for name, value in task.hyperparameters.items()}
    metrics = task.metrics(model, splits.validation)
    return set(task.terms(model, batch, hp, noise)), {f"val_{name}" for name in metrics}


def test_each_built_in_task_has_a_space_of_its_name():
    by_name = {space.name: space.task for space in map(Space.load, PATHS)}
    assert by_name.items() >= BUILT_IN.items()
    assert sorted(by_name) == [path.stem for path in PATHS]


def test_a_space_moves_what_its_task_has_and_minimises_what_it_measures(space):
    task = load_task(space.task)
    terms, metrics = first_terms(task)
    assert space.objective.metric in metrics
    known = set(task.hyperparameters) | {f"weights.{term}" for term in terms}
    assert set(space.document.hyperparameters) <= known


def test_the_defaults_of_a_space_are_the_tasks(space):
    hyperparameters = load_task(space.task).hyperparameters
    for name, table in space.document.hyperparameters.items():
        assert table.default == hyperparameters[name]


def test_whatever_is_drawn_runs_to_the_horizon_within_its_bounds(space):
    terms = {"equation": 0.1, "boundary": 0.01, "l2": 0.3, "l1": 0.5, "kl": 7.0}
    for seed in range(20):
        plan = space.suggest(RandomSuggester(seed)).resolve(space.horizon, seed)
        state = plan.start()
        for epoch in range(space.horizon):
            for name, value in plan.values(state).items():
                low, high = plan.bounds.get(name, (0.0, float("inf")))
                assert low <= value <= high
            state = plan.update(state, Feedback(1 / (1 + epoch), terms=terms))


def drawn(name, chosen):
    """Return the plan that the shipped space gives for these choices."""
    space = Space.load(SPACES / f"{name}.toml")
    return space.suggest(FixedSuggester(chosen)).resolve(space.horizon, 0)


def values_over(plan, feedbacks):
    """Return the values in force in the epochs before, between and after the feedbacks."""
    state = plan.start()
    values = [plan.values(state)]
    for feedback in feedbacks:
        state = json.loads(json.dumps(plan.update(state, feedback)))
        values.append(plan.values(state))
    return values


def metrics(*values):
    return [Feedback(value) for value in values]


def test_the_decay_pattern_multiplies_the_weight_by_nine_tenths():
    plan = drawn(
        "pattern_decay",
        {
            "weights.l2.family": "exponential",
            "weights.l2.exponential.initial": 1.0,
            "weights.l2.exponential.decay_rate": 0.9,
        },
    )
    weights = [values["weights.l2"] for values in values_over(plan, metrics(*[1.0] * 59))]
    assert weights == [0.9**epoch for epoch in range(60)]


def test_the_improvement_pattern_adds_a_hundredth_at_each_new_best_up_to_one():
    plan = drawn(
        "pattern_improvement",
        {
            "weights.l1.family": "increment_on_improvement",
            "weights.l1.increment_on_improvement.initial": 0.2,
            "weights.l1.increment_on_improvement.increment": 0.01,
        },
    )
    values = values_over(plan, metrics(0.9, 0.95, 0.8, 0.8, 0.7))
    assert all(value["weights.l2"] == 0.8 for value in values)
    expected = [0.2, 0.21, 0.21, 0.22, 0.22, 0.23]
    assert [value["weights.l1"] for value in values] == pytest.approx(expected, rel=1e-15)
    many = values_over(plan, metrics(*[1 / (1 + epoch) for epoch in range(100)]))
    assert many[-1]["weights.l1"] == 1.0


def test_the_coupled_pattern_keeps_beta_at_ten_times_a_rate_that_plateaus_cut():
    plan = drawn(
        "pattern_coupled",
        {
            "lr.family": "reduce_on_plateau",
            "lr.reduce_on_plateau.initial": 0.1,
            "lr.reduce_on_plateau.factor": 0.5,
            "lr.reduce_on_plateau.patience": 3,
            "weights.l2.family": "coupled",
            "weights.l2.coupled.factor.constant.value": 10.0,
        },
    )
    values = values_over(plan, metrics(0.5, *[0.5] * 8))
    assert [value["lr"] for value in values] == [0.1] * 5 + [0.05] * 4 + [0.025]
    assert all(value["weights.l2"] == 10 * value["lr"] for value in values)


def test_the_contribution_pattern_brings_each_term_to_its_share():
    plan = drawn(
        "pattern_contribution",
        {
            "balance.family": "target_contribution",
            "balance.target_contribution.targets.0": 0.25,
            "balance.target_contribution.rate": 1.0,
        },
    )
    [before, after] = values_over(plan, [Feedback(1.0, terms={"equation": 0.02, "boundary": 0.01})])
    assert before == {"weights.equation": 1.0, "weights.boundary": 1.0}
    contributions = 0.02 * after["weights.equation"], 0.01 * after["weights.boundary"]
    assert contributions[0] / contributions[1] == pytest.approx(0.25, rel=1e-12)
