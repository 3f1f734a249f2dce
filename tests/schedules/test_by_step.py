"""The contract of all families and combinators at the interval "step"."""

import json
import math
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from schedsearch.epoch_values import evaluate_epochs
from schedsearch.errors import ParameterError
from schedsearch.plan import Plan
from schedsearch.schedules import (
    Clamp,
    Constant,
    Coupled,
    Exponential,
    Feedback,
    IncrementOnImprovement,
    Join,
    Linear,
    PlateauOver,
    ReduceOnPlateau,
    Scale,
    Schedule,
    Warmup,
)
from schedsearch.schedules.durations import Interval
from tests.schedules.strategies import OPEN_LOOP, PEERS, SINGLE, feedbacks, schedules_of

few = settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
FRACTIONS = [0.0, 0.1, 0.25, 0.5, 0.9]
every_family = pytest.mark.parametrize("family", SINGLE)


@st.composite
def by_step(draw: st.DrawFn, family: str) -> tuple[Schedule, int]:
    """Return a schedule resolved at the interval "step", and its horizon."""
    schedule, horizon = draw(schedules_of(family)), draw(st.integers(1, 30))
    try:
        return schedule.resolve(horizon, 0, "step"), horizon
    except ParameterError as refused:
        assume("overflows" not in refused.rule)
        raise


@every_family
@few
@given(st.data())
def test_values_are_finite_and_continue_from_json_and_agree_one_by_one(
    family: str, data: st.DataObject
) -> None:
    schedule, horizon = data.draw(by_step(family))
    state = stored = schedule.start()
    peers = [PEERS] * len(FRACTIONS)
    for _ in range(horizon):
        values = schedule.evaluate_steps(state, peers, FRACTIONS)
        assert all(map(math.isfinite, values))
        assert values == [schedule.evaluate(state, PEERS, at) for at in FRACTIONS]
        stored = json.loads(json.dumps(stored, allow_nan=False))
        assert values == schedule.evaluate_steps(stored, peers, FRACTIONS)
        feedback = data.draw(feedbacks)
        state, stored = schedule.update(state, feedback), schedule.update(stored, feedback)


@pytest.mark.parametrize("family", OPEN_LOOP)
@pytest.mark.parametrize("interval", ["epoch", "step"])
@pytest.mark.parametrize("rounded", [False, True])
@few
@given(st.data())
def test_a_closed_form_plan_has_the_values_at_all_times_that_it_has_in_each_epoch(
    family: str, interval: Interval, rounded: bool, data: st.DataObject
) -> None:
    schedule, horizon = data.draw(schedules_of(family)), data.draw(st.integers(1, 30))
    low = data.draw(st.integers(-5, 5))
    bounds, whole = {"m": (low, low + 3)}, frozenset({"m"} if rounded else ())
    try:
        plan = Plan({("m",): schedule}, bounds, {"m": interval}, whole).resolve(horizon, 0)
    except ParameterError:
        assume(False)
    times = data.draw(st.lists(st.floats(0, horizon), max_size=9))
    in_epochs = [plan.evaluate(plan.start(int(time)), time % 1)[0]["m"] for time in times]
    assert plan.values_at(times) == {"m": in_epochs}


def whole(schedule: object) -> bool:
    """Return whether no share of the horizon was rounded to whole epochs."""
    return "%" not in repr(schedule)


#: By the epoch, their cycles begin at whole epochs, and none begins in the last epoch.
CYCLES = ("Cyclical", "WarmRestarts")


@pytest.mark.parametrize(
    "family", [name for name in SINGLE if name not in ("cyclical", "warm_restarts")]
)
@few
@given(st.data())
def test_with_whole_durations_the_beginning_of_an_epoch_has_the_value_by_the_epoch(
    family: str, data: st.DataObject
) -> None:
    schedule, horizon = data.draw(schedules_of(family)), data.draw(st.integers(1, 30))
    assume(whole(schedule) and not any(name in repr(schedule) for name in CYCLES))
    try:
        pair = [schedule.resolve(horizon, 0, interval) for interval in ("epoch", "step")]
    except ParameterError:
        assume(False)
    states = [each.start() for each in pair]
    for _ in range(horizon):
        held, moving = (
            each.evaluate(state, PEERS) for each, state in zip(pair, states, strict=True)
        )
        assert moving == pytest.approx(held, rel=1e-12, abs=1e-12)
        feedback = data.draw(feedbacks)
        states = [each.update(s, feedback) for each, s in zip(pair, states, strict=True)]


PEER = {"m": 1.0}


def values(schedule: Schedule, horizon: int, *metrics: float) -> list[list[float]]:
    """Return the values at the quarters of each epoch."""
    resolved = schedule.resolve(horizon, 0, "step")
    state, found = resolved.start(), []
    for metric in metrics:
        found.append([resolved.evaluate(state, PEER, quarter / 4) for quarter in range(4)])
        state = resolved.update(state, Feedback(metric))
    return found


counting = IncrementOnImprovement(initial=1.0, increment=1.0)


def test_a_closed_loop_schedule_that_begins_within_an_epoch_holds_and_gets_its_feedback() -> None:
    # It begins at 1.5: the improvements of the epochs 1 and 2 count, that of epoch 0 does not.
    ramped = values(Warmup(counting, 1.5, 0.0), 4, 9.0, 8.0, 7.0, 6.0)
    assert ramped[1] == pytest.approx([2 / 3, 5 / 6, 1.0, 1.0])
    assert ramped[2:] == [[2.0] * 4, [3.0] * 4]
    joined = values(Join((Constant(0.0), counting), (1.5,)), 4, 9.0, 8.0, 7.0, 6.0)
    assert joined == [[0.0] * 4, [0.0, 0.0, 1.0, 1.0], [2.0] * 4, [3.0] * 4]


@pytest.mark.parametrize(("outer", "inner"), [(1.1, 0.9), (1.4, 0.6), (1.7, 0.3)])
def test_a_rule_that_begins_with_an_epoch_gets_no_feedback_before_whatever_the_rounding(
    outer: float, inner: float
) -> None:
    """It begins at 2, so the improvements of the epochs 2 and 3 count."""
    assert (1 - outer) + 1 != inner
    for rule in (Join((Constant(0.0), counting), (inner,)), Warmup(counting, inner, 0.0)):
        found = values(Join((Constant(0.0), rule), (outer,)), 5, 9.0, 8.0, 7.0, 6.0, 5.0)
        assert found[2:] == [[1.0] * 4, [2.0] * 4, [3.0] * 4]


def test_nested_schedules_begin_at_their_own_time() -> None:
    # The join begins its second part at 1.25, and the ramp in it ends at 1.75.
    inner = Warmup(Linear(1.0, 0.0, 2.0), 0.5, 0.0)
    found = values(Join((Constant(5.0), inner), (1.25,)), 4, *[1.0] * 4)
    assert found == [
        [5.0] * 4,
        [5.0, 0.0, 0.5, 1.0],
        [0.875, 0.75, 0.625, 0.5],
        [0.375, 0.25, 0.125, 0.0],
    ]
    three = Join((Constant(1.0), Constant(2.0), Linear(3.0, 4.0, 1.0)), (0.25, 0.5))
    assert values(three, 2, 1.0, 1.0) == [[1.0, 2.0, 3.0, 3.25], [3.5, 3.75, 4.0, 4.0]]


RULE = {"factor": 0.5, "patience": 0}


def test_the_ramp_before_a_plateau_rule_moves_and_the_rule_changes_at_epochs() -> None:
    found = values(Warmup(ReduceOnPlateau(1.0, **RULE), 1.5, 0.0), 5, *[1.0] * 5)
    assert found[0] == pytest.approx([0.0, 1 / 6, 1 / 3, 0.5])
    assert found[1] == pytest.approx([2 / 3, 5 / 6, 1.0, 1.0])
    # The rule sees the metric of epoch 1 first, so epoch 2 is the first one without improvement.
    assert found[2:] == [[1.0] * 4, [0.5] * 4, [0.25] * 4]


def test_the_inner_schedule_of_plateau_over_moves_and_its_factor_changes_at_epochs() -> None:
    line = values(Linear(1.0, 0.0, 4.0), 4, *[1.0] * 4)
    found = values(PlateauOver(inner=Linear(1.0, 0.0, 4.0), **RULE), 4, *[1.0] * 4)
    assert found[0] == line[0] == [1.0, 0.9375, 0.875, 0.8125]
    assert found == [line[0], line[1], [v / 2 for v in line[2]], [v / 4 for v in line[3]]]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda inner: Scale(inner, 1.0),
        lambda inner: Clamp(inner, -9.0, 9.0),
        lambda inner: Coupled(inner, "m"),
        lambda inner: PlateauOver(inner=inner, factor=0.5),
        lambda inner: Join((inner, Constant(7.0)), (9.0,)),
    ],
    ids=["scale", "clamp", "coupled", "plateau_over", "join"],
)
@pytest.mark.parametrize("inner", [Linear(1.0, 0.0, 2.0), Warmup(counting, 0.75)])
def test_a_wrapped_schedule_that_begins_within_an_epoch_moves_as_without_its_wrapper(
    wrap: Callable[[Schedule], Schedule], inner: Schedule
) -> None:
    metrics = [4.0, 3.0, 2.0, 1.0]
    plain = values(Join((Constant(5.0), inner), (1.25,)), 4, *metrics)
    assert len({value for epoch in plain for value in epoch}) > 4
    assert values(Join((Constant(5.0), wrap(inner)), (1.25,)), 4, *metrics) == plain


def test_a_value_that_is_coupled_to_plateau_over_moves_with_it() -> None:
    over = PlateauOver(inner=Linear(1.0, 0.0, 4.0), **RULE)
    plan = Plan(
        {("lr",): over, ("wd",): Coupled(Constant(2.0), "lr")},
        intervals={"lr": "step", "wd": "step"},
    ).resolve(4, 0)
    rates, decays = [], []
    for epoch in evaluate_epochs(plan, [Feedback(1.0)] * 4):
        by_step = epoch.by_step(4)
        rates.append(by_step["lr"])
        decays.append(by_step["wd"])
    assert [list(epoch) for epoch in rates] == values(over, 4, *[1.0] * 4)
    assert decays == [tuple(2 * value for value in epoch) for epoch in rates]


def test_a_coupled_value_moves_with_its_peer_and_holds_with_a_held_one() -> None:
    schedules = {("m",): Linear(1.0, 0.0, 1.0), ("lr",): Coupled(Constant(2.0), "m")}
    halves = {}
    for moving in (("m",), ("lr",), ("m", "lr")):
        plan = Plan(
            {**schedules, ("m",): Linear(1.0, 0.0, 1)},
            bounds={"m": (0.6, 1.0)},
            intervals=dict.fromkeys(moving, "step"),
        ).resolve(2, 0)
        halves[moving] = plan.evaluate(plan.start(), 0.5)[0]
    assert halves == {
        ("m",): {"m": 0.6, "lr": 2.0},
        ("lr",): {"m": 1.0, "lr": 2.0},
        ("m", "lr"): {"m": 0.6, "lr": 1.2},
    }
    factor = Plan(
        {("m",): Constant(3.0), ("lr",): Coupled(Exponential(1.0, 0.25), "m")},
        intervals={"lr": "step"},
    ).resolve(2, 0)
    assert factor.evaluate(factor.start(), 0.5)[0] == {"m": 3.0, "lr": 1.5}
