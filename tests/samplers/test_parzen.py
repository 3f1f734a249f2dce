"""The Parzen estimator: the density is Optuna's, and samples follow it within their ranges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

# Optuna's estimator is the reference. It is private, so only tests use it.
from optuna.samplers._tpe.parzen_estimator import _ParzenEstimator, _ParzenEstimatorParameters
from optuna.samplers._tpe.sampler import default_weights

from schedsearch.samplers.parzen import axis_of, fit_parzen
from schedsearch.samplers.tpe import recency_weights

KINDS: dict[str, BaseDistribution] = {
    "wide": FloatDistribution(-3.0, 5.0),
    "log": FloatDistribution(1e-5, 1e-1, log=True),
    "stepped": FloatDistribution(0.1, 1.0, step=0.1),
    "whole": IntDistribution(0, 6),
    "odd": IntDistribution(1, 9, step=2),
    "log whole": IntDistribution(1, 100, log=True),
    "level": IntDistribution(0, 1),
    "family": CategoricalDistribution(["constant", "linear", "cosine"]),
}

spaces = st.lists(st.sampled_from(sorted(KINDS)), min_size=1, unique=True)
seeds = st.integers(0, 2**32 - 1)


def draw(names: list[str], count: int, rng: np.random.Generator) -> np.ndarray:
    """Return random observations, some of them equal and some at the ends of a range."""
    columns = []
    for name in names:
        d = KINDS[name]
        if isinstance(d, CategoricalDistribution):
            columns.append(rng.integers(len(d.choices), size=count).astype(float))
        else:
            places = np.clip(rng.uniform(-0.1, 1.1, count), 0, 1)
            columns.append(axis_of(d).from_unit(places))
    return np.stack(columns, axis=1)


def reference(names: list[str], observed: np.ndarray) -> _ParzenEstimator:
    options = _ParzenEstimatorParameters(1.0, True, False, default_weights, True)
    columns = {name: observed[:, j] for j, name in enumerate(names)}
    return _ParzenEstimator(columns, {name: KINDS[name] for name in names}, options)


@given(names=spaces, below=st.integers(0, 25), above=st.integers(0, 120), seed=seeds)
@settings(max_examples=60, deadline=None)
def test_the_ratio_of_two_densities_equals_optunas(names, below, above, seed):
    rng = np.random.default_rng(seed)
    good, bad, points = (draw(names, n, rng) for n in (below, above, 24))
    axes = [axis_of(KINDS[name]) for name in names]
    ours, theirs = (
        [estimator(sample) for sample in (good, bad)]
        for estimator in (
            lambda x: fit_parzen(axes, x, recency_weights(len(x))).log_density(points),
            lambda x: reference(names, x).log_pdf({n: points[:, j] for j, n in enumerate(names)}),
        )
    )
    assert ours[0] - ours[1] == pytest.approx(theirs[0] - theirs[1], abs=1e-9)


@given(names=spaces, count=st.integers(0, 60), seed=seeds)
@settings(max_examples=60, deadline=None)
def test_samples_are_in_their_ranges_and_on_their_steps(names, count, seed):
    rng = np.random.default_rng(seed)
    axes = [axis_of(KINDS[name]) for name in names]
    points = fit_parzen(axes, draw(names, count, rng), recency_weights(count)).sample(rng, 50)
    for j, name in enumerate(names):
        d = KINDS[name]
        for value in points[:, j].tolist():
            drawn = d.to_external_repr(value)
            if isinstance(d, CategoricalDistribution):
                assert value in range(len(d.choices))
                continue
            assert d.low <= drawn <= d.high
            assert type(drawn) is (int if isinstance(d, IntDistribution) else float)
            if d.step:
                steps = (value - d.low) / d.step
                assert steps == pytest.approx(round(steps), abs=1e-9)


@pytest.mark.parametrize("name", sorted(KINDS))
@pytest.mark.parametrize("count", [0, 1, 7])
def test_samples_follow_the_density(name, count):
    rng = np.random.default_rng(1)
    column = axis_of(KINDS[name])
    estimator = fit_parzen([column], draw([name], count, rng), recency_weights(count))
    drawn = estimator.sample(rng, 20_000)[:, 0]
    if name in ("wide", "log"):
        middles = (np.arange(2000) + 0.5) / 2000
        density = np.exp(estimator.log_density(column.from_unit(middles)[:, None]))
        expected = density.reshape(20, 100).sum(axis=1) / 2000
        observed = np.histogram(column.to_unit(drawn), bins=20, range=(0, 1))[0]
    else:
        d = KINDS[name]
        whole = range(3) if name == "family" else np.arange(d.low, d.high + d.step / 2, d.step)
        values = np.array(whole, dtype=float)
        expected = np.exp(estimator.log_density(values[:, None]))
        observed = (np.abs(drawn[:, None] - values) < 1e-6).sum(axis=0)
    assert expected.sum() == pytest.approx(1, abs=1e-4)
    assert observed.sum() == len(drawn)
    spread = np.sqrt(expected * (1 - expected) / len(drawn))
    assert (np.abs(observed / len(drawn) - expected) < 5 * spread + 1e-4).all()


def test_an_observation_outside_a_narrowed_range_is_clipped():
    axes = [axis_of(FloatDistribution(0.0, 1.0))]
    outside, end = (fit_parzen(axes, np.array([[x]]), np.ones(1)) for x in (3.0, 1.0))
    points = np.linspace(0, 1, 9)[:, None]
    assert outside.log_density(points).tolist() == end.log_density(points).tolist()


@given(low=st.floats(1e-12, 1e6), ratio=st.floats(1.001, 1e6))
def test_rounding_does_not_move_a_value_out_of_a_log_range(low, ratio):
    column = axis_of(FloatDistribution(low, low * ratio, log=True))
    first, last = column.from_unit(np.array([0.0, 1.0]))
    assert low <= first == pytest.approx(low)
    assert low * ratio >= last == pytest.approx(low * ratio)


def test_a_range_of_one_value_gives_that_value() -> None:
    one = axis_of(FloatDistribution(0.5, 0.5))
    estimate = fit_parzen([one], np.array([[0.5], [0.5]]), np.ones(2))
    drawn = estimate.sample(np.random.default_rng(0), 5)
    assert drawn.tolist() == [[0.5]] * 5
    assert np.isfinite(estimate.log_density(drawn)).all()
