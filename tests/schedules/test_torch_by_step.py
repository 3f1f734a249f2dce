"""Values at the interval "step" are those of torch's schedulers stepped per optimizer step."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from schedsearch.plan import Plan
from schedsearch.scheduler import Scheduler
from schedsearch.schedules import (
    Constant,
    Cosine,
    Exponential,
    Join,
    Linear,
    Multistep,
    OneCycle,
    Polynomial,
    Schedule,
    Step,
    Triangular,
    WarmRestarts,
)
from tests.schedules.torch_values import COUNT, one_cycle, torch_values

some = settings(max_examples=25, deadline=None, derandomize=True, database=None)
initials = st.floats(1e-5, 10.0)
rates = st.floats(0.5, 1.1)
#: Optimizer steps per epoch, and lengths in optimizer steps.
per_epoch = st.integers(1, 40)
lengths = st.integers(1, 150)


def by_step(schedule: Schedule, steps: int, count: int = COUNT) -> list[float]:
    """Return the values at the first optimizer steps of a training, as a user reads them."""
    plan = Plan({("lr",): schedule}, intervals={"lr": "step"})
    scheduler = Scheduler(plan, horizon=-(-count // steps))
    values = []
    while len(values) < count:
        values += [scheduler.at(step / steps)["lr"] for step in range(steps)]
        scheduler.step(0.5)
    return values[:count]


def same(found: list[float], expected: list[float]) -> bool:
    # Near 0, the difference of two numbers of the size of the peak is a residue of rounding.
    residue = 1e-14 * max(map(abs, expected))
    return found == pytest.approx(expected, rel=1e-12, abs=residue)


@some
@given(initials, st.floats(0.01, 1.0), st.floats(0.0, 1.0), lengths, per_epoch)
def test_linear(initial: float, start: float, end: float, length: int, steps: int) -> None:
    values = torch_values(initial, lambda o: lr_scheduler.LinearLR(o, start, end, length))
    schedule = Linear(initial * start, initial * end, length / steps)
    assert same(by_step(schedule, steps), values)


@some
@given(initials, rates, per_epoch)
def test_exponential(initial: float, rate: float, steps: int) -> None:
    values = torch_values(initial, lambda o: lr_scheduler.ExponentialLR(o, rate))
    assert same(by_step(Exponential(initial, rate**steps), steps), values)


@some
@given(initials, rates, lengths, per_epoch)
def test_step(initial: float, rate: float, length: int, steps: int) -> None:
    values = torch_values(initial, lambda o: lr_scheduler.StepLR(o, length, rate))
    assert same(by_step(Step(initial, rate, length / steps), steps), values)


@some
@given(initials, rates, st.lists(lengths, min_size=1, max_size=6), per_epoch)
def test_multistep(initial: float, rate: float, milestones: list[int], steps: int) -> None:
    values = torch_values(initial, lambda o: lr_scheduler.MultiStepLR(o, milestones, rate))
    schedule = Multistep(initial, rate, tuple(milestone / steps for milestone in milestones))
    assert same(by_step(schedule, steps), values)


@some
@given(initials, st.floats(0.0, 1.0), lengths, per_epoch)
def test_cosine(initial: float, final: float, length: int, steps: int) -> None:
    # Only a private method gives the closed form: public stepping accumulates rounding errors.
    scheduler = lr_scheduler.CosineAnnealingLR(
        torch.optim.SGD([torch.zeros(1)], lr=initial), length, final
    )
    values: list[float] = []
    for scheduler.last_epoch in range(length):
        values += scheduler._get_closed_form_lr()
    assert same(by_step(Cosine(initial, final, length / steps), steps, length), values)


@some
@given(initials, st.floats(0.0, 1.0), st.integers(1, 40), st.integers(1, 5), per_epoch)
def test_warm_restarts_by_step_counts(
    initial: float, final: float, period: int, multiplier: int, steps: int
) -> None:
    def make(optimizer: torch.optim.Optimizer) -> LRScheduler:
        return lr_scheduler.CosineAnnealingWarmRestarts(optimizer, period, multiplier, final)

    schedule = WarmRestarts(initial, final, period / steps, multiplier)
    assert same(by_step(schedule, steps), torch_values(initial, make))


@some
@given(initials, st.floats(0.0, 1.0), st.integers(1, 6), st.integers(1, 3), per_epoch)
def test_warm_restarts_at_fractional_epochs(
    initial: float, final: float, period: int, multiplier: int, steps: int
) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=initial)
    restarts = lr_scheduler.CosineAnnealingWarmRestarts(optimizer, period, multiplier, final)
    found = by_step(WarmRestarts(initial, final, period, multiplier), steps)
    for step, value in enumerate(found):
        restarts.step(step // steps + step % steps / steps)
        expected = optimizer.param_groups[0]["lr"]
        # At some restarts, the logarithm of torch is rounded down to the end of the last period.
        assert same([value], [expected]) or value == initial


@some
@given(
    *(st.floats(1e-3, 1.0), st.floats(1.0, 25.0), st.floats(1.0, 1e3)),
    *(lengths, st.integers(1, 149), per_epoch, st.booleans()),
)
def test_one_cycle(
    peak: float, divisor: float, final: float, total: int, rise: int, steps: int, three: bool
) -> None:
    assume((2 * rise if three else rise) < total)
    make = one_cycle(peak, divisor, final, total, rise, three_phase=three)
    values = torch_values(peak, make, total)
    initial, up = peak / divisor, rise / steps
    schedule: Schedule
    if three:
        # Up, down again as long, and from there to the final value.
        falling = Cosine(initial, initial / final, (total - 2 * rise) / steps)
        schedule = Join((OneCycle(initial, peak, initial, up, up), falling), (2 * up,))
    else:
        schedule = OneCycle(initial, peak, initial / final, up, (total - rise) / steps)
    assert same(by_step(schedule, steps, total), values)


@some
@given(
    *(st.floats(0.01, 1.0), st.floats(1.0, 10.0)),
    *(st.integers(1, 40), st.integers(1, 40), per_epoch),
    st.sampled_from(
        [("triangular", 1.0, 1.0), ("triangular2", 0.5, 1.0), ("exp_range", 1.0, 0.97)]
    ),
)
def test_triangular_in_all_three_modes(
    initial: float, peak: float, rise: int, fall: int, steps: int, mode: tuple[str, float, float]
) -> None:
    name, cycle_decay, rate = mode
    values = torch_values(
        initial,
        lambda o: lr_scheduler.CyclicLR(
            o, initial, peak, rise, fall, name, gamma=rate, cycle_momentum=False
        ),
    )
    schedule = Triangular(initial, peak, rise / steps, fall / steps, cycle_decay, rate**steps)
    assert same(by_step(schedule, steps), values)


@some
@given(initials, st.floats(0.1, 3.0), lengths, per_epoch)
def test_polynomial(initial: float, power: float, length: int, steps: int) -> None:
    values = torch_values(initial, lambda o: lr_scheduler.PolynomialLR(o, length, power))
    assert same(by_step(Polynomial(initial, 0.0, power, length / steps), steps), values)


@some
@given(initials, rates, st.integers(1, 60), st.integers(1, 60), per_epoch)
def test_sequential(initial: float, rate: float, first: int, second: int, steps: int) -> None:
    def make(optimizer: torch.optim.Optimizer) -> LRScheduler:
        parts = [
            lr_scheduler.LinearLR(optimizer, 0.1, 1.0, first),
            lr_scheduler.ExponentialLR(optimizer, rate),
            lr_scheduler.ConstantLR(optimizer, 0.5, 1000),
        ]
        return lr_scheduler.SequentialLR(optimizer, parts, [first, first + second])

    schedule = Join(
        (
            Linear(0.1 * initial, initial, first / steps),
            Exponential(initial, rate**steps),
            Constant(0.5 * initial),
        ),
        (first / steps, (first + second) / steps),
    )
    assert same(by_step(schedule, steps), torch_values(initial, make))
