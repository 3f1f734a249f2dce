"""Plans survive every format, keep bounds and order; a scheduler goes on where it was saved."""

import copy
import json
import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from schedsearch.errors import InputError
from schedsearch.files import read_document, write_document
from schedsearch.plan import Plan, Scheduler
from schedsearch.schedules import (
    FAMILIES,
    Clamp,
    Constant,
    Coupled,
    Dwa,
    Exponential,
    Feedback,
    GroupSchedule,
    IncrementOnImprovement,
    Linear,
    ReduceOnPlateau,
    Warmup,
)
from schedsearch.space import Space
from tests.schedules.strategies import MEMBERS, TERMS, feedbacks, resolved_of, schedules_of

SINGLE = tuple(n for n, cls in FAMILIES.items() if not issubclass(cls, GroupSchedule))
GROUPS = tuple(n for n, cls in FAMILIES.items() if issubclass(cls, GroupSchedule))


def bounds():
    ends = st.lists(st.floats(-100, 100), min_size=2, max_size=2)
    return ends.map(lambda pair: (min(pair), max(pair)))


@st.composite
def plans(draw):
    """Plans over every family: what others are coupled to, one scheduled freely, and a group."""
    schedules = {(term,): Constant(0.5) for term in TERMS}
    schedules[("lr",)] = draw(st.sampled_from(SINGLE).flatmap(schedules_of))
    if draw(st.booleans()):
        schedules[MEMBERS] = draw(st.sampled_from(GROUPS).flatmap(schedules_of))
    names = st.sampled_from(["lr", *TERMS])
    return Plan(schedules, draw(st.dictionaries(names, bounds(), max_size=2)))


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
def test_a_plan_is_the_same_after_any_format(tmp_path_factory, suffix, plan):
    path = tmp_path_factory.getbasetemp() / f"plan{suffix}"
    write_document(path, config(plan))
    assert Plan.from_tables(read_document(path)) == plan


@settings(max_examples=40)
@given(plan=plans())
def test_a_plan_is_the_same_after_a_config_is_checked(plan):
    space = Space.from_document(config(plan), "plan.toml")
    assert space.is_config
    assert space.plan() == plan


@given(plan=plans())
def test_plans_compare_hash_copy_and_pickle(plan):
    for same in (Plan.from_tables(plan.to_tables()), copy.deepcopy(plan)):
        assert (same, hash(same)) == (plan, hash(plan))
    assert pickle.loads(pickle.dumps(plan)) == plan
    assert Plan(plan.schedules, {"lr": (0.0, 0.5)}) != Plan(plan.schedules, {"lr": (0.0, 0.6)})


@given(
    resolved=resolved_of("greedy", st.integers(1, 30)),
    bounds=bounds(),
    given_feedback=st.lists(feedbacks, max_size=30),
)
def test_bounds_clamp_whatever_a_schedule_says(resolved, bounds, given_feedback):
    schedule, horizon = resolved
    free, held = Plan({("x",): schedule}), Plan({("x",): schedule}, {"x": bounds})
    low, high = bounds
    said = values_of(free, given_feedback, horizon)
    kept = values_of(held, given_feedback, horizon)
    assert [v["x"] for v in kept] == [min(max(v["x"], low), high) for v in said]


def test_clamped_names_what_bounds_hold_back():
    plan = Plan({("a",): Constant(2.0), ("b",): Constant(1.0)}, {"a": (0.0, 1.0), "b": (0.0, 1.0)})
    assert plan.evaluate(plan.start())[1] == ("a",)


def test_who_is_coupled_reads_the_clamped_value_in_any_order_of_writing():
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


def test_two_groups_with_names_alike_stay_two():
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
        (lambda: Plan({("a",): Coupled(Constant(1.0), to="lr")}), "`lr`, which the plan does not"),
        (lambda: Plan({("a",): Constant(1.0)}, {"a": (1.0, 0.0)}), "low to high"),
        (lambda: Plan({("a",): Constant(1.0)}, {"a": (math.nan, 0.0)}), "finite"),
        (lambda: Plan({("a",): Constant(1.0)}, {"a": (0.0, math.inf)}), "finite"),
        (lambda: Plan({("a", "b"): Dwa(members=MEMBERS)}), "cannot move"),
        (
            lambda: Plan({MEMBERS: Dwa(members=MEMBERS), MEMBERS[:1]: Constant(1.0)}),
            f"two schedules move `{MEMBERS[0]}`",
        ),
        (
            lambda: Plan.from_tables({"hyperparameters": {"a": {"families": {"linaer": {}}}}}),
            "hyperparameters.a: there is no family `linaer`: did you mean `linear`",
        ),
    ],
)
def test_a_plan_that_cannot_be_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


# --- the scheduler --------------------------------------------------------------------------------


@given(
    plan=plans(),
    before=st.lists(feedbacks, max_size=8),
    after=st.lists(feedbacks, min_size=1, max_size=8),
    direction=st.sampled_from(["minimize", "maximize"]),
)
def test_a_scheduler_goes_on_from_a_state_that_went_through_json(plan, before, after, direction):
    try:
        saved, restored = (Scheduler(plan, horizon=20, direction=direction) for _ in range(2))
    except InputError:
        return  # growth that overflows within the horizon
    for feedback in before:
        saved.step(feedback.metric, terms=feedback.terms)
    restored.load_state_dict(json.loads(json.dumps(saved.state_dict(), allow_nan=False)))
    for feedback in after:
        assert (restored.values, restored.epoch) == (saved.values, saved.epoch)
        for scheduler in (saved, restored):
            scheduler.step(feedback.metric, terms=feedback.terms)
    assert restored.state_dict() == saved.state_dict()


def test_a_saved_state_does_not_change_with_the_scheduler():
    scheduler = Scheduler(Plan({("a",): Exponential(1.0, 0.5)}), horizon=3)
    saved = scheduler.state_dict()
    scheduler.step(0.1)
    assert saved == {"epoch": 0, "schedules": {"a": {"epoch": 0}}}


@pytest.mark.parametrize(
    "other", [{("b",): Constant(1.0)}, {("a",): IncrementOnImprovement(0.0, 1.0)}, {}]
)
def test_a_state_of_another_plan_is_refused(other):
    scheduler = Scheduler(Plan({("a",): Constant(1.0)}), horizon=3)
    with pytest.raises(InputError, match="the state holds"):
        scheduler.load_state_dict(Scheduler(Plan(other), horizon=3).state_dict())


def test_the_direction_says_what_an_improvement_is():
    plan = Plan({("a",): IncrementOnImprovement(initial=0.0, increment=1.0)})
    up, down = Scheduler(plan, horizon=9, direction="maximize"), Scheduler(plan, horizon=9)
    for metric in (1.0, 2.0, 3.0):
        up.step(metric)
        down.step(metric)
    assert (up.values["a"], down.values["a"]) == (3.0, 1.0)


def test_tensors_will_do_for_metrics_and_terms():
    plan = Plan({MEMBERS: Dwa(members=MEMBERS), ("a",): IncrementOnImprovement(0.0, 1.0)})
    scheduler = Scheduler(plan, horizon=5)
    for _ in range(3):
        terms = {term: torch.tensor(2.0, requires_grad=True) for term in TERMS}
        scheduler.step(torch.tensor(0.5, requires_grad=True), terms=terms)
    json.dumps(scheduler.state_dict())
    assert scheduler.values["a"] == 1.0


def test_shares_of_the_horizon_become_epochs():
    scheduler = Scheduler(Plan({("a",): Linear(0.0, 1.0, duration="50%")}), horizon=8)
    values = []
    for _ in range(8):
        values.append(scheduler.values["a"])
        scheduler.step(0.0)
    assert values == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0]


def test_clamped_follows_the_epoch():
    scheduler = Scheduler(Plan({("a",): Exponential(1.0, 0.5)}, {"a": (0.3, 1.0)}), horizon=9)
    seen = []
    for _ in range(4):
        seen.append(scheduler.clamped)
        scheduler.step(0.0)
    assert seen == [(), (), ("a",), ("a",)]


# --- apply ----------------------------------------------------------------------------------------


def optimizer_with_groups(cls, **options):
    encoder, head = torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)
    groups = [
        {"params": encoder.parameters(), "name": "encoder"},
        {"params": head.parameters(), "name": "head"},
    ]
    return cls(groups, **options)


def applied(optimizer, **values):
    plan = Plan({(name.replace("__", "."),): Constant(value) for name, value in values.items()})
    Scheduler(plan, horizon=1).apply(optimizer)
    return optimizer.param_groups


def test_apply_sets_what_the_groups_of_sgd_have():
    encoder, head = applied(
        optimizer_with_groups(torch.optim.SGD, lr=1.0, momentum=0.0),
        lr=0.1,
        momentum=0.9,
        weight_decay=0.01,
        weights__kl=5.0,
    )
    for group in (encoder, head):
        assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.1, 0.9, 0.01)
        assert not {"weights.kl", "kl"} & set(group)


@pytest.mark.parametrize("cls", [torch.optim.Adam, torch.optim.AdamW])
def test_momentum_is_the_first_beta_of_adam(cls):
    for group in applied(optimizer_with_groups(cls, betas=(0.9, 0.95)), lr=0.1, momentum=0.8):
        assert (group["lr"], group["betas"]) == (0.1, (0.8, 0.95))
        assert "momentum" not in group


def test_a_value_of_one_group_goes_before_that_of_all():
    encoder, head = applied(
        optimizer_with_groups(torch.optim.AdamW), encoder__lr=0.001, lr=0.1, head__weight_decay=0.5
    )
    assert (encoder["lr"], head["lr"]) == (0.001, 0.1)
    assert (encoder["weight_decay"], head["weight_decay"]) == (0.01, 0.5)


def test_a_learning_rate_kept_as_a_tensor_stays_that_tensor():
    rate = torch.tensor(1.0)
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    applied(optimizer, lr=0.25)
    assert optimizer.param_groups[0]["lr"] is rate
    assert rate == 0.25


def test_what_is_applied_trains_like_torchs_own_scheduler():
    def train(set_lr):
        parameter = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
        optimizer = torch.optim.SGD([parameter], lr=0.1)
        step = set_lr(optimizer)
        for _ in range(5):
            step()
            optimizer.zero_grad()
            parameter.square().sum().backward()
            optimizer.step()
        return parameter.detach()

    def ours(optimizer):
        scheduler = Scheduler(Plan({("lr",): Exponential(0.1, 0.5)}), horizon=5)

        def step():
            scheduler.apply(optimizer)
            scheduler.step(0.0)

        return step

    def theirs(optimizer):
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5**epoch)
        first = iter([True])

        def step():
            if not next(first, False):
                scheduler.step()

        return step

    assert torch.equal(train(ours), train(theirs))


def test_the_plan_of_a_loaded_config_is_set_in_motion(tmp_path):
    plan = Plan({("lr",): Clamp(ReduceOnPlateau(1.0, 0.5, patience=0), 0.3, 1.0)})
    write_document(
        tmp_path / "best.json",
        config(plan) | {"objective": {"metric": "val_accuracy", "direction": "maximize"}},
    )
    scheduler = Space.load(tmp_path / "best.json").scheduler()
    values = []
    for accuracy in (0.5, 0.6, 0.6, 0.6):
        scheduler.step(accuracy)
        values.append(scheduler.values["lr"])
    assert values == [1.0, 1.0, 0.5, 0.3]


def test_feedback_that_is_nan_moves_nothing():
    plan = Plan({("a",): IncrementOnImprovement(0.0, 1.0), ("b",): ReduceOnPlateau(1.0, 0.5)})
    assert values_of(plan, [Feedback(math.nan)] * 40, 40)[-1] == {"a": 0.0, "b": 1.0}
