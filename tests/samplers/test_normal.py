"""The normal distribution over arrays is as accurate as the standard library's."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

from schedsearch.samplers.normal import erfc, log_mass


def test_erfc_has_a_relative_error_below_1e_12_from_minus_10_to_25_and_a_half():
    x = np.linspace(-10, 25.5, 10_001)
    assert erfc(x) == pytest.approx([math.erfc(value) for value in x], rel=1e-12, abs=0)


def test_log_mass_is_that_of_the_normal_distribution():
    rng = np.random.default_rng(0)
    low = rng.uniform(-6, 5, 1000)
    high = low + rng.uniform(0.01, 3, 1000)

    def mass(a: float, b: float) -> float:
        if a > 0 or b < 0:
            near, far = sorted((abs(a), abs(b)))
            return (math.erfc(near / math.sqrt(2)) - math.erfc(far / math.sqrt(2))) / 2
        return NormalDist().cdf(b) - NormalDist().cdf(a)

    expected = [math.log(mass(a, b)) for a, b in zip(low.tolist(), high.tolist(), strict=True)]
    assert log_mass(low, high) == pytest.approx(expected, abs=1e-11)


def test_log_mass_is_symmetric_and_finite_in_the_tails():
    ends = np.array([[20.0, 21.0], [30.0, 30.5], [99.0, 100.0]])
    right = log_mass(ends[:, 0], ends[:, 1])
    assert right == pytest.approx(log_mass(-ends[:, 1], -ends[:, 0]))
    # The first term of the asymptotic series is an upper bound.
    assert right[0] == pytest.approx(-200 - math.log(20 * math.sqrt(2 * math.pi)), abs=3e-3)
    assert np.isfinite(right).all()
