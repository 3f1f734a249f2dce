"""Parameter groups keep their ratios: one rule for Scheduler.apply, PlanLR and the callbacks."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim.lr_scheduler import LambdaLR, LinearLR

from schedsearch.errors import InputError
from schedsearch.integrations.driver import ScheduleDriver
from schedsearch.lr_scheduler import PlanLR
from schedsearch.parameter_groups import apply_values, check_optimizers
from schedsearch.plan import Plan
from schedsearch.scheduler import Scheduler
from schedsearch.schedules import Constant, Join, Linear

HORIZON, STEPS = 3, 4
ALL_STEPS = HORIZON * STEPS
#: `lr` is 0 in the middle and grows again: shares must not depend on present values.
CYCLE = Plan(
    {
        ("lr",): Join((Linear(0.3, 0.0), Linear(0.0, 0.5)), boundaries=("50%",)),
        ("head.lr",): Linear(0.0, 1.0),
    },
    intervals={"lr": "step", "head.lr": "step"},
)


def group(**entries):
    return {"params": [torch.nn.Parameter(torch.ones(1))], **entries}


def make_optimizer(rates, cls=torch.optim.SGD, **options):
    return cls([group(lr=rate) for rate in rates], **{"lr": 1.0, **options})


class Applied:
    """A loop with `Scheduler.apply` before each step."""

    def __init__(self, plan, optimizer):
        self.scheduler, self.optimizer = Scheduler(plan, horizon=HORIZON), optimizer
        self.step = 0

    def set(self):
        self.scheduler.apply(self.optimizer, self.step / STEPS)

    def advance(self):
        self.step = (self.step + 1) % STEPS
        if self.step == 0:
            self.scheduler.step(1.0)

    def state_dict(self):
        return {"step": self.step, "scheduler": self.scheduler.state_dict()}

    def load_state_dict(self, state):
        self.step = state["step"]
        self.scheduler.load_state_dict(state["scheduler"])


class Stepped:
    """A loop that steps a PlanLR."""

    def __init__(self, plan, optimizer):
        self.scheduler = PlanLR(optimizer, plan, horizon=HORIZON, steps_per_epoch=STEPS)
        self.optimizer = optimizer
        self.state_dict = self.scheduler.state_dict
        self.load_state_dict = self.scheduler.load_state_dict

    def set(self):
        """Do nothing: the scheduler has set the rate, when it was made or stepped."""

    def advance(self):
        self.optimizer.step()
        self.scheduler.step()


class Driven:
    """A framework's loop with the driver of the callbacks."""

    def __init__(self, plan, optimizer):
        self.driver = ScheduleDriver(Scheduler(plan, horizon=HORIZON), "val_loss")
        self.model, self.optimizer = torch.nn.Linear(1, 1), optimizer
        self.step = 0

    def set(self):
        if self.step == 0:
            self.driver.apply(self.model, [self.optimizer])
        self.driver.apply_step(self.model, [self.optimizer], self.step, STEPS)

    def advance(self):
        self.step = (self.step + 1) % STEPS
        if self.step == 0:
            self.driver.end_epoch({"val_loss": 1.0})

    def state_dict(self):
        return {"step": self.step, "driver": self.driver.state_dict()}

    def load_state_dict(self, state):
        self.step = state["step"]
        self.driver.load_state_dict(state["driver"])


EACH = pytest.mark.parametrize("loop", [Applied, Stepped, Driven])


def rates_now(optimizer):
    return [float(each["lr"]) for each in optimizer.param_groups]


def train(running, steps=ALL_STEPS):
    """Return the learning rates of the groups in each of some steps."""
    rates = []
    for _ in range(steps):
        running.set()
        rates.append(rates_now(running.optimizer))
        running.advance()
    return rates


def lambda_lr_rates(shares, plan=CYCLE, name="lr"):
    """Return the rates of torch's LambdaLR for the values of a plan, each times the base rates."""
    scheduler, values = Scheduler(plan, horizon=HORIZON), []
    for _ in range(HORIZON):
        values += [scheduler.at(step / STEPS)[name] for step in range(STEPS)]
        scheduler.step(1.0)
    optimizer = make_optimizer(shares)
    theirs = LambdaLR(optimizer, lambda step: values[min(step, ALL_STEPS - 1)])
    rates = []
    for _ in range(ALL_STEPS):
        rates.append(rates_now(optimizer))
        optimizer.step()
        theirs.step()
    return rates


# --- the contract ---------------------------------------------------------------------------------


@EACH
@settings(max_examples=30)
@given(rates=st.lists(st.floats(0, 10) | st.sampled_from([0.0, 1e-3]), min_size=1, max_size=5))
def test_each_group_has_the_rate_of_torchs_lambda_lr_for_its_share(loop, rates):
    largest = max(rates)
    shares = [rate / largest for rate in rates] if largest else [1.0] * len(rates)
    assert train(loop(CYCLE, make_optimizer(rates))) == lambda_lr_rates(shares)


@EACH
@settings(max_examples=30)
@given(rates=st.lists(st.floats(1e-3, 10), min_size=1, max_size=4), stop=st.integers(0, ALL_STEPS))
def test_a_resumed_training_has_the_rates_of_an_undisturbed_one(loop, rates, stop):
    whole = train(loop(CYCLE, make_optimizer(rates)))
    first = loop(CYCLE, make_optimizer(rates))
    assert train(first, stop) == whole[:stop]
    saved = copy.deepcopy((first.state_dict(), first.optimizer.state_dict()))
    optimizer = make_optimizer(rates)
    resumed = loop(CYCLE, optimizer)
    resumed.load_state_dict(saved[0])
    optimizer.load_state_dict(saved[1])
    assert train(resumed, ALL_STEPS - stop) == whole[stop:]


@EACH
def test_the_checkpoint_of_the_optimizer_is_loaded_without_code(loop, tmp_path):
    running = loop(CYCLE, make_optimizer([0.1, 0.2]))
    train(running, 2)
    running.optimizer.add_param_group(group(lr=0.05))
    train(running, 1)
    torch.save(running.optimizer.state_dict(), tmp_path / "state.pt")
    loaded = torch.load(tmp_path / "state.pt", weights_only=True)
    assert loaded["param_groups"] == running.optimizer.state_dict()["param_groups"]


@EACH
@pytest.mark.parametrize("when", [1, STEPS - 1, STEPS + 1])
@pytest.mark.parametrize("ratio", [0.0, 0.1, 1.0, 4.0])
def test_a_group_that_is_added_keeps_its_ratio_and_leaves_the_others_theirs(loop, when, ratio):
    optimizer = make_optimizer([0.1, 0.2], lr=3.0)
    running = loop(CYCLE, optimizer)
    rates = train(running, when)
    # As Lightning's BaseFinetuning does, which takes a tenth of the present rate.
    optimizer.add_param_group(group(lr=ratio * optimizer.param_groups[1]["lr"]))
    rates += train(running, ALL_STEPS - when)
    expected = lambda_lr_rates([0.5, 1.0])
    assert [each[:2] for each in rates] == expected
    for step in range(when, ALL_STEPS):
        assert rates[step][2] == pytest.approx(ratio * rates[step][1], rel=1e-12)


@EACH
@pytest.mark.parametrize("when", [1, STEPS, STEPS + 2])
def test_a_group_that_is_added_with_the_default_follows_like_one_from_the_beginning(loop, when):
    optimizer = torch.optim.SGD([group(lr=0.1), group(lr=0.4)], lr=0.2)
    running = loop(CYCLE, optimizer)
    train(running, when)
    optimizer.add_param_group(group())
    rates = train(running, ALL_STEPS - when)
    expected = lambda_lr_rates([0.25, 1.0, 0.5])[when:]
    # As with every torch scheduler, the next `step` sets the new group.
    skipped = 1 if loop is Stepped else 0
    assert rates[skipped:] == expected[skipped:]


@EACH
def test_an_added_group_keeps_its_share_in_a_resumed_training(loop):
    def begin():
        optimizer = make_optimizer([0.1, 0.2])
        running = loop(CYCLE, optimizer)
        train(running, 2)
        optimizer.add_param_group(group(lr=0.4))
        return running

    whole = begin()
    train(whole, 3)
    optimizer = make_optimizer([0.1, 0.2])
    resumed = loop(CYCLE, optimizer)
    optimizer.add_param_group(group(lr=0.4))
    resumed.load_state_dict(copy.deepcopy(whole.state_dict()))
    optimizer.load_state_dict(whole.optimizer.state_dict())
    rates = train(whole, 5)
    assert train(resumed, 5) == rates
    ratios = [last / second for _, second, last in rates if second]
    assert ratios == [pytest.approx(ratios[0], rel=1e-12)] * len(ratios)


@EACH
def test_a_group_that_the_plan_names_stands_by_itself(loop):
    optimizer = torch.optim.SGD(
        [group(lr=8.0, name="head"), group(lr=0.2, name="body"), group(lr=0.1)], lr=1.0
    )
    body = lambda_lr_rates([1.0, 0.5])
    head = lambda_lr_rates([1.0], name="head.lr")
    expected = [[*one, *rest] for one, rest in zip(head, body, strict=True)]
    assert train(loop(CYCLE, optimizer)) == expected


@EACH
def test_a_copy_of_an_optimizer_keeps_the_ratios(loop):
    optimizer = make_optimizer([0.1, 0.2])
    train(loop(CYCLE, optimizer), 6)
    assert train(loop(CYCLE, copy.deepcopy(optimizer))) == lambda_lr_rates([0.5, 1.0])


@EACH
@pytest.mark.parametrize("before", [Applied, Stepped, Driven])
def test_a_second_plan_on_one_optimizer_keeps_the_ratios_of_the_beginning(loop, before):
    optimizer = torch.optim.SGD([group(lr=0.4, name="head"), group(lr=0.2), group(lr=0.1)], lr=1.0)
    train(before(CYCLE, optimizer), STEPS - 1)
    plan = Plan({("lr",): Linear(1.0, 0.0)}, intervals={"lr": "step"})
    # This plan does not name the head, which therefore counts for the largest.
    assert train(loop(plan, optimizer)) == lambda_lr_rates([1.0, 0.5, 0.25], plan)


@EACH
def test_the_initial_rates_of_a_torch_scheduler_count_and_not_the_rates_of_its_warm_up(loop):
    optimizer = make_optimizer([0.1, 0.2])
    LinearLR(optimizer, start_factor=0.1)
    optimizer.param_groups[0]["lr"] = 7.0
    assert train(loop(CYCLE, optimizer)) == lambda_lr_rates([0.5, 1.0])


@EACH
def test_rates_that_are_tensors_are_changed_in_place(loop):
    tensors = [torch.tensor(rate, dtype=torch.float64) for rate in (0.1, 0.2)]
    optimizer = make_optimizer(tensors, torch.optim.Adam, fused=True)
    assert train(loop(CYCLE, optimizer)) == lambda_lr_rates([0.5, 1.0])
    assert [each["lr"] for each in optimizer.param_groups] == tensors
    assert all(e["lr"] is t for e, t in zip(optimizer.param_groups, tensors, strict=True))


@EACH
def test_groups_that_share_a_tensor_have_different_rates(loop):
    shared = torch.tensor(1.0, dtype=torch.float64)
    optimizer = torch.optim.Adam([group(), group(name="head")], lr=shared, fused=True)
    both = train(loop(CYCLE, optimizer))
    apart = make_optimizer([1.0, 1.0])
    apart.param_groups[1]["name"] = "head"
    assert both == train(loop(CYCLE, apart))
    assert any(lr != head for lr, head in both)


@EACH
@pytest.mark.parametrize("wrong", [-0.1, math.nan, math.inf])
def test_a_rate_that_has_no_ratio_is_refused_before_anything_is_set(loop, wrong):
    optimizer = make_optimizer([0.1, 0.2])
    optimizer.param_groups[1]["lr"] = wrong
    with pytest.raises(InputError, match=r"`lr` of a parameter group begins with .* but must be"):
        train(loop(CYCLE, optimizer), 1)
    assert optimizer.param_groups[0]["lr"] == 0.1


# --- keys other than the learning rate, in loops and frameworks -----------------------------------


def applied(optimizer, **values):
    plan = Plan({(name.replace("__", "."),): Constant(value) for name, value in values.items()})
    Scheduler(plan, horizon=1).apply(optimizer)
    return optimizer.param_groups


def test_weight_decay_stays_0_in_a_group_without_it():
    optimizer = torch.optim.AdamW([group(), group(weight_decay=0.0)], lr=0.1, weight_decay=0.01)
    for value in (0.3, 0.0, 0.2):
        decays = [each["weight_decay"] for each in applied(optimizer, weight_decay=value)]
        assert decays == [value, 0.0]


def test_layer_wise_rates_stay_layer_wise():
    optimizer = make_optimizer([0.1 * 0.5**layer for layer in range(6)])
    rates = [each["lr"] for each in applied(optimizer, lr=1.0)]
    assert rates == [0.5**layer for layer in range(6)]


def test_the_first_betas_of_adam_keep_their_ratio():
    optimizer = torch.optim.Adam([group(betas=(0.8, 0.9)), group(betas=(0.4, 0.99))])
    betas = [each["betas"] for each in applied(optimizer, momentum=0.6)]
    assert betas == [(0.6, 0.9), (0.3, 0.99)]


def test_a_first_beta_that_is_a_tensor_is_changed_in_place():
    first, second = torch.tensor(0.5), torch.tensor(0.9)
    optimizer = torch.optim.Adam([group()], betas=(first, second), lr=torch.tensor(0.1))
    applied(optimizer, momentum=0.25)
    assert optimizer.param_groups[0]["betas"][0] is first
    assert first == 0.25


def test_a_number_that_the_optimizer_chooses_itself_is_set_and_does_not_count():
    optimizer = torch.optim.SGD([group(lr=0.2), group(lr=0.1), group()], lr=1.0)
    optimizer.param_groups[2]["lr"] = None  # as in Adafactor of transformers
    for value in (1.0, 0.5):
        assert [each["lr"] for each in applied(optimizer, lr=value)] == [value, value / 2, value]


def test_an_entry_that_is_not_a_number_is_refused():
    with pytest.raises(
        InputError, match=r"`params` of a parameter group is a list, .* only numbers"
    ):
        applied(make_optimizer([0.1]), lr=0.5, params=0.5)


def test_a_plan_that_names_all_groups_of_the_beginning_sets_one_that_is_added():
    optimizer = torch.optim.SGD([group(lr=0.4, name="head")], lr=1.0)
    applied(optimizer, lr=0.5, head__lr=0.1)
    optimizer.add_param_group(group(lr=0.2))
    optimizer.add_param_group(group(lr=0.1))
    assert [each["lr"] for each in applied(optimizer, lr=0.5, head__lr=0.1)] == [0.1, 0.5, 0.25]


# --- several optimizers ---------------------------------------------------------------------------


def drive(plan, *optimizers):
    driver = ScheduleDriver(Scheduler(plan, horizon=HORIZON), "val_loss")
    driver.apply(torch.nn.Linear(1, 1), optimizers)


def test_several_optimizers_with_one_rate_have_the_value():
    optimizers = make_optimizer([0.2, 0.1]), make_optimizer([0.2], torch.optim.AdamW)
    for _ in range(2):  # also after a resume, when the present values differ from the initial ones
        drive(Plan({("lr",): Constant(0.5)}), *optimizers)
        assert [rates_now(each) for each in optimizers] == [[0.5, 0.25], [0.5]]


def test_several_optimizers_with_different_rates_are_refused_before_anything_is_set():
    optimizers = make_optimizer([3e-3], torch.optim.AdamW), make_optimizer([0.1])
    with pytest.raises(InputError) as refused:
        drive(Plan({("lr",): Constant(0.5)}), *optimizers)
    assert str(refused.value) == (
        "the plan sets one value of `lr` in several optimizers, but they begin with different "
        "ones: 0.003 (AdamW), 0.1 (SGD); give the parameter groups names, as in "
        '{"params": ..., "name": "generator"}, and schedule `generator.lr` and so on, or begin '
        "with one value in all optimizers"
    )
    assert [rates_now(each) for each in optimizers] == [[3e-3], [0.1]]


def test_several_optimizers_whose_groups_the_plan_names_have_their_values():
    optimizers = [torch.optim.SGD([group(name=n)], lr=r) for n, r in (("g", 1e-4), ("d", 4e-4))]
    drive(Plan({("g.lr",): Constant(0.1), ("d.lr",): Constant(0.2)}), *optimizers)
    assert [rates_now(each) for each in optimizers] == [[0.1], [0.2]]


def test_a_key_that_one_optimizer_has_and_one_that_does_not_move_may_differ():
    optimizers = make_optimizer([0.1], momentum=0.9), make_optimizer([0.2], torch.optim.Adagrad)
    check_optimizers(["momentum", "weights.l1"], optimizers)
    with pytest.raises(InputError, match="one value of `lr`"):
        check_optimizers(["momentum", "lr"], optimizers)


def test_the_check_of_several_optimizers_records_nothing():
    optimizers = make_optimizer([0.1]), make_optimizer([0.1])
    check_optimizers(["lr"], optimizers)
    assert not any("initial_lr" in each.param_groups[0] for each in optimizers)


def test_apply_values_sets_the_values_of_a_run_in_a_loop():
    optimizer = make_optimizer([0.1, 0.2])
    apply_values({"lr": 0.5, "weights.l1": 3.0}, optimizer)
    assert rates_now(optimizer) == [0.25, 0.5]


class TimmCosine:
    """The rule of timm's schedulers: the scheduled value of each group, times its lr_scale."""

    def __init__(self, optimizer):
        self.optimizer = optimizer
        self.base = [group["lr"] for group in optimizer.param_groups]

    def set(self, factor):
        for base, group in zip(self.base, self.optimizer.param_groups, strict=True):
            group["lr"] = base * factor * group.get("lr_scale", 1.0)


@pytest.mark.parametrize("applied", ["apply", "scheduler"])
@pytest.mark.parametrize("rates", [[0.2, 0.2, 0.2, 0.2], [0.2, 0.1, 0.2, 0.2]])
def test_groups_with_lr_scale_have_the_learning_rates_of_timm(rates, applied):
    scales = [{"lr_scale": 0.25}, {"lr_scale": 0.5}, {"lr_scale": 1.0}, {}]

    def make():
        groups = [group(lr=rate, **scale) for rate, scale in zip(rates, scales, strict=True)]
        return torch.optim.SGD(groups, lr=1.0)

    plan, theirs, ours = Plan({("lr",): Linear(0.2, 0.0)}), make(), make()
    timm, scheduler = TimmCosine(theirs), Scheduler(plan, horizon=HORIZON)
    torch_scheduler = PlanLR(ours, plan, horizon=HORIZON, steps_per_epoch=1)
    for _ in range(HORIZON):
        timm.set(scheduler.values["lr"] / 0.2)
        if applied == "apply":
            scheduler.apply(ours)
        found = [g["lr"] for g in ours.param_groups]
        assert found == pytest.approx([g["lr"] for g in theirs.param_groups], rel=1e-12)
        scheduler.step(1.0)
        if applied == "scheduler":
            ours.step()
            torch_scheduler.step()


def test_rates_that_have_the_ratios_of_lr_scale_already_are_not_scaled_twice():
    optimizer = torch.optim.SGD([group(lr=0.2 * s, lr_scale=s) for s in (0.25, 0.5, 1.0)], lr=1.0)
    apply_values({"lr": 0.4}, optimizer)
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([0.1, 0.2, 0.4])


def test_a_named_group_and_other_keys_have_no_lr_scale():
    groups = [group(name="head", lr_scale=0.5), group(lr_scale=0.25)]
    optimizer = torch.optim.SGD(groups, lr=0.1, weight_decay=0.1)
    apply_values({"lr": 0.4, "head.lr": 0.8, "weight_decay": 0.2}, optimizer)
    assert [(g["lr"], g["weight_decay"]) for g in optimizer.param_groups] == [
        (0.8, 0.2),
        (0.1, 0.2),
    ]


def test_a_group_that_is_added_beside_groups_with_lr_scale_follows_the_plan():
    optimizer = torch.optim.SGD([group(lr_scale=0.5)], lr=0.1)
    apply_values({"lr": 0.1}, optimizer)
    apply_values({"lr": 0.05}, optimizer)
    optimizer.add_param_group(group())
    optimizer.add_param_group(group(lr=0.005))  # a tenth of the plan's value
    apply_values({"lr": 0.02}, optimizer)
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([0.01, 0.02, 0.002])
