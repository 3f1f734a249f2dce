"""Combinators that calculate: products and sums with closed-loop parts, and noise."""

import statistics
import sys

import pytest

from schedsearch.plan import Plan
from schedsearch.schedules import (
    Constant,
    Coupled,
    Feedback,
    Join,
    Linear,
    Noise,
    Offset,
    Product,
    ReduceOnPlateau,
    Sum,
)
from schedsearch.schedules.durations import Interval
from tests.schedules.replay import on_metrics


def test_the_factors_of_a_product_each_receive_all_feedback() -> None:
    halving = ReduceOnPlateau(1.0, factor=0.5, patience=0)
    schedule = Product((Linear(8.0, 0.0, duration=4), halving, halving))
    assert on_metrics(schedule, 1.0, 1.0, 1.0) == [8.0, 6.0, 4.0 / 4, 2.0 / 16]


def test_a_sum_may_hold_joined_and_coupled_schedules() -> None:
    joined = Join((Constant(1.0), ReduceOnPlateau(4.0, factor=0.5, patience=0)), (2,))
    plan = Plan({("a",): Sum((joined, Coupled(Constant(-1.0), "b"))), ("b",): Constant(0.25)})
    state, values = plan.start(), []
    for _ in range(5):
        values.append(plan.values(state)["a"])
        state = plan.update(state, Feedback(1.0))
    assert values == [0.75, 0.75, 3.75, 3.75, 1.75]


def test_sums_and_offsets_that_overflow_are_the_largest_float() -> None:
    largest = sys.float_info.max
    for schedule in (
        Sum((Constant(1e308), Constant(1e308))),
        Offset(Constant(1e308), 1e308),
        Product((Constant(1e200), Constant(1e200))),
    ):
        assert schedule.evaluate(schedule.start(), {}) == largest


def noisy(limit: float, seed: int, interval: Interval = "epoch", begin: int = 0) -> list[float]:
    schedule = Noise(Constant(2.0), limit=limit, begin=begin).resolve(400, seed, interval)
    return on_metrics(schedule, *[1.0] * 399)


def test_noise_is_a_truncated_normal_around_the_inner_value() -> None:
    values = noisy(0.5, seed=1)
    assert max(abs(value / 2 - 1) for value in values) <= 0.5
    assert statistics.mean(values) == pytest.approx(2.0, abs=0.1)
    # The standard deviation of a standard normal number that is cut at 0.5 is 0.28.
    assert statistics.stdev(values) == pytest.approx(2 * 0.28, rel=0.1)


def test_noise_depends_on_the_seed_and_the_epoch_alone() -> None:
    assert noisy(0.5, seed=1) == noisy(0.5, seed=1) != noisy(0.5, seed=2)
    assert noisy(0.5, seed=1, begin=7) == [2.0] * 7 + noisy(0.5, seed=1)[7:]


def test_noise_does_not_change_within_an_epoch() -> None:
    schedule = Noise(Constant(1.0), limit=0.5).resolve(5, 0, "step")
    state = schedule.start()
    assert schedule.evaluate(state, {}) == schedule.evaluate(state, {}, 0.9)
