"""Plateau families: the rule of torch and the two differences from it."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from schedsearch.errors import ParameterError
from schedsearch.schedules import Exponential
from schedsearch.schedules.improvement import IncrementOnImprovement
from schedsearch.schedules.plateau import IncrementOnPlateau, PlateauOver, ReduceOnPlateau
from tests.schedules.replay import on_metrics

NAN, INF = math.nan, math.inf


def torch_values(initial: float, rule: dict[str, Any], metrics: list[float]) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=initial)
    rule = {("min_lr" if name == "min_value" else name): value for name, value in rule.items()}
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "min", **rule)
    values = [initial]
    for metric in metrics:
        scheduler.step(metric)
        values.append(optimizer.param_groups[0]["lr"])
    return values


# Few distinct metrics, so that ties, plateaus and slow descents are all common.
positive = st.one_of(st.floats(1e-6, 10.0), st.integers(0, 20).map(lambda n: n / 10))
rules = st.fixed_dictionaries(
    {
        "factor": st.floats(0.01, 0.99),
        "patience": st.integers(0, 4),
        "cooldown": st.integers(0, 4),
        # With a relative threshold of 1 or more torch finds no first best: inf * (1 - 1).
        "threshold": st.one_of(st.just(0.0), st.just(1e-4), st.floats(0.0, 0.99)),
        "min_value": st.one_of(st.just(0.0), st.floats(0.0, 0.5)),
        "eps": st.one_of(st.just(1e-8), st.floats(0.0, 0.1)),
    }
)


@settings(deadline=None, derandomize=True, max_examples=150)
@given(st.floats(0.0, 10.0), rules, st.lists(positive, max_size=60))
def test_reduce_on_plateau_agrees_with_torch_on_positive_metrics(
    initial: float, rule: dict[str, Any], metrics: list[float]
) -> None:
    ours = on_metrics(ReduceOnPlateau(initial, **rule), *metrics)
    assert ours == pytest.approx(torch_values(initial, rule, metrics), rel=1e-12, abs=0)


@settings(deadline=None, derandomize=True, max_examples=150)
@given(st.floats(0.0, 10.0), rules, st.lists(positive.map(lambda x: x - 1), max_size=60))
def test_reduce_on_plateau_with_an_absolute_threshold_agrees_with_torch_on_all_metrics(
    initial: float, rule: dict[str, Any], metrics: list[float]
) -> None:
    rule = rule | {"threshold_mode": "abs"}
    ours = on_metrics(ReduceOnPlateau(initial, **rule), *metrics)
    assert ours == pytest.approx(torch_values(initial, rule, metrics), rel=1e-12, abs=0)


def test_the_defaults_are_those_of_torch() -> None:
    metrics = [1.0] * 40
    assert on_metrics(ReduceOnPlateau(1.0), *metrics) == torch_values(1.0, {}, metrics)


def test_a_flat_metric_with_patience_2_decreases_the_value_after_the_fourth_epoch() -> None:
    values = on_metrics(ReduceOnPlateau(1.0, factor=0.5, patience=2), *[1.0] * 8)
    assert values == [1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25]


def test_bad_epochs_do_not_count_during_the_cooldown() -> None:
    schedule = ReduceOnPlateau(1.0, factor=0.5, patience=0, cooldown=2)
    assert on_metrics(schedule, *[1.0] * 6) == [1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25]


def test_a_constant_negative_metric_is_a_plateau_where_torch_sees_improvement() -> None:
    metrics = [-100.0] * 5
    rule: dict[str, Any] = {"factor": 0.5, "patience": 1}
    assert on_metrics(ReduceOnPlateau(1.0, **rule), *metrics) == [1.0, 1.0, 1.0, 0.5, 0.5, 0.25]
    assert torch_values(1.0, rule, metrics) == [1.0] * 6


def test_a_relative_threshold_is_a_fraction_of_the_absolute_best_for_both_signs() -> None:
    schedule = ReduceOnPlateau(1.0, factor=0.5, patience=0, threshold=0.1)
    assert on_metrics(schedule, 10.0, 8.9) == [1.0, 1.0, 1.0]
    assert on_metrics(schedule, 10.0, 9.1) == [1.0, 1.0, 0.5]
    assert on_metrics(schedule, -10.0, -11.1) == [1.0, 1.0, 1.0]
    assert on_metrics(schedule, -10.0, -10.9) == [1.0, 1.0, 0.5]


@pytest.mark.parametrize("unknown", [NAN, INF, -INF])
def test_a_metric_that_is_not_finite_is_ignored_where_torch_counts_it(unknown: float) -> None:
    metrics = [1.0, unknown, unknown, 0.9, 0.8]
    rule: dict[str, Any] = {"factor": 0.5, "patience": 1}
    assert on_metrics(ReduceOnPlateau(1.0, **rule), *metrics) == [1.0] * 6
    assert torch_values(1.0, rule, metrics)[-1] == 0.5


@pytest.mark.parametrize("unknown", [NAN, INF, -INF])
def test_a_metric_that_is_not_finite_consumes_neither_patience_nor_cooldown(unknown: float) -> None:
    schedule = ReduceOnPlateau(1.0, factor=0.5, patience=1, cooldown=1)
    values = on_metrics(schedule, 1.0, 1.0, unknown, 1.0, unknown, 1.0, unknown, 1.0, 1.0)
    assert values == [1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.25]


def test_a_decrease_of_at_most_eps_is_skipped() -> None:
    assert on_metrics(ReduceOnPlateau(1e-9, factor=0.1, patience=0), 1.0, 1.0)[-1] == 1e-9
    assert on_metrics(ReduceOnPlateau(1e-9, factor=0.1, patience=0, eps=0.0), 1.0, 1.0)[-1] < 1e-9


def test_increment_on_plateau_acts_in_the_same_epochs_as_reduce_on_plateau() -> None:
    metrics = (1.0, 1.0, 1.0, 0.5, 0.6, 0.5, 0.4, 0.4, 0.4)
    up = on_metrics(IncrementOnPlateau(0.8, increment=0.1, patience=1), *metrics)
    down = on_metrics(IncrementOnPlateau(0.8, increment=-0.1, patience=1), *metrics)
    counts = [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]
    assert up == [0.8 + 0.1 * count for count in counts]
    assert down == [0.8 - 0.1 * count for count in counts]


def test_increments_accumulate_no_rounding_error() -> None:
    values = on_metrics(IncrementOnPlateau(0.0, increment=0.1, patience=0), *[1.0] * 1001)
    assert values[-1] == 0.1 * 1000


def test_plateau_over_scales_its_inner_schedule_by_the_factor_at_each_plateau() -> None:
    schedule = PlateauOver(Exponential(1.0, 0.5), factor=0.1, patience=1)
    values = on_metrics(schedule, 1.0, 1.0, 1.0, NAN, 1.0, 1.0)
    expected = [1.0, 0.5, 0.25, 0.125 * 0.1, 0.0625 * 0.1, 0.03125 * 0.1, 0.015625 * 0.1**2]
    assert values == pytest.approx(expected, rel=1e-15)


def test_plateau_over_passes_feedback_to_its_inner_schedule() -> None:
    schedule = PlateauOver(IncrementOnImprovement(1.0, increment=1.0), factor=0.5, patience=0)
    assert on_metrics(schedule, 3.0, 2.0, 2.0, 1.0) == [1.0, 2.0, 3.0, 1.5, 2.0]


def test_patience_and_cooldown_may_be_shares_of_the_horizon() -> None:
    in_epochs = IncrementOnPlateau(0.0, increment=1.0, patience=3, cooldown=6)
    in_shares = IncrementOnPlateau(0.0, increment=1.0, patience="5%", cooldown="10%")
    assert in_shares.resolve(60, seed=0) == in_epochs


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"factor": 1.0}, "`factor` is 1.0, but must be greater than 0 and less than 1"),
        ({"patience": -1}, "`patience` is -1, but must be at least 0 epochs"),
        ({"threshold": NAN}, "`threshold` is nan, but must be a finite number"),
        ({"threshold_mode": "both"}, "`threshold_mode` is 'both', but must be one of rel, abs"),
    ],
)
def test_an_invalid_parameter_is_refused_with_its_value_and_rule(
    wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(ParameterError) as caught:
        ReduceOnPlateau(1.0, **wrong)
    assert message in str(caught.value)


def test_increments_that_overflow_within_the_horizon_are_refused() -> None:
    schedule = IncrementOnPlateau(0.0, increment=1e306)
    assert schedule.resolve(100, seed=0) == schedule
    with pytest.raises(ParameterError, match=r"`increment` is 1e\+306, .* no value overflows"):
        schedule.resolve(1000, seed=0)
