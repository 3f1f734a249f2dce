"""Gaussian processes: exact at noiseless targets, calibrated where there is noise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from schedsearch.forecast.gaussian_process import (
    GaussianProcess,
    Kernel,
    _mean_squared_distances,
    _negative_log_posterior,
)

GROUPS = (slice(0, 2), slice(2, 3))


def rows(number: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(number, 3))


def smooth(x: np.ndarray) -> np.ndarray:
    """A function of the first group only."""
    return np.sin(x[:, 0]) + 0.5 * x[:, 1]


def test_the_kernel_is_that_of_its_formula():
    kernel = Kernel(GROUPS, (0.5, 2.0), amplitude=1.5, noise=0.1)
    x, y = rows(4), rows(3, seed=1)
    for i in range(4):
        for j in range(3):
            first = ((x[i, :2] - y[j, :2]) ** 2).mean() / 0.5**2
            second = (x[i, 2] - y[j, 2]) ** 2 / 2.0**2
            r = np.sqrt(5 * (first + second))
            expected = 1.5**2 * (1 + r + r**2 / 3) * np.exp(-r)
            assert kernel.covariances(x, y)[i, j] == pytest.approx(expected, rel=1e-9)


def test_the_gradient_is_that_of_the_posterior():
    x = rows(12)
    priors = np.array([[0.7, 1.0], [0.7, 1.0], [0.0, 0.7], [-1.0, 1.0]])
    at = np.array([0.3, -0.2, 0.1, -1.5])
    distances = np.stack([_mean_squared_distances(x[:, group]) for group in GROUPS])
    given = distances, smooth(x), priors
    numeric = approx_fprime(at, lambda t: _negative_log_posterior(t, *given)[0], 1e-6)
    assert _negative_log_posterior(at, *given)[1] == pytest.approx(numeric, rel=1e-3, abs=1e-4)


def test_it_learns_a_smooth_function_and_which_group_matters():
    x, unseen = rows(80), rows(40, seed=1)
    process = GaussianProcess.fit(x, smooth(x), GROUPS)
    means, deviations = process.predict(unseen)
    assert np.abs(means - smooth(unseen)).mean() < 0.1 * smooth(unseen).std()
    assert process.kernel.lengths[1] > 2 * process.kernel.lengths[0]
    assert process.predict(10 * unseen)[1].mean() > 3 * deviations.mean()


def test_the_noise_is_that_of_the_targets():
    x = np.repeat(rows(40), 3, axis=0)
    noise = 0.3 * np.random.default_rng(2).normal(size=len(x))
    process = GaussianProcess.fit(x, smooth(x) + noise, GROUPS)
    assert process.noise == pytest.approx(0.3, rel=0.25)


def test_a_fantasy_keeps_the_means_and_makes_its_neighbourhood_more_certain():
    x, unseen = rows(30), rows(10, seed=1)
    process = GaussianProcess.fit(x, smooth(x), GROUPS)
    means, deviations = process.predict(unseen)
    imagined = process.with_fantasies(unseen[:1])
    assert imagined.predict(unseen)[0] == pytest.approx(means, abs=1e-6)
    assert imagined.predict(unseen)[1][0] < deviations[0]
    assert (imagined.predict(unseen)[1] <= deviations + 1e-9).all()


def test_equal_targets_and_equal_rows_are_no_obstacle():
    process = GaussianProcess.fit(np.zeros((5, 3)), np.full(5, 2.0), GROUPS)
    means, deviations = process.predict(rows(3))
    assert means == pytest.approx([2.0] * 3)
    assert np.isfinite(deviations).all()
