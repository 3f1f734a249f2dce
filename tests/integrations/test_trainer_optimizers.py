"""Only the plan moves the values that it sets in the optimizer of the Trainer."""

from __future__ import annotations

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR, SequentialLR, StepLR
from transformers import Trainer, TrainerCallback, get_constant_schedule
from transformers.optimization import Adafactor, AdafactorSchedule
from transformers.trainer_pt_utils import LayerWiseDummyOptimizer
from transformers.trainer_utils import SchedulerType

from schedsearch.errors import InputError
from schedsearch.integrations.transformers import ScheduleCallback
from schedsearch.plan import Plan
from schedsearch.schedules import Constant, Linear
from tests.integrations.trainers import (
    BATCHES,
    HORIZON,
    LR,
    PLAN_BY_STEP,
    Network,
    by_interval,
    make_trainer,
    rates,
)

DECAY = Plan({("weight_decay",): Linear(initial=0.8, final=0.0, duration=HORIZON)})
MOMENTUM = Plan({("momentum",): Linear(initial=0.8, final=0.0, duration=HORIZON)})

# --- schedulers -----------------------------------------------------------------------------------

#: The options that a scheduler of the Trainer needs.
OPTIONS = {
    "cosine_with_min_lr": {"min_lr": 0.1},
    "cosine_warmup_with_min_lr": {"min_lr": 0.1},
    "warmup_stable_decay": {"num_decay_steps": 3},
}


@pytest.mark.parametrize("kind", [kind.value for kind in SchedulerType if kind != "constant"])
def test_every_other_scheduler_of_the_trainer_is_refused(tmp_path, kind):
    trainer, recorder, _ = make_trainer(
        tmp_path,
        lr_scheduler_type=kind,
        lr_scheduler_kwargs=OPTIONS.get(kind),
        warmup_steps=2,
    )
    with pytest.raises(InputError, match="set lr_scheduler_type='constant'"):
        trainer.train()
    assert not recorder.steps


SCHEDULERS = {
    "StepLR": lambda o: StepLR(o, 3),
    "OneCycleLR": lambda o: OneCycleLR(o, 1.0, total_steps=99),
    "LambdaLR": lambda o: LambdaLR(o, lambda step: 0.9**step),
    "SequentialLR": lambda o: SequentialLR(o, [StepLR(o, 3), StepLR(o, 3)], [2]),
}


@pytest.mark.parametrize("case", SCHEDULERS)
def test_a_scheduler_of_the_user_is_refused(tmp_path, case):
    model = Network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    given = {"model": model, "optimizers": (optimizer, SCHEDULERS[case](optimizer))}
    trainer, recorder, _ = make_trainer(tmp_path, given=given)
    with pytest.raises(InputError, match=rf"{case}.*pass None as the scheduler"):
        trainer.train()
    assert not recorder.steps


class OwnScheduler(Trainer):
    def create_scheduler(self, num_training_steps, optimizer=None):
        if self.lr_scheduler is None:
            self.lr_scheduler = StepLR(optimizer or self.optimizer, 3)
        return self.lr_scheduler


def test_a_scheduler_of_a_subclass_is_refused(tmp_path):
    trainer, recorder, _ = make_trainer(tmp_path, trainer_class=OwnScheduler)
    with pytest.raises(InputError, match="so does the StepLR"):
        trainer.train()
    assert not recorder.steps


def test_a_constant_scheduler_of_the_user_leaves_the_learning_rate_to_the_plan(tmp_path):
    model = Network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    given = {"model": model, "optimizers": (optimizer, get_constant_schedule(optimizer))}
    trainer, recorder, _ = make_trainer(tmp_path, PLAN_BY_STEP, given=given)
    trainer.train()
    assert recorder.values == by_interval([BATCHES] * 4, PLAN_BY_STEP)


@pytest.mark.parametrize("kind", ["linear", "reduce_lr_on_plateau", "greedy"])
def test_a_scheduler_of_the_trainer_is_kept_if_the_plan_has_no_learning_rate(tmp_path, kind):
    patience = {} if kind == "linear" else {"patience": 0, "factor": 0.5, "threshold": 9.0}
    options = {"lr_scheduler_type": kind, "lr_scheduler_kwargs": patience, "learning_rate": 0.01}
    alone, expected, _ = make_trainer(tmp_path, **options)
    alone.remove_callback(ScheduleCallback)
    alone.train()
    plan = Plan({("smoothing",): LR})
    trainer, recorder, _ = make_trainer(tmp_path, plan, on_values=dict, **options)
    trainer.train()
    assert recorder.values == expected.values
    assert len(set(recorder.values)) > 1


class Rewriting(TrainerCallback):
    """Rewrites a value of the optimizer at an event, from optimizer step 3 on."""

    def __init__(self, event, key="lr"):
        self.key = key
        setattr(self, event, self.rewrite)

    def rewrite(self, args, state, control, optimizer, **given):
        if state.global_step >= 3:
            optimizer.param_groups[0][self.key] = 0.123


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("event", ["on_pre_optimizer_step", "on_optimizer_step"])
@pytest.mark.parametrize("plan", [Plan({("lr",): LR}), PLAN_BY_STEP], ids=["epoch", "step"])
def test_what_a_callback_rewrites_at_a_step_is_an_error_if_that_step_has_it(
    tmp_path, event, place, plan
):
    callbacks = {place: (Rewriting(event),)}
    trainer, recorder, _ = make_trainer(tmp_path, plan, **callbacks)
    if event == "on_optimizer_step":  # the Trainer's scheduler, or the plan, sets it again
        trainer.train()
        assert recorder.values == by_interval([BATCHES] * 4, plan)
    else:
        with pytest.raises(InputError, match=r"has set `lr` to 0\.\d+, but at .* it is 0\.123:"):
            trainer.train()
        assert trainer.state.global_step == 3


@pytest.mark.parametrize("event", ["on_step_begin", "on_step_end", "on_substep_end"])
@pytest.mark.parametrize("plan", [Plan({("lr",): LR}), PLAN_BY_STEP], ids=["epoch", "step"])
def test_a_callback_that_rewrites_a_value_is_an_error_before_the_step(tmp_path, event, plan):
    trainer, recorder, _ = make_trainer(
        tmp_path,
        plan,
        after=(Rewriting(event),),
        gradient_accumulation_steps=2,
    )
    overwritten = event == "on_step_end"  # the Trainer's scheduler, or the plan, sets it again
    if overwritten and plan is PLAN_BY_STEP:
        trainer.train()
        assert recorder.values == by_interval([4] * 4, PLAN_BY_STEP)
    else:
        with pytest.raises(InputError, match=r"has set `lr` to 0\.\d+, but at .* it is 0\.123:"):
            trainer.train()
        assert 0.123 not in recorder.values


def test_a_scheduler_that_cycles_the_momentum_of_the_plan_is_an_error_before_the_step(tmp_path):
    model = Network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    given = {
        "model": model,
        "optimizers": (optimizer, OneCycleLR(optimizer, 1.0, total_steps=99)),
    }
    trainer, recorder, _ = make_trainer(tmp_path, MOMENTUM, given=given, key="momentum")
    with pytest.raises(InputError, match=r"the plan has set `momentum` to 0\.8, but"):
        trainer.train()
    assert recorder.values == [0.8]


# --- optimizers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "optim",
    ["adamw_torch", "adamw_torch_fused", "adafactor", "sgd", "adagrad", "rmsprop"],
)
def test_the_optimizers_of_the_trainer_have_the_learning_rate_of_the_plan(tmp_path, optim):
    trainer, recorder, _ = make_trainer(tmp_path, PLAN_BY_STEP, optim=optim)
    trainer.train()
    assert recorder.values == by_interval([BATCHES] * 4, PLAN_BY_STEP)


def test_an_optimizer_by_its_class(tmp_path):
    given = {"optimizer_cls_and_kwargs": (torch.optim.NAdam, {"lr": 0.3})}
    trainer, recorder, _ = make_trainer(tmp_path, given=given)
    trainer.train()
    assert recorder.values == rates()


def test_a_model_that_the_trainer_makes(tmp_path):
    trainer, recorder, _ = make_trainer(tmp_path, given={"model_init": Network})
    trainer.train()
    assert recorder.values == rates()


def test_a_compiled_model(tmp_path):
    trainer, recorder, _ = make_trainer(tmp_path, PLAN_BY_STEP, torch_compile_backend="eager")
    trainer.train()
    assert recorder.values == by_interval([BATCHES] * 4, PLAN_BY_STEP)


@pytest.mark.long
def test_a_model_that_is_compiled_in_a_mode(tmp_path):
    trainer, recorder, _ = make_trainer(tmp_path, PLAN_BY_STEP, torch_compile_mode="default")
    trainer.train()
    assert type(trainer.model_wrapped).__name__ == "OptimizedModule"
    assert recorder.values == by_interval([BATCHES] * 4, PLAN_BY_STEP)


def test_a_momentum_of_the_plan_replaces_the_first_beta_alone(tmp_path):
    options = {"adam_beta1": 0.5, "adam_beta2": 0.75, "adam_epsilon": 0.125}
    seen = []

    class Looking(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, optimizer, **given):
            seen.extend((*group["betas"], group["eps"]) for group in optimizer.param_groups)

    trainer, _, _ = make_trainer(
        tmp_path, MOMENTUM, optim="adamw_torch", key="eps", after=(Looking(),), **options
    )
    trainer.train()
    assert seen == [(value, 0.75, 0.125) for value in rates() for _ in range(2)]


@pytest.mark.parametrize("plan", [Plan({("lr",): LR}), PLAN_BY_STEP], ids=["epoch", "step"])
def test_a_learning_rate_as_a_tensor(tmp_path, plan):
    model = Network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=torch.tensor(0.1), foreach=False)
    given = {"model": model, "optimizers": (optimizer, None)}
    trainer, recorder, _ = make_trainer(tmp_path, plan, given=given)
    trainer.train()
    expected = torch.tensor(by_interval([BATCHES] * 4, plan)).tolist()
    assert recorder.values == expected


def test_adafactor_with_a_learning_rate_of_its_own_is_refused(tmp_path):
    model = Network()
    optimizer = Adafactor(model.parameters(), relative_step=True, warmup_init=True, lr=None)
    given = {"model": model, "optimizers": (optimizer, AdafactorSchedule(optimizer))}
    trainer, recorder, _ = make_trainer(tmp_path, given=given)
    with pytest.raises(InputError, match="set relative_step=False"):
        trainer.train()
    assert not recorder.steps


class Warming(torch.optim.SGD):
    """Warms up by itself, as the schedule-free optimizers do."""

    def __init__(self, params, lr):
        super().__init__(params, lr)
        for group in self.param_groups:
            group["warmup_steps"] = 2


def test_an_optimizer_that_warms_up_by_itself_is_refused(tmp_path):
    given = {"optimizer_cls_and_kwargs": (Warming, {"lr": 0.1})}
    trainer, recorder, _ = make_trainer(tmp_path, given=given)
    with pytest.raises(InputError, match="set warmup_steps=0"):
        trainer.train()
    assert not recorder.steps


def test_a_layer_wise_optimizer_is_refused(tmp_path):
    model = Network()
    by_parameter = {p: torch.optim.SGD([p], lr=0.1) for p in model.parameters()}
    optimizer = LayerWiseDummyOptimizer(optimizer_dict=by_parameter, lr=0.1)
    given = {"model": model, "optimizers": (optimizer, None)}
    trainer, recorder, _ = make_trainer(tmp_path, given=given)
    with pytest.raises(InputError, match="neither layer-wise nor lomo"):
        trainer.train()
    assert not recorder.steps


@pytest.mark.parametrize("optim", ["lomo", "adalomo"])
def test_lomo_is_refused(tmp_path, optim):
    model = Network()
    given = {"model": model, "optimizers": (torch.optim.SGD(model.parameters(), lr=0.1), None)}
    trainer, recorder, _ = make_trainer(tmp_path, given=given, optim=optim)
    with pytest.raises(InputError, match=f"optim='{optim}' has optimizers or updates"):
        trainer.train()
    assert not recorder.steps


def test_deepspeed_is_refused(tmp_path):
    trainer, recorder, _ = make_trainer(tmp_path)
    trainer.args.deepspeed = "config.json"  # the constructor needs the package
    with pytest.raises(InputError, match="set deepspeed=None"):
        trainer.train()
    assert not recorder.steps


# --- keys and groups ------------------------------------------------------------------------------


@pytest.mark.parametrize("begin", [0.0, 0.01])
def test_a_moved_weight_decay_leaves_biases_and_norms_without(tmp_path, begin):
    trainer, recorder, _ = make_trainer(tmp_path, DECAY, key="weight_decay", weight_decay=begin)
    trainer.train()
    assert recorder.steps == [[value, 0.0] for value in rates()]


def test_layer_wise_learning_rates_keep_their_ratios(tmp_path):
    model = Network()
    groups = [
        {"params": model.hidden.parameters(), "lr": 0.01},
        {"params": model.norm.parameters(), "lr": 0.02},
        {"params": model.out.parameters(), "lr": 0.04},
    ]
    given = {"model": model, "optimizers": (torch.optim.AdamW(groups), None)}
    trainer, recorder, _ = make_trainer(tmp_path, PLAN_BY_STEP, given=given)
    trainer.train()
    values = by_interval([BATCHES] * 4, PLAN_BY_STEP)
    assert recorder.steps == [[value / 4, value / 2, value] for value in values]


def test_a_named_group_has_the_value_of_its_name(tmp_path):
    model = Network()
    groups = [
        {"params": model.hidden.parameters(), "name": "hidden"},
        {"params": model.out.parameters(), "name": "head"},
    ]
    given = {"model": model, "optimizers": (torch.optim.SGD(groups, lr=0.5), None)}
    plan = Plan({("head.lr",): LR})
    trainer, recorder, _ = make_trainer(tmp_path, plan, given=given)
    trainer.train()
    assert recorder.steps == [[0.5, value] for value in rates()]


def test_a_scheduler_is_refused_for_a_named_group_too(tmp_path):
    model = Network()
    groups = [{"params": model.parameters(), "name": "all"}]
    given = {"model": model, "optimizers": (torch.optim.SGD(groups, lr=0.5), None)}
    plan = Plan({("all.lr",): LR})
    trainer, _, _ = make_trainer(tmp_path, plan, given=given, lr_scheduler_type="linear")
    with pytest.raises(InputError, match="set lr_scheduler_type='constant'"):
        trainer.train()


UNKNOWN = {"momentum": "momentum", "group": "head.lr", "other": "label_smoothing"}


@pytest.mark.parametrize("case", UNKNOWN)
def test_a_key_that_the_optimizer_does_not_have_is_refused(tmp_path, case):
    plan = Plan({(UNKNOWN[case],): Constant(0.1)})
    trainer, recorder, _ = make_trainer(tmp_path, plan, optim="adafactor")
    with pytest.raises(InputError, match=f"the plan sets `{UNKNOWN[case]}`.*pass on_values="):
        trainer.train()
    assert not recorder.steps


@pytest.mark.parametrize("case", UNKNOWN)
def test_a_key_that_the_optimizer_does_not_have_may_be_set_by_the_user(tmp_path, case):
    seen = []
    plan = Plan({(UNKNOWN[case],): LR})
    trainer, _, _ = make_trainer(
        tmp_path, plan, optim="adafactor", on_values=lambda values: seen.append(dict(values))
    )
    trainer.train()
    assert [value for values in seen for value in values.values()] == rates(1)


class Unfreezing(TrainerCallback):
    """Adds a parameter group in the middle of the second epoch, as a recipe for fine-tuning."""

    def on_step_end(self, args, state, control, model, optimizer, **given):
        if state.global_step == 12:
            optimizer.optimizer.add_param_group({"params": model.out.parameters(), "lr": 0.05})


def test_a_group_that_is_added_keeps_its_ratio(tmp_path):
    model = Network()
    frozen = [*model.hidden.parameters(), *model.norm.parameters()]
    given = {"model": model, "optimizers": (torch.optim.SGD(frozen, lr=0.1), None)}
    trainer, recorder, _ = make_trainer(tmp_path, PLAN_BY_STEP, given=given, after=(Unfreezing(),))
    trainer.train()
    values = by_interval([BATCHES] * 4, PLAN_BY_STEP)
    assert recorder.steps[:12] == [[value] for value in values[:12]]
    ratio = 0.05 / values[11]
    assert recorder.steps[12:] == [
        [value, pytest.approx(value * ratio, rel=1e-12)] for value in values[12:]
    ]
