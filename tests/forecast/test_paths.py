"""Paths: the values of plans over the run, whatever their families; and how they are scaled."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedsearch.forecast.paths import Scaling, coarse, midpoints, part, path_of
from schedsearch.plan import Plan
from schedsearch.schedules import Feedback
from schedsearch.storage import PATH_POINTS

NOTHING = [Feedback(1.0)]


def plan_of(horizon: int = 60, **families: dict) -> Plan:
    tables = {name: {"families": family} for name, family in families.items()}
    return Plan.from_tables({"hyperparameters": tables}).resolve(horizon, 0)


def test_a_path_has_the_values_in_the_middles_of_equal_parts():
    plan = plan_of(lr={"linear": {"initial": 0.0, "final": 60.0, "duration": "100%"}})
    path = path_of(plan, ["lr"], 60, NOTHING)
    assert path.shape == (30, 1)
    assert path[:, 0].tolist() == pytest.approx([2 * i + 1 for i in range(30)])
    assert coarse(path[None])[0] == pytest.approx(
        path_of(plan, ["lr"], 60, NOTHING, points=PATH_POINTS)
    )


@given(st.integers(1, 90), st.floats(0.5, 0.99))
def test_a_closed_form_is_as_epoch_by_epoch(horizon, rate):
    plan = plan_of(horizon, lr={"exponential": {"initial": 1.0, "decay_rate": rate}})
    assert plan.is_closed_form
    state, epoch, rows = plan.start(), 0, []
    for time in midpoints(0, horizon, 30):
        while epoch < int(time):
            state, epoch = plan.update(state, NOTHING[0]), epoch + 1
        rows.append(plan.values(state)["lr"])
    assert path_of(plan, ["lr"], horizon, NOTHING)[:, 0].tolist() == rows


def test_a_closed_loop_follows_the_feedback():
    family = {"increment_on_plateau": {"initial": 0.0, "increment": 0.5, "patience": 0}}
    plan = plan_of(10, weight=family)
    assert not plan.is_closed_form
    falling = [Feedback(10.0 - epoch) for epoch in range(10)]
    level = [Feedback(1.0) for _ in range(10)]
    assert path_of(plan, ["weight"], 10, falling)[:, 0].max() == 0.0
    assert path_of(plan, ["weight"], 10, level)[-1, 0] > 1.0


def test_parts_are_of_the_run_before_and_after_a_time():
    path = np.arange(30.0)[None, :, None]
    assert part(path, 0, 0.5, 3)[0, :, 0].tolist() == [2.0, 7.0, 12.0]
    assert part(path, 0.5, 1, 3)[0, :, 0].tolist() == [17.0, 22.0, 27.0]


def test_values_that_span_more_than_twenty_times_are_seen_in_their_logarithm():
    rates, weights = np.geomspace(1e-4, 1e-1, 5), np.linspace(0, 1, 5)
    paths = np.stack([rates, weights], axis=-1)[:, None, :]
    scaling = Scaling.of(paths)
    assert scaling.logarithmic == (True, False)
    features = scaling.apply(paths)
    assert features.shape == (5, 2)
    assert np.diff(features[:, 0]) == pytest.approx(np.diff(features[:, 0])[0])
    assert features.mean(axis=0) == pytest.approx([0, 0], abs=1e-12)
    assert features.std(axis=0) == pytest.approx([1, 1])
    assert np.isfinite(scaling.apply(np.zeros((1, 1, 2)))).all()


def test_a_hyperparameter_that_never_moves_adds_nothing():
    assert (
        Scaling.of(np.full((3, 4, 1), 0.5)).apply(np.full((3, 4, 1), 0.5)).tolist() == [[0] * 4] * 3
    )
