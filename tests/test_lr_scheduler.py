"""The learning rate of a config as a scheduler of torch: in loops, SequentialLR and checkpoints."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import LinearLR, LRScheduler, SequentialLR

import schedsearch
from schedsearch.errors import InputError
from schedsearch.files import write_document
from schedsearch.lr_scheduler import PlanLR
from schedsearch.plan import Plan
from schedsearch.scheduler import Scheduler
from schedsearch.schedules import (
    Clamp,
    Constant,
    Cosine,
    Coupled,
    Dwa,
    Exponential,
    IncrementOnImprovement,
    Join,
    Linear,
    Noise,
    PlateauOver,
    ReduceOnPlateau,
    Scale,
    Warmup,
    WarmupStableDecay,
)
from tests.saved_states import check_refused
from tests.schedules.strategies import MEMBERS

HORIZON, STEPS = 4, 3
COSINE = Cosine(initial=0.1, final=0.001)
BY_STEP = {"lr": "step"}


def make_optimizer(*groups, lr=0.5):
    """Return SGD with a parameter in each group; without groups, in one."""
    options = groups or ({},)
    parameters = [{"params": [torch.nn.Parameter(torch.ones(1))], **each} for each in options]
    return torch.optim.SGD(parameters, lr=lr)


def plan_lr(plan, optimizer=None, **options):
    options = {"horizon": HORIZON, "steps_per_epoch": STEPS, **options}
    return PlanLR(optimizer or make_optimizer(), plan, **options)


def train(scheduler, steps=HORIZON * STEPS):
    """Return the learning rates of the groups in each optimizer step."""
    rates = []
    for _ in range(steps):
        rates.append([group["lr"] for group in scheduler.optimizer.param_groups])
        assert scheduler.get_last_lr() == rates[-1]
        scheduler.optimizer.step()
        scheduler.step()
    return rates


def values_by_step(plan, name="lr"):
    """Return the values of a plan at all steps, from the scheduler of a user's loop."""
    scheduler, values = Scheduler(plan, horizon=HORIZON), []
    for _ in range(HORIZON):
        values += [scheduler.at(step / STEPS)[name] for step in range(STEPS)]
        scheduler.step(0.0)
    return values


@pytest.mark.parametrize("intervals", [BY_STEP, {}], ids=["step", "epoch"])
@pytest.mark.parametrize(
    "schedule",
    [
        COSINE,
        Warmup(COSINE, duration=2, factor=0.1),
        Join((Linear(0.0, 1.0, duration="100%"), COSINE), boundaries=("50%",)),
        Clamp(Scale(Exponential(1.0, 0.5), 0.5), 0.1, 0.4),
    ],
    ids=lambda schedule: schedule.family,
)
def test_each_step_has_the_value_of_the_plan(schedule, intervals):
    plan = Plan({("lr",): schedule}, intervals=intervals)
    rates = train(plan_lr(plan))
    assert rates == [[value] for value in values_by_step(plan)]
    assert len({rate for [rate] in rates}) > (HORIZON if intervals else 1)


def test_at_the_interval_epoch_the_value_changes_after_each_epoch_of_steps():
    rates = train(plan_lr(Plan({("lr",): Exponential(1.0, 0.5)})))
    assert rates == [[0.5**epoch] for epoch in range(HORIZON) for _ in range(STEPS)]


def test_a_learning_rate_that_is_coupled_to_an_open_loop_peer_has_the_value_of_the_plan():
    plan = Plan(
        {
            ("lr",): Coupled(factor=Exponential(0.5, 0.5), to="weight_decay"),
            ("weight_decay",): COSINE,
            ("momentum",): IncrementOnImprovement(0.1, 0.1),  # closed loop, but not needed
        },
        {"weight_decay": (0.01, 0.05)},
        {"lr": "step", "weight_decay": "step"},
    )
    optimizer = make_optimizer()
    assert train(plan_lr(plan, optimizer)) == [[value] for value in values_by_step(plan)]
    assert optimizer.param_groups[0]["weight_decay"] == 0  # only the learning rate is set


def test_steps_after_the_horizon_keep_the_last_value():
    plan = Plan({("lr",): Linear(1.0, 0.0, duration="100%")}, intervals=BY_STEP)
    rates = train(plan_lr(plan), HORIZON * STEPS + 5)
    assert rates[-6:] == [[pytest.approx(1 / (HORIZON * STEPS))]] * 6
    assert len({rate for [rate] in rates[-6:]}) == 1


def test_the_group_with_the_largest_rate_has_the_value_and_the_others_keep_their_ratio():
    plan = Plan({("lr",): COSINE}, intervals=BY_STEP)
    optimizer = make_optimizer({"lr": 0.25}, {"lr": 0.5}, {"lr": 0.0}, {"lr": 0.5})
    expected = [[value / 2, value, 0.0, value] for value in values_by_step(plan)]
    assert train(plan_lr(plan, optimizer)) == expected


def test_groups_with_equal_rates_of_zero_have_the_value():
    plan = Plan({("lr",): COSINE}, intervals=BY_STEP)
    expected = [[value, value] for value in values_by_step(plan)]
    assert train(plan_lr(plan, make_optimizer({}, {}, lr=0.0))) == expected


def test_an_entry_for_a_named_group_stands_by_itself():
    plan = Plan({("lr",): COSINE, ("head.lr",): Constant(0.3)}, intervals=BY_STEP)
    optimizer = make_optimizer(
        {"name": "head", "lr": 8.0}, {"name": "body", "lr": 2.0}, {"name": "rest", "lr": 1.0}
    )
    expected = [[0.3, value, value / 2] for value in values_by_step(plan)]
    assert train(plan_lr(plan, optimizer)) == expected


def test_groups_that_the_plan_does_not_set_keep_their_rate():
    plan = Plan({("head.lr",): COSINE}, intervals={"head.lr": "step"})
    optimizer = make_optimizer({"name": "head"}, {"name": "body", "lr": 0.7})
    expected = [[value, 0.7] for value in values_by_step(plan, "head.lr")]
    assert train(plan_lr(plan, optimizer)) == expected


def test_a_learning_rate_that_is_a_tensor_is_changed_in_place():
    rate = torch.tensor(0.5)
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.ones(1))], lr=rate)
    scheduler = plan_lr(Plan({("lr",): Constant(0.25)}), optimizer)
    assert optimizer.param_groups[0]["lr"] is rate
    assert rate == 0.25 == scheduler.get_last_lr()[0]


# --- checkpoints ----------------------------------------------------------------------------------


def test_a_scheduler_continues_identically_from_a_state_that_was_json():
    plan = Plan({("lr",): Warmup(COSINE, duration=2)}, {"lr": (0.0, 0.09)}, BY_STEP)
    whole = train(plan_lr(plan))
    saved = plan_lr(plan)
    train(saved, 5)
    state = json.loads(json.dumps(saved.state_dict()))
    optimizer = make_optimizer()
    restored = plan_lr(plan, optimizer)
    restored.load_state_dict(state)
    optimizer.load_state_dict(saved.optimizer.state_dict())
    assert restored.state_dict() == saved.state_dict()
    assert train(restored, 7) == whole[5:]


def test_a_state_that_was_saved_before_plans_had_versions_still_loads():
    plan = Plan({("lr",): COSINE}, intervals=BY_STEP)
    saved = plan_lr(plan)
    train(saved, 5)
    state = saved.state_dict()
    del state["plan"]["schedule_version"]
    restored = plan_lr(plan)
    restored.load_state_dict(state)
    assert restored.state_dict() == saved.state_dict()


def test_a_state_by_older_rules_loads_if_they_give_the_same_values():
    same, other = Plan({("lr",): COSINE}), Plan({("lr",): WarmupStableDecay(0.0, 1.0, 0.0)})
    for plan in (same, other):
        state = plan_lr(plan.at_version(1), horizon=15).state_dict()
        plan_lr(plan.at_version(1), horizon=15).load_state_dict(state)
        if plan is same:
            plan_lr(plan, horizon=15).load_state_dict(state)
            continue
        with pytest.raises(InputError, match="stable is 11 in the state, but 10 here"):
            plan_lr(plan, horizon=15).load_state_dict(state)


def test_the_state_is_data_that_torch_loads_without_code(tmp_path):
    scheduler = plan_lr(Plan({("lr",): COSINE}, intervals=BY_STEP))
    torch.save(scheduler.state_dict(), tmp_path / "state.pt")
    assert torch.load(tmp_path / "state.pt", weights_only=True) == scheduler.state_dict()


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (
            {"plan": Plan({("lr",): COSINE}, intervals=BY_STEP)},
            "its hyperparameters.lr.families.cosine.duration is 4.0 in the state, but 2.0 here",
        ),
        (
            {"plan": Plan({("lr",): Cosine(0.1, 0.001, duration=2)})},
            "its hyperparameters.lr.interval is missing in the state",
        ),
        ({"horizon": HORIZON + 1}, "its horizon is 5 in the state, but 4 here"),
        ({"steps_per_epoch": STEPS + 1}, "its steps_per_epoch is 4 in the state, but 3 here"),
    ],
)
def test_a_state_of_another_schedule_is_refused(other, difference):
    plan = Plan({("lr",): Cosine(0.1, 0.001, duration=2)}, intervals=BY_STEP)
    state = plan_lr(**{"plan": plan, **other}).state_dict()
    with pytest.raises(InputError) as refused:
        plan_lr(plan).load_state_dict(state)
    assert f"the state belongs to another learning rate schedule: {difference}" in str(
        refused.value
    )


def test_a_state_belongs_to_a_seed_if_the_learning_rate_is_random():
    plan = Plan({("lr",): Noise(COSINE), ("weight_decay",): Constant(0.1)})
    state = plan_lr(plan).state_dict()
    plan_lr(plan).load_state_dict(state)
    with pytest.raises(InputError, match="its seed is 0 in the state, but 1 here"):
        plan_lr(plan, seed=1).load_state_dict(state)
    other = Plan({("lr",): COSINE, ("weight_decay",): Noise(Constant(0.1))})
    plan_lr(other, seed=1).load_state_dict(plan_lr(other).state_dict())


OWN = Plan({("lr",): COSINE}).resolve(HORIZON, 0).to_tables()
HOSTILE = [
    (None, "the state is None, but must be what `state_dict`"),
    ("x", "the state is 'x'"),
    ([1], "the state is [1]"),
    ({}, "the state has no `plan`, `horizon`"),
    (Scheduler(Plan({("lr",): COSINE}), horizon=HORIZON).state_dict(), "the state has no `steps"),
    (LinearLR(make_optimizer()).state_dict(), "the state has no `plan`, `horizon`"),
    ({"last_epoch": -5}, "`last_epoch` of the state is -5, but must be a whole number"),
    ({"last_epoch": "x"}, "`last_epoch` of the state is 'x'"),
    ({"last_epoch": None}, "`last_epoch` of the state is None"),
    ({"last_epoch": math.nan}, "`last_epoch` of the state is nan"),
    ({"_step_count": "x"}, "`_step_count` of the state is 'x'"),
    ({"base_lrs": "x"}, "`base_lrs` of the state is 'x', but must be a list"),
    ({"base_lrs": [math.nan, 0.1]}, "`base_lrs` of the state is [nan, 0.1]"),
    ({"base_lrs": ["0.1", 0.1]}, "`base_lrs` of the state is ['0.1', 0.1]"),
    ({"base_lrs": [-0.1, 0.1]}, "`base_lrs` of the state is [-0.1, 0.1]"),
    ({"base_lrs": [10**400, 0.1]}, "`base_lrs` of the state is"),
    ({"base_lrs": [0.1]}, "`base_lrs` has 1, but the optimizer has 2"),
    ({"_last_lr": [0.1, "x"]}, "`_last_lr` of the state is [0.1, 'x']"),
    ({"plan": None}, "its plan is None"),
    ({"plan": "x"}, "its plan is 'x'"),
    ({"plan": {"schedule_version": [1]}}, "its hyperparameters is missing in the state"),
    *(
        ({"plan": {**OWN, "schedule_version": version}}, "its schedule_version is ")
        for version in (np.zeros(2), torch.zeros(2), True, 1.0)
    ),
    ({"horizon": torch.ones(2)}, "its horizon is tensor([1., 1.]) in the state, but 4 here"),
]


@pytest.mark.parametrize(("changes", "message"), HOSTILE, ids=[str(m) for _, m in HOSTILE])
def test_what_is_not_a_state_is_refused(changes, message):
    optimizer = make_optimizer({}, {"lr": 0.25})
    check_refused(plan_lr(Plan({("lr",): COSINE}), optimizer), changes, message)


def test_other_entries_of_a_state_change_nothing():
    scheduler = plan_lr(Plan({("lr",): COSINE}))
    own = scheduler.state_dict()
    scheduler.load_state_dict({**own, "optimizer": None, "get_lr": "x", "_epochs": []})
    assert scheduler.state_dict() == own
    train(scheduler)


@pytest.mark.parametrize("order", ["optimizer, create, load", "create, load, optimizer", "usual"])
@pytest.mark.parametrize("rate", [0.5, torch.tensor(0.5)], ids=["number", "tensor"])
def test_the_optimizer_may_be_loaded_before_or_after(order, rate):
    plan = Plan({("lr",): COSINE}, intervals=BY_STEP)
    whole = train(plan_lr(plan, make_optimizer({}, {"lr": 0.25})))
    saved = plan_lr(plan, make_optimizer({}, {"lr": 0.25}))
    train(saved, 5)
    state, of_optimizer = saved.state_dict(), saved.optimizer.state_dict()
    optimizer = make_optimizer({"lr": rate}, {"lr": 0.25})
    if order == "optimizer, create, load":
        optimizer.load_state_dict(of_optimizer)
    restored = plan_lr(plan, optimizer)
    if order == "usual":
        optimizer.load_state_dict(of_optimizer)
    restored.load_state_dict(state)
    if order == "create, load, optimizer":
        optimizer.load_state_dict(of_optimizer)
    assert train(restored, 7) == whole[5:]


def test_a_state_that_was_saved_after_a_group_was_added_has_its_rate():
    plan = Plan({("lr",): COSINE}, intervals=BY_STEP)
    saved = plan_lr(plan)
    train(saved, 5)
    saved.optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))], "lr": 0.25})
    state, of_optimizer = saved.state_dict(), saved.optimizer.state_dict()
    restored = plan_lr(plan, make_optimizer({}, {}))
    restored.optimizer.load_state_dict(of_optimizer)
    restored.load_state_dict(state)
    for scheduler in (saved, restored):
        scheduler.optimizer.step()
        scheduler.step()
    assert restored.get_last_lr() == saved.get_last_lr()
    assert len(restored.get_last_lr()) == 2


def test_in_sequential_lr_a_restored_plan_that_waits_leaves_the_rate():
    plan = Plan({("lr",): COSINE}, intervals=BY_STEP)

    def sequence():
        optimizer = make_optimizer()
        first = LinearLR(optimizer, start_factor=0.5, total_iters=3)
        return SequentialLR(optimizer, [first, plan_lr(plan, optimizer)], milestones=[3])

    whole, saved, restored = train(sequence(), 8), sequence(), sequence()
    train(saved, 2)
    restored.optimizer.load_state_dict(saved.optimizer.state_dict())
    restored.load_state_dict(saved.state_dict())
    assert train(restored, 6) == whole[2:]


# --- in SequentialLR ------------------------------------------------------------------------------


def test_in_sequential_lr_the_plan_begins_at_its_milestone():
    plan = Plan({("lr",): COSINE}, intervals=BY_STEP)
    optimizer = make_optimizer()
    first = LinearLR(optimizer, start_factor=0.5, total_iters=2)
    sequence = SequentialLR(optimizer, [first, plan_lr(plan, optimizer)], milestones=[2])
    rates = train(sequence, 2 + HORIZON * STEPS)
    assert rates[:2] == [[0.25], [0.375]]
    assert rates[2:] == [[value] for value in values_by_step(plan)]


def test_in_sequential_lr_the_plan_can_come_first():
    plan = Plan({("lr",): COSINE}, intervals=BY_STEP)
    optimizer = make_optimizer()
    then = LinearLR(optimizer, start_factor=0.5, total_iters=2)
    sequence = SequentialLR(optimizer, [plan_lr(plan, optimizer), then], milestones=[5])
    assert train(sequence, 7) == [[v] for v in [*values_by_step(plan)[:5], 0.25, 0.375]]


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (
            Plan({("lr",): ReduceOnPlateau(0.1, 0.5)}),
            "cannot set `lr`: it has the closed-loop schedule `reduce_on_plateau`, which needs the "
            "validation metric",
        ),
        (
            Plan({("lr",): Warmup(ReduceOnPlateau(0.1, 0.5), duration=2)}),
            "cannot set `lr`: it has the closed-loop schedule `warmup`",
        ),
        (
            Plan({("lr",): PlateauOver(inner=COSINE, factor=0.5)}),
            "cannot set `lr`: it has the closed-loop schedule `plateau_over`",
        ),
        (
            Plan(
                {
                    ("lr",): Coupled(Constant(2.0), to="momentum"),
                    ("momentum",): Coupled(Constant(0.1), to=MEMBERS[0]),
                    MEMBERS: Dwa(members=MEMBERS),
                }
            ),
            f"cannot set `lr`: it is coupled to `{', '.join(MEMBERS)}`, which has the closed-loop "
            "schedule `dwa`",
        ),
    ],
)
def test_a_learning_rate_that_depends_on_results_of_epochs_is_refused(plan, message):
    with pytest.raises(InputError) as refused:
        plan_lr(plan)
    assert message in str(refused.value)
    assert "use `scheduler()`, and call its `step`" in str(refused.value)


@pytest.mark.parametrize("names", [["weights.kl", "momentum"], ["head.lr"], []])
def test_a_plan_without_a_learning_rate_of_the_optimizer_is_refused(names):
    plan = Plan({(name,): Constant(0.1) for name in names})
    with pytest.raises(InputError, match="the plan has no learning rate") as refused:
        plan_lr(plan, make_optimizer({"name": "body"}))
    assert f"it sets {', '.join(names) or 'nothing'}" in str(refused.value)


@pytest.mark.parametrize("steps", [0, -3, 2.5, math.inf, math.nan, "3", None, True])
def test_steps_per_epoch_that_is_not_a_positive_whole_number_is_refused(steps):
    with pytest.raises(InputError, match=r"steps_per_epoch is .*, but must be a whole number"):
        plan_lr(Plan({("lr",): COSINE}), steps_per_epoch=steps)


# --- of a config ----------------------------------------------------------------------------------


def config(folder, plan, **content):
    write_document(
        folder / "best.json",
        {
            "name": "plan",
            "task": "module:Task",
            "horizon": HORIZON,
            "objective": {"metric": "val_loss"},
            **plan.to_tables(),
            **content,
        },
    )
    return schedsearch.load(folder / "best.json")


def test_a_loaded_config_gives_a_torch_scheduler_with_its_values(tmp_path):
    plan = Plan({("lr",): Warmup(Cosine(0.1, 0.0, "100%"), "25%")})
    scheduler = config(tmp_path, plan).lr_scheduler(make_optimizer(), steps_per_epoch=STEPS)
    assert isinstance(scheduler, LRScheduler)
    assert train(scheduler) == [[value] for value in values_by_step(plan)]


def test_a_space_with_choices_gives_no_torch_scheduler(tmp_path):
    families = {"constant": {"value": {"low": 0.1, "high": 0.5}}}
    space = config(tmp_path, Plan({}), hyperparameters={"lr": {"families": families}})
    with pytest.raises(InputError, match="is a space, not a config"):
        space.lr_scheduler(make_optimizer(), steps_per_epoch=STEPS)


def test_only_the_call_loads_torch(tmp_path):
    config(tmp_path, Plan({("lr",): COSINE}))
    code = (
        "import sys, schedsearch\n"
        f"schedsearch.load({str(tmp_path / 'best.json')!r}).scheduler()\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
