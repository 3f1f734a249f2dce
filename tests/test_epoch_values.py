"""The values of a plan within an epoch."""

import copy
import json
import pickle

import pytest
import torch

from schedsearch.epoch_values import EpochValues, NamedValues
from schedsearch.errors import InputError, ParameterError, UnknownNameError
from schedsearch.loss import WeightedLoss
from schedsearch.parameter_groups import apply_values
from schedsearch.plan import Plan
from schedsearch.recorded_values import RecordedValues
from schedsearch.scheduler import Scheduler
from schedsearch.schedules import (
    Constant,
    Cosine,
    Coupled,
    Dwa,
    Exponential,
    Feedback,
    Join,
    Linear,
    ReduceOnPlateau,
    Scale,
    Step,
    Warmup,
)

STEP = {"lr": "step"}


def epoch_of(plan: Plan, epoch: int = 0, horizon: int = 4) -> EpochValues:
    plan = plan.resolve(horizon, 0)
    state = plan.start()
    for _ in range(epoch):
        state = plan.update(state, Feedback(1.0))
    return EpochValues(plan, state)


def test_a_value_by_the_step_is_the_schedule_at_the_real_time() -> None:
    plan = Plan({("lr",): Warmup(Cosine(1.0, 0.0), duration="30%", factor=0.0)}, intervals=STEP)
    by_step = epoch_of(plan, epoch=1).by_step(10)["lr"]
    cosine = Cosine(1.0, 0.0, duration=2.8)
    expected = [(1 + k / 10) / 1.2 if k < 2 else cosine.at(1 + k / 10 - 1.2) for k in range(10)]
    assert by_step == pytest.approx(expected, rel=1e-12)


def test_the_values_of_an_epoch_can_be_read_at_different_numbers_of_steps() -> None:
    values = epoch_of(Plan({("lr",): Linear(1.0, 0.0, duration=1)}, intervals=STEP))
    found = [values.by_step(steps)["lr"] for steps in (2, 4, 2)]
    assert found == [(1.0, 0.5), (1.0, 0.75, 0.5, 0.25), (1.0, 0.5)]


def test_a_value_by_the_epoch_holds_for_the_epoch() -> None:
    values = epoch_of(Plan({("lr",): Linear(1.0, 0.0)}))
    assert values.at(0.5) == dict(values) == values.by_step(10) == {"lr": 1.0}


def test_a_boundary_takes_effect_at_its_step_whatever_the_rounding() -> None:
    for steps in range(2, 60):
        for size in range(1, 2 * steps):
            plan = Plan({("lr",): Step(1.0, 0.5, step_size=size / steps)}, intervals=STEP)
            values = [epoch_of(plan, epoch).by_step(steps)["lr"] for epoch in range(4)]
            found = [v for e in values for v in (e if isinstance(e, tuple) else (e,) * steps)]
            assert found == [0.5 ** (k // size) for k in range(4 * steps)], (steps, size)


def test_a_closed_loop_schedule_that_begins_within_an_epoch_gets_the_feedback_of_this_epoch() -> (
    None
):
    rule = ReduceOnPlateau(1.0, factor=0.5, patience=0)
    plan = Plan({("lr",): Join((Constant(3.0), rule), boundaries=(1.5,))}, intervals=STEP)
    scheduler = Scheduler(plan, horizon=6)
    seen = []
    for _ in range(5):
        seen.append([scheduler.at(fraction)["lr"] for fraction in (0.25, 0.75)])
        scheduler.step(1.0)
    # Its first metric is that of epoch 1, so the first epoch without improvement is epoch 2.
    assert seen == [[3.0, 3.0], [3.0, 1.0], [1.0, 1.0], [0.5, 0.5], [0.25, 0.25]]


def test_coupled_values_follow_the_interval_of_each_hyperparameter() -> None:
    lr, wd = Linear(1.0, 0.0, duration=1), Coupled(Constant(2.0), to="lr")
    schedules = {("lr",): lr, ("wd",): wd}
    both = Plan(schedules, intervals={"lr": "step", "wd": "step"})
    assert epoch_of(both).at(0.5) == {"lr": 0.5, "wd": 1.0}
    assert epoch_of(Plan(schedules, intervals=STEP)).at(0.5) == {"lr": 0.5, "wd": 2.0}
    by_wd = epoch_of(Plan(schedules, intervals={"wd": "step"}))
    assert by_wd.at(0.5) == {"lr": 1.0, "wd": 2.0}
    assert by_wd.moving == ()


def test_bounds_limit_values_within_the_epoch() -> None:
    plan = Plan({("lr",): Linear(1.0, 0.0, duration=1)}, {"lr": (0.6, 1.0)}, STEP)
    assert epoch_of(plan).by_step(4)["lr"] == (1.0, 0.75, 0.6, 0.6)


def test_a_constant_by_the_step_does_not_move() -> None:
    values = epoch_of(Plan({("lr",): Constant(0.1)}, intervals=STEP))
    assert (values.moving, values.within_epoch_key, values.by_step(8)) == ((), b"", {"lr": 0.1})


def test_the_key_tells_which_hyperparameters_move() -> None:
    schedules = {
        ("lr",): Exponential(1.0, 0.5),
        ("wd",): Coupled(Exponential(2.0, 0.5), to="lr"),
    }
    both = epoch_of(Plan(schedules, intervals={"lr": "step", "wd": "step"}))
    one = epoch_of(Plan(schedules, intervals={"wd": "step"}))
    assert dict(both) == dict(one)
    assert both.at(0.5) != one.at(0.5)
    assert both.within_epoch_key != one.within_epoch_key


def test_equal_plans_have_equal_keys_and_other_states_have_others() -> None:
    plan = Plan({("lr",): Cosine(1.0, 0.0)}, intervals=STEP)
    assert (
        epoch_of(plan, 1).within_epoch_key
        == epoch_of(plan, 1).within_epoch_key
        != epoch_of(plan, 2).within_epoch_key
    )


@pytest.mark.parametrize(
    "schedule", [Exponential(1.0, 1e100), Scale(Exponential(1.0, 1e70), factor=1e60)]
)
def test_an_overflow_within_the_last_epoch_is_refused(schedule: Exponential | Scale) -> None:
    Plan({("lr",): schedule}).resolve(4, 0)
    with pytest.raises(ParameterError, match="no value overflows"):
        Plan({("lr",): schedule}, intervals=STEP).resolve(4, 0)


def test_a_fraction_of_an_epoch_needs_the_interval_step() -> None:
    schedule = Linear(1.0, 0.0, duration=2.5)
    with pytest.raises(ParameterError, match=r"`duration` is 2\.5, but must be in whole epochs"):
        Plan({("lr",): schedule}).resolve(4, 0)
    Plan({("lr",): schedule}, intervals=STEP).resolve(4, 0)


def test_intervals_are_checked() -> None:
    with pytest.raises(InputError, match='is \'batch\', but must be "epoch" or "step"'):
        Plan.from_tables({"hyperparameters": {"lr": {"default": 0.1, "interval": "batch"}}})
    members = ("weights.a", "weights.b")
    with pytest.raises(InputError, match="the weights of a group change at epochs"):
        Plan({members: Dwa(members)}, intervals={"weights.a": "step"})


def test_a_plan_keeps_its_intervals_in_a_config_and_without_the_default() -> None:
    plan = Plan({("lr",): Cosine(1.0, 0.0)}, intervals=STEP)
    assert plan.to_tables()["hyperparameters"]["lr"]["interval"] == "step"
    assert Plan.from_tables(plan.to_tables()) == plan != Plan({("lr",): Cosine(1.0, 0.0)})
    assert pickle.loads(pickle.dumps(plan)) == plan
    assert Plan({("lr",): Cosine(1.0, 0.0)}, intervals={"lr": "epoch"}) == Plan(
        {("lr",): Cosine(1.0, 0.0)}
    )


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_a_fraction_must_be_within_the_epoch(fraction: float) -> None:
    scheduler = Scheduler(Plan({("lr",): Cosine(1.0, 0.0)}, intervals=STEP), horizon=2)
    with pytest.raises(InputError, match="must be at least 0 and less than 1"):
        scheduler.at(fraction)


def test_a_bound_that_limits_only_within_the_epoch_is_named() -> None:
    plan = Plan({("lr",): Linear(1.0, 0.0)}, {"lr": (0.3, 1.0)}, STEP)
    clamped = [epoch_of(plan, epoch).clamped for epoch in range(4)]
    # From 1 to 0.75, to 0.5, to 0.25, to 0.
    assert clamped == [(), (), ("lr",), ("lr",)]
    assert epoch_of(Plan(plan.schedules, plan.bounds), 2).clamped == ()


def test_values_in_a_checkpoint_are_plain(tmp_path):
    values = NamedValues(lr=0.1)
    torch.save({"values": values}, tmp_path / "a.pt")
    assert torch.load(tmp_path / "a.pt", weights_only=True) == {"values": {"lr": 0.1}}
    assert type(copy.deepcopy(values)) is dict
    assert json.loads(json.dumps(values)) == values == {"lr": 0.1}


@pytest.mark.parametrize(
    "use",
    [
        dict,
        copy.copy,
        copy.deepcopy,
        json.dumps,
        pickle.dumps,
        lambda values: {**values},
        lambda values: {} | values,
        lambda values: values | {},
        lambda values: (lambda **given: given)(**values),
        lambda values: {}.update(values),
        lambda values: list(values.values()),
        lambda values: [value for _, value in values.items()],
    ],
)
def test_a_copy_of_values_reads_each_of_them(use):
    read = set()
    values = RecordedValues({"lr": 0.1, "smoothing": 0.2}, read)
    assert list(values) == ["lr", "smoothing"]
    assert not read
    use(values)
    assert read == {"lr", "smoothing"}


def test_what_removes_a_value_or_sets_a_missing_one_reads_it():
    read = set()
    values = RecordedValues({"lr": 0.1, "smoothing": 0.2, "decay": 0.3}, read)
    assert values.pop("lr") == 0.1
    assert values.pop("lr", None) is None
    assert read == {"lr"}
    assert values.setdefault("smoothing", 0.0) == 0.2
    assert read == {"lr", "smoothing"}
    assert values.popitem() == ("decay", 0.3)
    assert read == {"lr", "smoothing", "decay"}
    with pytest.raises(KeyError):
        values.pop("lr")


def test_an_optimizer_and_a_loss_read_only_the_values_that_they_take():
    read = set()
    values = RecordedValues({"lr": 0.1, "smoothing": 0.2, "weights.kl": 0.5}, read)
    apply_values(values, torch.optim.SGD([torch.zeros(1)], lr=1.0))
    assert read == {"lr"}
    WeightedLoss(["kl"]).set(values)
    assert read == {"lr", "weights.kl"}


@pytest.mark.parametrize(
    ("name", "known", "rest"),
    [
        (
            "weight.kl",
            ["lr", "weights.kl"],
            "did you mean `weights.kl`? the names are lr, weights.kl",
        ),
        ("x", [], "there are none"),
        (0, ["lr"], "the names are lr"),
    ],
)
def test_an_unknown_name_is_shown_with_the_known_ones(name, known, rest):
    with pytest.raises(UnknownNameError) as raised:
        NamedValues(dict.fromkeys(known, 0.1))[name]
    assert str(raised.value) == f"there is no hyperparameter `{name}`: {rest}"


def test_a_scheduler_names_its_hyperparameters():
    scheduler = Scheduler(Plan({("lr",): Constant(0.1)}), horizon=2)
    for values in (scheduler.values, scheduler.at(0.5)):
        with pytest.raises(UnknownNameError, match="the names are lr"):
            values["learning_rate"]
