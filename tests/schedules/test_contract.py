"""The contract of all families; new families are tested without new code."""

import contextlib
import copy
import dataclasses
import json
import math
import random
from collections.abc import Iterable, Sequence
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from schedsearch.errors import InputError, ParameterError
from schedsearch.plan import Plan
from schedsearch.scheduler import Scheduler
from schedsearch.schedules import (
    FAMILIES,
    Constant,
    Exponential,
    Feedback,
    Join,
    LogisticRamp,
    OpenLoop,
    Scale,
    Schedule,
    State,
    from_table,
    to_table,
)
from schedsearch.schedules.durations import Interval
from schedsearch.schedules.families import COMBINATORS
from schedsearch.schedules.open_loop import broken_overflow_rule
from schedsearch.schedules.parameters import ParameterType, parameters_of
from tests.schedules.strategies import (
    GROUPS,
    MEMBERS,
    OPEN_LOOP,
    PEERS,
    feedbacks,
    resolved_of,
    schedules_of,
    wild_feedbacks,
)

every_family = pytest.mark.parametrize("family", FAMILIES)
few = settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
short_runs = st.lists(feedbacks, min_size=1, max_size=30)


def run(schedule: Schedule, state: State, feedbacks: Iterable[Feedback]) -> list[Any]:
    values = []
    for feedback in feedbacks:
        values.append(schedule.evaluate(state, PEERS))
        state = schedule.update(state, feedback)
    return [*values, schedule.evaluate(state, PEERS)]


def fields_of(family: str) -> set[str]:
    return {parameter.name for parameter in parameters_of(FAMILIES[family])}


#: The parameters that are the lengths of the phases of a schedule.
PHASES = {"duration", "rise", "fall", "warmup", "stable", "decay"}
COMBINATOR_NAMES = [cls.family for cls in COMBINATORS]
ENDING = [name for name in OPEN_LOOP if "final" in fields_of(name) and PHASES & fields_of(name)]


def through_json(state: State) -> Any:
    return json.loads(json.dumps(state, allow_nan=False))


@every_family
@few
@given(st.data())
def test_values_are_finite_for_every_horizon(family: str, data: st.DataObject) -> None:
    schedule, horizon = data.draw(resolved_of(family))
    pattern = data.draw(short_runs)
    feedbacks = (pattern * (horizon // len(pattern) + 1))[: horizon - 1]
    for value in run(schedule, schedule.start(), feedbacks):
        parts = value.values() if isinstance(value, dict) else [value]
        assert all(math.isfinite(part) for part in parts), value


@every_family
@pytest.mark.parametrize("horizon", [1, 2, 1000])
def test_the_defaults_are_valid_for_every_horizon(family: str, horizon: int) -> None:
    schedule = plain(family).resolve(horizon, seed=0)
    feedback = Feedback(metric=1.0, terms=dict.fromkeys(PEERS, 1.0))
    assert len(run(schedule, schedule.start(), [feedback] * (horizon - 1))) == horizon


@every_family
@pytest.mark.parametrize(
    "horizons",
    [range(1, 40, 2), pytest.param(range(1, 1001), marks=pytest.mark.long)],
    ids=["few", "all"],
)
def test_the_defaults_hold_at_every_horizon_and_at_real_times(family: str, horizons: range) -> None:
    schedule = plain(family)
    for horizon in horizons:
        by_epoch, by_step = (schedule.resolve(horizon, 0, word) for word in ("epoch", "step"))
        if schedule.phases and family != "triangular":  # whose phases are one of several cycles
            lengths = [getattr(by_epoch, name) for name in schedule.phases]
            assert sum(lengths) == horizon
        check_all_times(by_epoch, horizon, (0.0,))
        check_all_times(by_step, horizon, (0.0, 0.3, 0.75) if family not in GROUPS else (0.0,))


def check_all_times(resolved: Schedule, horizon: int, fractions: Sequence[float]) -> None:
    """Check the values, and a round trip of the state, in the epochs of a training.

    Of long ones, those of the first and of the last epochs.
    """
    feedback = Feedback(metric=1.0, terms=dict.fromkeys(PEERS, 1.0))
    state = resolved.start()
    for epoch in range(horizon):
        if epoch < 20 or epoch >= horizon - 3:
            for fraction in fractions:
                value = resolved.evaluate(state, PEERS, fraction)
                parts = value.values() if isinstance(value, dict) else [value]
                assert all(math.isfinite(part) for part in parts)
                if isinstance(resolved, OpenLoop):
                    assert value == resolved.at(epoch + fraction)
            assert through_json(state) == state
        state = resolved.update(state, feedback)


#: Families whose value at epoch 0 is `initial`, with the options that keep it so.
BEGINNING = {
    "linear": {},
    "polynomial": {"power": 2.0, "k_decay": 1.5},
    "exponential": {"decay_rate": 0.9},
    "geometric": {},
    "rex": {},
    "step": {"decay_rate": 0.5},
    "multistep": {"decay_rate": 0.5},
    "inverse_time": {"decay_rate": 0.5, "power": 0.7},
    "cosine": {"exponent": 1.5, "k_decay": 1.5},
    "warm_restarts": {"cycle_decay": 0.7},
    "cyclical": {"shape": "cosine"},
    "triangular": {"peak": 1.0},
    "one_cycle": {"peak": 1.0},
    "warmup_stable_decay": {"peak": 1.0, "cooldown": "cosine"},
    "gaussian_ramp_down": {},
}


@pytest.mark.parametrize("family", BEGINNING)
@few
@given(st.floats(1e-6, 10.0), st.floats(1e-6, 10.0), st.integers(10, 60))
def test_end_points_are_exact(family: str, initial: float, final: float, horizon: int) -> None:
    given = BEGINNING[family] | {"initial": initial, "final": final}
    names = given.keys() & fields_of(family)
    for interval in ("epoch", "step"):
        schedule = FAMILIES[family](**{name: given[name] for name in names})
        resolved = schedule.resolve(horizon, 0, interval)
        assert isinstance(resolved, OpenLoop)
        assert resolved.at(0) == initial
        if family in ENDING:
            assert resolved.at(horizon) == resolved.at(horizon + 0.5) == final


#: Families whose values are between some of their parameters, with what else they need.
BETWEEN: dict[str, dict[str, Any]] = {
    name: {"sharpness": 1e-9, "power": 2.0, "width": "1%"}
    for name in OPEN_LOOP
    if {"initial", "final"} <= fields_of(name) or {"initial", "peak"} <= fields_of(name)
} | {"knots": {}, "piecewise": {}}


def values_between(family: str, first: float, second: float, version: int) -> bool:
    """Return whether a schedule between two values has no other ones, also near its corners."""
    final = first if "peak" in fields_of(family) else second
    given = BETWEEN[family] | {"initial": first, "peak": second, "final": final}
    given["values"] = (first, second, first)
    names = given.keys() & fields_of(family)
    schedule = FAMILIES[family](**{name: given[name] for name in names}, version=version)
    assert isinstance(schedule, OpenLoop)
    low, high = sorted((first, second))
    for horizon in (2, 5, 10):
        at = schedule.resolve(horizon, 0, "step").at
        corners = [n * horizon / 24 for n in range(25)]
        times = [time - small for time in corners for small in (0.0, 1e-6, 1e-9, 4e-16) if time]
        if not all(low <= at(time) <= high for time in times):
            return False
    return True


@pytest.mark.parametrize("family", BETWEEN)
def test_bounds_equal_to_the_values_of_a_family_never_limit_it(family: str) -> None:
    numbers = random.Random(0)
    pairs = [[round(10 ** numbers.uniform(-4, 2), 4) for _ in range(2)] for _ in range(60)]
    assert all(values_between(family, *pair, version=3) for pair in pairs)
    if family in ("gaussian_ramp", "logistic_ramp", "knots", "cyclical"):
        assert not all(values_between(family, *pair, version=2) for pair in pairs)


@pytest.mark.parametrize("family", OPEN_LOOP)
@few
@given(st.data())
def test_open_loop_values_are_a_function_of_the_epoch_alone(
    family: str, data: st.DataObject
) -> None:
    schedule, horizon = data.draw(resolved_of(family, st.integers(1, 60)))
    assert isinstance(schedule, OpenLoop)
    in_order = run(schedule, schedule.start(), [Feedback(metric=0.0)] * (horizon - 1))
    for epoch in data.draw(st.permutations(range(horizon))):
        assert schedule.at(epoch) == in_order[epoch]


@every_family
@few
@given(st.data())
def test_the_values_of_an_open_loop_schedule_do_not_depend_on_feedback(
    family: str, data: st.DataObject
) -> None:
    schedule, _ = data.draw(resolved_of(family))
    feedbacks = data.draw(short_runs)
    if schedule.is_open_loop:
        expected = run(schedule, schedule.start(), [Feedback(metric=0.0)] * len(feedbacks))
        assert run(schedule, schedule.start(), feedbacks) == expected
    if family in OPEN_LOOP:
        assert schedule.is_open_loop
    elif family not in COMBINATOR_NAMES or family == "plateau_over":
        assert not schedule.is_open_loop


@pytest.mark.parametrize("family", ENDING)
@few
@given(st.data())
def test_the_value_after_the_last_phase_is_exactly_the_final_value(
    family: str, data: st.DataObject
) -> None:
    schedule, _ = data.draw(resolved_of(family, st.integers(1, 60)))
    parameters = dataclasses.asdict(schedule)
    end = sum(parameters[name] for name in PHASES & parameters.keys())
    assert isinstance(schedule, OpenLoop)
    assert schedule.at(end) == schedule.at(end + 99) == parameters["final"]


@every_family
@few
@given(st.data())
def test_a_schedule_continues_identically_from_a_state_that_was_json(
    family: str, data: st.DataObject
) -> None:
    schedule, _ = data.draw(resolved_of(family))
    before, after = data.draw(short_runs), data.draw(short_runs)
    state = schedule.start()
    for feedback in before:
        state = schedule.update(state, feedback)
    assert run(schedule, through_json(state), after) == run(schedule, state, after)


@every_family
@few
@given(st.data())
def test_evaluate_and_update_do_not_change_the_state(family: str, data: st.DataObject) -> None:
    schedule, _ = data.draw(resolved_of(family))
    state = schedule.start()
    for feedback in data.draw(short_runs):
        before = copy.deepcopy(state)
        first, following = schedule.evaluate(state, PEERS), schedule.update(state, feedback)
        assert schedule.evaluate(state, PEERS) == first
        assert schedule.update(state, feedback) == following
        assert state == before
        state = following


@every_family
@few
@given(st.data())
def test_the_state_stays_valid_json_when_training_diverges(
    family: str, data: st.DataObject
) -> None:
    schedule, _ = data.draw(resolved_of(family))
    state = schedule.start()
    assert through_json(state) == state
    for feedback in data.draw(st.lists(wild_feedbacks, max_size=12)):
        state = schedule.update(state, feedback)
        assert through_json(state) == state
        schedule.evaluate(state, PEERS)


@every_family
@few
@given(st.data())
def test_a_table_round_trips_to_an_equal_schedule(family: str, data: st.DataObject) -> None:
    schedule = data.draw(schedules_of(family))
    members = MEMBERS if hasattr(schedule, "members") else None
    again = from_table(json.loads(json.dumps(to_table(schedule))), members)
    assert again == schedule
    assert hash(again) == hash(schedule)


@every_family
@few
@given(st.data())
def test_resolve_is_idempotent(family: str, data: st.DataObject) -> None:
    schedule, horizon = data.draw(resolved_of(family, st.integers(1, 60)))
    assert schedule.resolve(horizon, seed=0).resolve(horizon, seed=0) == schedule.resolve(
        horizon, seed=0
    )


@every_family
def test_a_value_of_the_wrong_type_is_refused_with_its_name_and_value(family: str) -> None:
    schedule = plain(family)
    for parameter in parameters_of(type(schedule)):
        for wrong in WRONG[parameter.type]:
            value = (wrong,) if parameter.is_list else wrong
            with pytest.raises(ParameterError) as caught:
                dataclasses.replace(schedule, **{parameter.name: value})
            assert caught.value.name == parameter.name
            assert repr(value) in str(caught.value)
            assert caught.value.rule in str(caught.value)


@pytest.mark.parametrize(
    ("family", "name", "value"),
    [
        (family, parameter.name, 0 if parameter.type is ParameterType.NUMBER else -1)
        for family, cls in FAMILIES.items()
        for parameter in parameters_of(cls)
        if parameter.name in ("decay_rate", "power", "patience", "cooldown", "period", "step_size")
    ],
)
def test_rates_of_zero_and_negative_patience_are_refused(
    family: str, name: str, value: float
) -> None:
    with pytest.raises(ParameterError, match=f"{family}: the value of `{name}` is {value}, but"):
        dataclasses.replace(plain(family), **{name: value})


def test_a_steep_ramp_does_not_overflow() -> None:
    steep = LogisticRamp(initial=0.0, final=1.0, midpoint=2000, width=1).resolve(1000, seed=0)
    assert [steep.at(0), steep.at(2000), steep.at(4000)] == [0.0, 0.5, 1.0]


def test_boundaries_out_of_order_are_refused() -> None:
    pieces = (Exponential(1.0, 0.9),) * 3
    with pytest.raises(
        ParameterError, match=r"`boundaries` is \(9, 4\), but must be in ascending order"
    ):
        Join(pieces, boundaries=(9, 4))


def test_growth_that_overflows_within_the_horizon_is_refused() -> None:
    growth = Exponential(initial=1.0, decay_rate=10.0)
    assert growth.resolve(309, seed=0).at(308) == pytest.approx(1e308)
    with pytest.raises(ParameterError, match=r"overflows \(epoch 309 does\)"):
        growth.resolve(310, seed=0)
    with pytest.raises(ParameterError, match=r"overflows \(epoch 299 does\)"):
        Scale(growth, factor=1e10).resolve(309, seed=0)


@pytest.mark.parametrize("family", [n for n in OPEN_LOOP if FAMILIES[n].overflows_at_an_end])
@settings(few, max_examples=50)
@given(st.data())
def test_families_that_are_checked_at_their_ends_overflow_there_or_nowhere(
    family: str, data: st.DataObject
) -> None:
    schedule, horizon = data.draw(resolved_of(family))
    numbers = [p.name for p in parameters_of(type(schedule)) if p.type is ParameterType.NUMBER]
    factor = data.draw(st.sampled_from([1.0, 1e150, 1e307]))
    scaled = {name: factor * getattr(schedule, name) for name in numbers}
    assume(all(map(math.isfinite, scaled.values())))
    huge = dataclasses.replace(schedule, **scaled)
    for interval in get_args(Interval):
        rules = [
            broken_overflow_rule(huge.at, horizon, interval, check_ends_only=check_ends_only)
            for check_ends_only in (True, False)
        ]
        assert rules[0] == rules[1]


#: For each type, values that no parameter of this type may have.
WRONG: dict[ParameterType, tuple[Any, ...]] = {
    ParameterType.NUMBER: (math.nan, math.inf, -math.inf, 10**400, "0.1", None, True),
    ParameterType.COUNT: (-1, 1.5, "3", None, True),
    ParameterType.MULTIPLE: (0.5, math.nan, math.inf, 10**400, "2", None, True),
    ParameterType.DURATION: (-1, math.nan, math.inf, "20", "-5%", "1e400%", None, True),
    ParameterType.EPOCH_COUNT: (-1, 2.5, "20", "-5%", "1e400%", None, True),
    ParameterType.FLAG: (0, "yes", None),
    ParameterType.CHOICE: ("neither", None, 1),
    ParameterType.NAME: (3, None),
    ParameterType.SCHEDULE: (0.1, None, Exponential, Feedback(metric=0.0)),
}

#: For each type, a value that is valid for every required parameter of this type.
PLAIN: dict[ParameterType, Any] = {
    ParameterType.NUMBER: 0.5,
    ParameterType.COUNT: 2,
    ParameterType.DURATION: "50%",
    ParameterType.EPOCH_COUNT: "50%",
    ParameterType.NAME: next(iter(PEERS)),
    ParameterType.SCHEDULE: Exponential(1.0, 0.9),
}


def plain(family: str) -> Schedule:
    """A schedule of the family with all its defaults."""
    given: dict[str, Any] = {"members": MEMBERS}
    for parameter in parameters_of(FAMILIES[family]):
        if parameter.required and parameter.name != "members":
            value = PLAIN[parameter.type]
            given[parameter.name] = (value, value) if parameter.is_list else value
    given["boundaries"] = ("50%",)
    return FAMILIES[family](**{name: given[name] for name in given.keys() & fields_of(family)})


@every_family
def test_options_are_shown_last(family: str) -> None:
    schedule = plain(family)
    options = [parameter.is_option for parameter in parameters_of(type(schedule))]
    assert options == sorted(options)
    shown = [name for name in fields_of(family) if f"{name}=" in repr(schedule)]
    assert len(shown) == len(options)
    names = [parameter.name for parameter in parameters_of(type(schedule))]
    assert type(schedule).__repr__ is Schedule.__repr__, "its decorator needs repr=False"
    own = repr(schedule).partition("(")[2]
    if not any(p.type is ParameterType.SCHEDULE for p in parameters_of(type(schedule))):
        assert sorted(names, key=lambda name: own.index(f"{name}=")) == names


def changed(schedule: Schedule) -> Iterable[Schedule]:
    """The schedule with another value of each parameter, one at a time."""
    for parameter in parameters_of(type(schedule)):
        value = getattr(schedule, parameter.name)
        for other in OTHER[parameter.type]:
            items = (other, *value[1:]) if parameter.is_list else other
            with contextlib.suppress(ParameterError):
                yield dataclasses.replace(schedule, **{parameter.name: items})


#: For each type, values of which at least one is valid for every parameter of this type.
OTHER: dict[ParameterType, tuple[Any, ...]] = {
    ParameterType.NUMBER: (0.37, 1.5),
    ParameterType.COUNT: (3, 7),
    ParameterType.MULTIPLE: (2.5,),
    ParameterType.DURATION: (3, "41%"),
    ParameterType.EPOCH_COUNT: (3, "41%"),
    ParameterType.FLAG: (True,),
    ParameterType.CHOICE: ("abs", "cosine", "sigmoid"),
    ParameterType.NAME: ("kl",),
    ParameterType.SCHEDULE: (Exponential(1.0, 0.8), LogisticRamp(0.0, 1.0)),
}


def scheduler_of(schedule: Schedule) -> Scheduler:
    schedules: dict[tuple[str, ...], Schedule] = {(peer,): Constant(0.5) for peer in PEERS}
    schedules[getattr(schedule, "members", ("u",))] = schedule
    return Scheduler(Plan(schedules), horizon=20)


@pytest.mark.filterwarnings("ignore:.* is cut at the horizon")
@every_family
def test_a_state_continues_in_the_same_plan_only(family: str) -> None:
    saved = scheduler_of(plain(family))
    for epoch in range(20):
        state = through_json(saved.state_dict())
        again = scheduler_of(plain(family))
        again.load_state_dict(state)
        assert (again.epoch, again.values) == (epoch, saved.values)
        saved.step(1.0, terms=dict.fromkeys(PEERS, 0.1 * epoch + 1))
    for other in changed(plain(family)):
        scheduler = scheduler_of(other)
        if scheduler.plan != saved.plan:
            with pytest.raises(InputError, match="the state belongs to another plan"):
                scheduler.load_state_dict(saved.state_dict())
