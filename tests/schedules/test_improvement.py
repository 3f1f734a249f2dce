"""Families that react to improvement: exact values computed by hand."""

import math
from typing import Any

import pytest

from schedsearch.errors import ParameterError
from schedsearch.plan import Plan
from schedsearch.scheduler import Scheduler
from schedsearch.schedules import Constant
from schedsearch.schedules.improvement import Greedy, IncrementOnImprovement
from tests.schedules.replay import on_metrics


def test_each_new_best_validation_loss_adds_001_to_the_second_weight() -> None:
    plan = Plan(
        {
            ("weights.l2",): Constant(0.8),
            ("weights.l1",): IncrementOnImprovement(initial=0.2, increment=0.01),
        },
        bounds={"weights.l2": (0.0, 1.0), "weights.l1": (0.0, 1.0)},
    )
    scheduler = Scheduler(plan, horizon=100)
    seen = []
    for val_loss in (1.0, 0.9, 0.95, 0.9, 0.8, math.nan, 0.7):
        seen.append(scheduler.values["weights.l1"])
        scheduler.step(val_loss)
    assert seen == pytest.approx([0.2, 0.21, 0.22, 0.22, 0.22, 0.23, 0.23], rel=1e-15)
    assert scheduler.values == pytest.approx({"weights.l2": 0.8, "weights.l1": 0.24}, rel=1e-15)
    for epoch in range(90):
        scheduler.step(0.6 - 0.001 * epoch)
    assert scheduler.values == {"weights.l2": 0.8, "weights.l1": 1.0}


def test_an_increment_may_be_negative() -> None:
    schedule = IncrementOnImprovement(1.0, increment=-0.25)
    assert on_metrics(schedule, 3.0, 2.0, 2.0, 1.0) == [1.0, 0.75, 0.5, 0.5, 0.25]


@pytest.mark.parametrize("best", [10.0, -10.0])
def test_a_relative_threshold_is_a_fraction_of_the_absolute_best(best: float) -> None:
    schedule = IncrementOnImprovement(0.0, increment=1.0, threshold=0.1)
    assert on_metrics(schedule, best, best - 0.9, best - 1.1) == [0.0, 1.0, 1.0, 2.0]


def test_an_absolute_threshold_is_in_the_unit_of_the_metric() -> None:
    schedule = IncrementOnImprovement(0.0, increment=1.0, threshold=0.5, threshold_mode="abs")
    assert on_metrics(schedule, 10.0, 9.5, 9.4) == [0.0, 1.0, 1.0, 2.0]


@pytest.mark.parametrize("unknown", [math.nan, math.inf, -math.inf])
def test_an_epoch_with_a_metric_that_is_not_finite_is_ignored(unknown: float) -> None:
    increments = IncrementOnImprovement(0.0, increment=1.0)
    assert on_metrics(increments, unknown, 1.0, unknown, 0.5) == [0.0, 0.0, 1.0, 1.0, 2.0]
    greedy = Greedy(0.5, min_value=0.0, max_value=1.0, factor=0.5, patience=1)
    assert on_metrics(greedy, 2.0, unknown, 1.0, unknown, 3.0, 3.0) == [0.5] * 3 + [1.0] * 3 + [0.5]


def test_increments_that_overflow_within_the_horizon_are_refused() -> None:
    schedule = IncrementOnImprovement(0.0, increment=-1e306)
    assert schedule.resolve(100, seed=0) == schedule
    with pytest.raises(ParameterError, match=r"`increment` is -1e\+306, .* no value overflows"):
        schedule.resolve(1000, seed=0)


def greedy(**given: Any) -> Greedy:
    return Greedy(**{"initial": 0.5, "min_value": 0.125, "max_value": 4.0, "factor": 0.5} | given)


def test_greedy_increases_after_more_than_patience_good_epochs_up_to_the_maximum() -> None:
    values = on_metrics(greedy(patience=1), *[float(-n) for n in range(10)])
    assert values == [0.5, 0.5, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0, 4.0, 4.0, 4.0]


def test_greedy_decreases_after_more_than_patience_bad_epochs_down_to_the_minimum() -> None:
    values = on_metrics(greedy(patience=1), *[1.0] * 9)
    assert values == [0.5, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125, 0.125, 0.125, 0.125]


def test_a_good_epoch_resets_the_count_of_bad_epochs_and_vice_versa() -> None:
    assert on_metrics(greedy(patience=1), 5.0, 5.0, 4.0, 4.0, 3.0, 3.0) == [0.5] * 7


def test_greedy_ignores_the_metric_during_the_warmup_after_an_increase() -> None:
    schedule = greedy(patience=0, warmup=2)
    assert on_metrics(schedule, 5.0, 1.0, 1.0, 4.0, 4.5) == [0.5, 1.0, 1.0, 1.0, 2.0, 2.0]


def test_greedy_ignores_the_metric_during_the_cooldown_after_a_decrease() -> None:
    schedule = greedy(initial=1.0, patience=0, cooldown=1)
    values = on_metrics(schedule, 5.0, 5.0, 6.0, 6.0, 6.0)
    assert values == [1.0, 2.0, 1.0, 1.0, 0.5, 0.5]


def test_greedy_resets_after_reset_after_decreases_to_the_minimum() -> None:
    schedule = greedy(initial=0.25, patience=0, reset_after=2)
    values = on_metrics(schedule, 5.0, 6.0, 6.0, 6.0, 9.0)
    # Increase, decrease, decrease to the minimum, again (so it resets), and 9.0 is a first best.
    assert values == [0.25, 0.5, 0.25, 0.125, 0.25, 0.5]


def test_an_increase_resets_the_count_of_decreases_to_the_minimum() -> None:
    schedule = greedy(initial=0.125, patience=0, reset_after=2)
    values = on_metrics(schedule, 5.0, 6.0, 4.0, 6.0, 6.0)
    assert values == [0.125, 0.25, 0.125, 0.25, 0.125, 0.125]


def test_a_change_of_at_most_eps_is_skipped() -> None:
    assert on_metrics(greedy(patience=0, eps=0.6), 5.0, 6.0) == [0.5, 0.5, 0.5]


def test_an_initial_value_outside_its_limits_is_refused() -> None:
    message = r"`initial` is 5\.0, but must be from `min_value` = 0\.125 to `max_value` = 4\.0"
    with pytest.raises(ParameterError, match=message):
        greedy(initial=5.0)
