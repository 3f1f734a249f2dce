"""Plans: conversion to and from files, bounds, and the order of evaluation."""

import copy
import itertools
import math
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schedsearch.errors import InputError
from schedsearch.files import read_document, write_document
from schedsearch.plan import Plan
from schedsearch.schedules import (
    Constant,
    Coupled,
    Dwa,
    Feedback,
    IncrementOnImprovement,
    Linear,
    ReduceOnPlateau,
    Warmup,
)
from schedsearch.space import Space
from tests.schedules.strategies import MEMBERS, bounds, feedbacks, plans, resolved_of


def config(plan):
    fixed = {"task": "module:Task", "horizon": 10, "objective": {"metric": "val_loss"}}
    return {"name": "plan", **fixed, **plan.to_tables()}


def values_of(plan, feedbacks=(), horizon=20):
    plan = plan.resolve(horizon, 0)
    state = plan.start()
    values = [plan.values(state)]
    for feedback in feedbacks:
        state = plan.update(state, feedback)
        values.append(plan.values(state))
    return values


@pytest.mark.parametrize("suffix", [".toml", ".yaml", ".json"])
@settings(max_examples=40)
@given(plan=plans())
def test_a_plan_round_trips_through_every_file_format(tmp_path_factory, suffix, plan):
    path = tmp_path_factory.getbasetemp() / f"plan{suffix}"
    write_document(path, config(plan))
    assert Plan.from_tables(read_document(path)) == plan


@settings(max_examples=40)
@given(plan=plans())
def test_a_plan_round_trips_through_a_config(plan):
    space = Space.from_document(config(plan), "plan.toml")
    assert space.is_config
    assert space.plan() == plan


@given(plan=plans())
def test_plans_compare_hash_copy_and_pickle(plan):
    for equal in (Plan.from_tables(plan.to_tables()), copy.deepcopy(plan)):
        assert (equal, hash(equal)) == (plan, hash(plan))
    assert pickle.loads(pickle.dumps(plan)) == plan
    assert Plan(plan.schedules, {"lr": (0.0, 0.5)}) != Plan(plan.schedules, {"lr": (0.0, 0.6)})


def test_arguments_of_different_types_make_different_plans():
    plans = [Plan({}, arguments={"n": value}) for value in (1, 1.0, True, "1")]
    assert len(set(plans)) == len({plan.digest for plan in plans}) == 4
    assert all(a != b for a, b in itertools.combinations(plans, 2))
    for plan in plans:
        equal = Plan.from_tables(plan.to_tables())
        assert (equal, hash(equal), equal.digest) == (plan, hash(plan), plan.digest)
    zeros = [Plan({}, arguments={"n": value}) for value in (0.0, -0.0)]
    assert zeros[0] == zeros[1]
    assert zeros[0].digest == zeros[1].digest


@given(
    resolved=resolved_of("greedy", st.integers(1, 30)),
    bounds=bounds(),
    given_feedback=st.lists(feedbacks, max_size=30),
)
def test_bounds_clamp_the_values_of_a_schedule(resolved, bounds, given_feedback):
    schedule, horizon = resolved
    free, bounded = Plan({("x",): schedule}), Plan({("x",): schedule}, {"x": bounds})
    low, high = bounds
    unclamped = values_of(free, given_feedback, horizon)
    clamped = values_of(bounded, given_feedback, horizon)
    assert [v["x"] for v in clamped] == [min(max(v["x"], low), high) for v in unclamped]


def test_evaluate_names_the_clamped_hyperparameters():
    plan = Plan({("a",): Constant(2.0), ("b",): Constant(1.0)}, {"a": (0.0, 1.0), "b": (0.0, 1.0)})
    assert plan.evaluate(plan.start())[1] == ("a",)


def test_coupling_uses_the_clamped_value_in_every_order_of_the_schedules():
    schedules = {
        ("a",): Coupled(Constant(10.0), to="b"),
        ("b",): Coupled(Constant(2.0), to="c"),
        ("c",): Constant(3.0),
    }
    for order in (list(schedules), list(reversed(schedules))):
        plan = Plan({names: schedules[names] for names in order}, {"b": (0.0, 5.0)})
        assert plan.values(plan.start()) == {"a": 50.0, "b": 5.0, "c": 3.0}
        assert plan.names == tuple(name for (name,) in order)


def test_a_schedule_can_be_coupled_to_a_member_of_a_group():
    plan = Plan({("x",): Coupled(Constant(4.0), to=MEMBERS[0]), MEMBERS: Dwa(members=MEMBERS)})
    assert plan.values(plan.start())["x"] == 4.0


def test_two_groups_with_similar_names_do_not_collide():
    first, second = ("weights.a_b", "weights.c"), ("weights.a", "weights.b_c")
    plan = Plan({first: Dwa(members=first), second: Dwa(members=second)})
    assert Plan.from_tables(plan.to_tables()) == plan


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Plan({("a",): Coupled(Constant(1.0), to="a")}), "in a cycle: a -> a"),
        (
            lambda: Plan(
                {("a",): Coupled(Constant(1.0), "b"), ("b",): Warmup(Coupled(Constant(1.0), "a"))}
            ),
            "in a cycle",
        ),
        (
            lambda: Plan({("a",): Coupled(Constant(1.0), to="lr")}),
            "`lr`, which has no schedule in the plan",
        ),
        (lambda: Plan({("a",): Constant(1.0)}, {"a": (1.0, 0.0)}), "in ascending order"),
        (lambda: Plan({("a",): Constant(1.0)}, {"a": (math.nan, 0.0)}), "finite"),
        (lambda: Plan({("a",): Constant(1.0)}, {"a": (0.0, math.inf)}), "finite"),
        (lambda: Plan({("a", "b"): Dwa(members=MEMBERS)}), "but is the schedule of"),
        (
            lambda: Plan({MEMBERS: Dwa(members=MEMBERS), MEMBERS[:1]: Constant(1.0)}),
            f"two schedules set `{MEMBERS[0]}`",
        ),
        (
            lambda: Plan.from_tables({"hyperparameters": {"a": {"families": {"linaer": {}}}}}),
            "hyperparameters.a: there is no family `linaer`: did you mean `linear`",
        ),
    ],
)
def test_an_invalid_plan_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_nan_feedback_changes_no_value():
    plan = Plan({("a",): IncrementOnImprovement(0.0, 1.0), ("b",): ReduceOnPlateau(1.0, 0.5)})
    assert values_of(plan, [Feedback(math.nan)] * 40, 40)[-1] == {"a": 0.0, "b": 1.0}


def test_values_may_be_rounded_to_whole_numbers():
    schedules = {("batch_size",): Linear(16.0, 64.0, duration=4), ("lr",): Constant(0.5)}
    plan = Plan(schedules, bounds={"batch_size": (20, 50)}, whole=frozenset({"batch_size"}))
    found = [values["batch_size"] for values in values_of(plan, [Feedback(metric=0.0)] * 4)]
    assert found == [20, 28, 40, 50, 50]
    assert all(type(value) is int for value in found)
    tables = plan.to_tables()
    assert tables["hyperparameters"]["batch_size"]["round"] is True
    assert "round" not in tables["hyperparameters"]["lr"]
    assert Plan.from_tables(tables) == plan != Plan(schedules, bounds={"batch_size": (20, 50)})


def test_values_by_the_step_are_whole_too():
    plan = Plan(
        {("length",): Linear(1.0, 3.0, duration=1)},
        intervals={"length": "step"},
        whole=frozenset({"length"}),
    ).resolve(1, seed=0)
    assert plan.evaluate_steps(plan.start(), [0.0, 0.3, 0.8]) == ({"length": [1, 2, 3]}, ())


def test_bounds_of_whole_values_must_be_whole():
    with pytest.raises(InputError, match=r"`a` are \[0.5, 2.0\], but must be whole numbers"):
        Plan({("a",): Constant(1.0)}, bounds={"a": (0.5, 2.0)}, whole=frozenset({"a"}))
