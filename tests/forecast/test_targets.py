"""What a forecast of plans learns, where seeds differ and runs diverge."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedsearch.forecast.objective_scale import ObjectiveScale
from schedsearch.forecast.paths import midpoints
from schedsearch.forecast.targets import plan_targets

LINEAR = ObjectiveScale(logarithmic=False)


@given(st.floats(-10, 10), st.floats(-10, 10))
def test_a_seed_that_is_harder_for_all_plans_changes_nothing(second, third):
    own = np.array([1.0, 2.0, 4.0, 5.0])
    finals = np.concatenate([own, own[:2] + second, own[:1] + third])
    runs = [(name, None) for name in "abcd"] + [("a", 1), ("b", 1), ("a", 2)]
    expected = plan_targets(LINEAR, np.concatenate([own, own[:2], own[:1]]))
    assert plan_targets(LINEAR, finals, runs) == pytest.approx(expected)


def test_differences_between_the_runs_of_a_seed_stay():
    runs = [("a", None), ("b", None), ("a", 1), ("b", 1)]
    found = plan_targets(LINEAR, np.array([1.0, 1.0, 3.0, 2.0]), runs)
    assert found == pytest.approx([1.0, 1.0, 1.5, 0.5])


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=20))
def test_a_run_that_diverged_is_as_bad_as_the_worst(values):
    found = plan_targets(ObjectiveScale.of(np.array(values)), np.array([*values, math.inf]))
    assert np.isfinite(found).all()
    assert found[-1] >= found.max() - 1e-9
    assert found[-1] > found.min()


@given(st.integers(1, 5000))
def test_a_time_that_is_a_point_of_a_fine_and_of_a_coarse_path_is_the_same_in_both(horizon):
    assert midpoints(0, horizon, 30)[1::3] == midpoints(0, horizon, 10)
