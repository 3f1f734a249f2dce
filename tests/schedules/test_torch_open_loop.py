"""Open-loop families agree with torch.optim.lr_scheduler to a relative error of 1e-12."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from schedsearch.schedules import (
    Cosine,
    Exponential,
    Linear,
    Multistep,
    OneCycle,
    OpenLoop,
    Polynomial,
    Step,
    Triangular,
    WarmRestarts,
)
from tests.schedules.torch_values import one_cycle, torch_values

some = settings(max_examples=25, deadline=None, derandomize=True, database=None)
initials = st.floats(1e-5, 10.0)
rates = st.floats(0.5, 1.1)
durations = st.integers(1, 150)


def same(schedule: OpenLoop, values: list[float]) -> bool:
    return [schedule.at(epoch) for epoch in range(len(values))] == pytest.approx(
        values, rel=1e-12, abs=0.0
    )


@some
@given(initials, rates)
def test_exponential(initial: float, rate: float) -> None:
    values = torch_values(initial, lambda o: lr_scheduler.ExponentialLR(o, rate))
    assert same(Exponential(initial, rate), values)


@some
@given(initials, rates, durations)
def test_step(initial: float, rate: float, size: int) -> None:
    values = torch_values(initial, lambda o: lr_scheduler.StepLR(o, size, rate))
    assert same(Step(initial, rate, size), values)


@some
@given(initials, rates, st.lists(durations, min_size=1, max_size=6))
def test_multistep_with_repeated_milestones_in_any_order(
    initial: float, rate: float, milestones: list[int]
) -> None:
    values = torch_values(initial, lambda o: lr_scheduler.MultiStepLR(o, milestones, rate))
    assert same(Multistep(initial, rate, tuple(milestones)), values)


@some
@given(initials, st.floats(0.1, 3.0), durations)
def test_polynomial(initial: float, power: float, duration: int) -> None:
    values = torch_values(initial, lambda o: lr_scheduler.PolynomialLR(o, duration, power))
    assert same(Polynomial(initial, 0.0, power, duration), values)


@some
@given(initials, st.floats(0.01, 1.0), st.floats(0.01, 1.0), durations)
def test_linear(initial: float, start: float, end: float, duration: int) -> None:
    values = torch_values(initial, lambda o: lr_scheduler.LinearLR(o, start, end, duration))
    assert same(Linear(initial * start, initial * end, duration), values)


@some
@given(initials, st.floats(0.0, 1.0), durations)
def test_cosine_is_the_closed_form_within_its_duration(
    initial: float, final: float, duration: int
) -> None:
    # Only a private method gives the closed form: public stepping accumulates rounding errors.
    scheduler = lr_scheduler.CosineAnnealingLR(
        torch.optim.SGD([torch.zeros(1)], lr=initial), duration, final
    )
    values = []
    for scheduler.last_epoch in range(duration):
        values += scheduler._get_closed_form_lr()
    assert same(Cosine(initial, final, duration), values)


@some
@given(initials, st.floats(0.0, 1.0), st.integers(1, 40), st.integers(1, 10))
def test_warm_restarts(initial: float, final: float, period: int, multiplier: int) -> None:
    values = torch_values(
        initial,
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, period, multiplier, final),
        count=300,
    )
    assert same(WarmRestarts(initial, final, period, multiplier), values)


def test_warm_restarts_find_the_restart_that_the_logarithm_of_torch_misses() -> None:
    schedule = WarmRestarts(initial=1.0, final=0.0, period=5, multiplier=10)
    assert [epoch for epoch in range(1000) if schedule.at(epoch) == 1.0] == [0, 5, 55, 555]


@some
@given(
    st.floats(1e-3, 1.0), st.floats(1.0, 25.0), st.floats(1.0, 1e3), durations, st.integers(0, 149)
)
def test_one_cycle(peak: float, divisor: float, final: float, total: int, rise: int) -> None:
    assume(0 < rise < total)
    values = torch_values(peak, one_cycle(peak, divisor, final, total, rise), count=total)
    initial = peak / divisor
    assert same(OneCycle(initial, peak, initial / final, rise, total - rise), values)


@some
@given(
    st.floats(0.01, 1.0),
    st.floats(1.0, 10.0),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from(
        [("triangular", 1.0, 1.0), ("triangular2", 0.5, 1.0), ("exp_range", 1.0, 0.97)]
    ),
)
def test_triangular_in_all_three_modes(
    initial: float, peak: float, rise: int, fall: int, mode: tuple[str, float, float]
) -> None:
    name, cycle_decay, decay_rate = mode
    values = torch_values(
        initial,
        lambda o: lr_scheduler.CyclicLR(
            o, initial, peak, rise, fall, name, gamma=decay_rate, cycle_momentum=False
        ),
    )
    assert same(Triangular(initial, peak, rise, fall, cycle_decay, decay_rate), values)
