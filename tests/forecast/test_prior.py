"""Earlier studies as a prior: it agrees or contradicts, and it fades."""

from __future__ import annotations

import numpy as np
import pytest

from schedsearch.forecast import EarlierResults, PlanForecast
from schedsearch.forecast.prior import ranks_of
from schedsearch.storage import EarlierStudy

NAMES = ("lr", "reg")


def paths_of(count: int, seed: int = 0) -> np.ndarray:
    """Return straight paths of two hyperparameters, shape (plans, 10, 2)."""
    ends = np.random.default_rng(seed).uniform(size=(2, count, 1, 2))
    times = np.linspace(0, 1, 10)[:, None]
    return ends[0] * (1 - times) + ends[1] * times


def value_of(paths: np.ndarray) -> np.ndarray:
    """Return values that depend on the first hyperparameter alone, at the end."""
    return (paths[:, -1, 0] - 0.2) ** 2


def earlier_of(values: np.ndarray, paths: np.ndarray, names=("lr",)) -> EarlierStudy:
    columns = [NAMES.index(name) for name in names]
    table = tuple(tuple(map(tuple, path)) for path in paths[..., columns].tolist())
    return EarlierStudy(
        "earlier", "a:B", "loss", 9, len(values), names, tuple(ranks_of(values).tolist()), table
    )


EARLIER_PATHS = paths_of(40)
AGREEING = earlier_of(value_of(EARLIER_PATHS), EARLIER_PATHS)
MISLEADING = earlier_of(-value_of(EARLIER_PATHS), EARLIER_PATHS)


def weight_of(study: EarlierStudy, count: int) -> float:
    paths = paths_of(count, 1)
    targets = np.log(value_of(paths))
    [weight] = EarlierResults([study], NAMES).trend(paths, targets).weights
    return weight / targets.std()


def test_it_fades_with_the_trials_of_the_study():
    weights = [weight_of(AGREEING, count) for count in (30, 100, 300)]
    assert weights[0] > 2 * weights[1] > 4 * weights[2] > 0


def test_one_that_misleads_has_no_weight_after_a_few_trials():
    assert weight_of(AGREEING, 10) > 0.3
    assert weight_of(MISLEADING, 10) == 0
    paths = paths_of(10, 1)
    assert not EarlierResults([MISLEADING], NAMES).may_propose(paths, value_of(paths))


def test_five_trials_tell_that_one_misleads_and_three_that_one_may_propose():
    paths = paths_of(5, 1)
    values = value_of(paths)
    assert not EarlierResults([MISLEADING], NAMES).may_propose(paths, values)
    agreeing = EarlierResults([AGREEING], NAMES)
    assert agreeing.may_propose(paths[:3], values[:3])
    assert not agreeing.may_propose(paths[:2], values[:2])


def test_only_the_order_of_its_values_counts():
    values = value_of(EARLIER_PATHS)
    assert earlier_of(1000 + values**3, EARLIER_PATHS) == AGREEING


@pytest.mark.parametrize("names", [("lr",), ("lr", "reg"), ("reg", "lr")])
def test_few_trials_forecast_more_with_it_than_without(names):
    earlier = earlier_of(value_of(EARLIER_PATHS), EARLIER_PATHS, tuple(sorted(names)))
    own, new = paths_of(10, 1), paths_of(200, 2)
    correlations = [
        np.corrcoef(PlanForecast.fit(own, value_of(own), prior).optimistic(new, 0), value_of(new))
        for prior in (None, EarlierResults([earlier], NAMES))
    ]
    assert correlations[1][0, 1] > correlations[0][0, 1]


def test_before_the_first_trial_it_prefers_what_was_best_earlier():
    new = paths_of(200, 2)
    results = EarlierResults([AGREEING], NAMES)
    bounds = results.optimistic(new, np.zeros((0, 10, 2)), np.zeros(0))
    best = np.argsort(bounds)[:20]
    assert value_of(new[best]).mean() < value_of(new).mean() / 4


def test_a_study_of_few_plans_or_without_a_shared_hyperparameter_tells_nothing():
    few = earlier_of(value_of(EARLIER_PATHS[:4]), EARLIER_PATHS[:4])
    assert not EarlierResults([few], NAMES)
    assert not EarlierResults([AGREEING], ("weights.l2",))


def test_equal_values_have_equal_ranks():
    assert ranks_of(np.array([2.0, 1.0, 2.0])).tolist() == [2 / 3, 1 / 6, 2 / 3]
