"""What a LightningModule may do: its optimizers, schedulers, metrics and hooks."""

from __future__ import annotations

from collections import defaultdict

import pytest
import torch
from lightning.pytorch import Callback
from torch import nn
from torch.optim import LBFGS, SGD, AdamW
from torch.optim.lr_scheduler import (
    ConstantLR,
    CyclicLR,
    LinearLR,
    OneCycleLR,
    ReduceLROnPlateau,
)

from schedsearch.errors import InputError
from schedsearch.integrations.lightning import ScheduleCallback
from schedsearch.loss import WeightedLoss
from schedsearch.lr_scheduler import PlanLR
from schedsearch.plan import Plan
from schedsearch.schedules import Linear
from tests.integrations.lightning_trainings import (
    HORIZON,
    PLAN,
    Manual,
    Model,
    Recorder,
    assert_follows_plan,
    data,
    fit,
    planned,
    scheduler,
    trainer,
)

# Lightning uses a torch class that torch will rename.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore::lightning.fabric.utilities.warnings.PossibleUserWarning"),
]

BY_EPOCH = Plan(PLAN.schedules)
FALLING = Linear(initial=0.4, final=0.0, duration=HORIZON)
RISING = Linear(initial=0.0, final=0.4, duration=HORIZON)


def with_optimizers(configured, base=Model):
    """Return a module whose configure_optimizers returns what a function makes of the module."""

    class Configured(base):
        def configure_optimizers(self):
            return configured(self)

    return Configured()


def sgd(module, **options):
    return SGD(module.parameters(), **{"lr": 0.1, **options})


# --- what configure_optimizers returns ------------------------------------------------------------


@pytest.mark.parametrize(
    "configured",
    [
        sgd,
        lambda module: [sgd(module)],
        lambda module: (sgd(module),),
        lambda module: ([sgd(module)], []),
        lambda module: {"optimizer": sgd(module)},
        lambda module: ({"optimizer": sgd(module)},),
        lambda module: AdamW(module.parameters(), lr=torch.tensor(0.1)),
        lambda module: torch.optim.LBFGS(module.parameters(), lr=0.1, max_iter=2),
    ],
)
def test_an_optimizer_follows_the_plan(configured):
    plan = BY_EPOCH if "LBFGS" in configured.__code__.co_names else PLAN
    recorder = fit(module=with_optimizers(configured), plan=plan, on_values=dict)
    assert recorder.validations == HORIZON
    if plan is PLAN:
        assert recorder.steps == [6] * HORIZON
        lrs = [[step["lr"] for step in epoch] for epoch in recorder.epochs]
        replayed = scheduler()
        for epoch in lrs[:HORIZON]:
            assert epoch == pytest.approx([replayed.at(step / 6)["lr"] for step in range(6)])
            replayed.step(1.0)


@pytest.mark.parametrize("interval", ["step", "epoch"])
@pytest.mark.parametrize("base", [Model, Manual])
def test_an_optimizer_that_evaluates_the_loss_several_times_follows_the_plan(base, interval):
    class Searching(base):
        """Records the rate at which each evaluation of the loss in a step takes place."""

        def configure_optimizers(self):
            return LBFGS(self.parameters(), lr=0.1, max_iter=3)

        def training_step(self, batch, batch_idx):
            if base is Model:
                rates[batch_idx, self.current_epoch].append(self.rate)
                return self.loss(batch)

            def closure():
                rates[batch_idx, self.current_epoch].append(self.rate)
                self.zero_grad()
                loss = self.loss(batch)
                self.manual_backward(loss)
                return loss

            self.optimizers().step(closure)
            return None

        @property
        def rate(self):
            return self.trainer.optimizers[0].param_groups[0]["lr"]

    rates = defaultdict(list)
    plan = Plan({("lr",): PLAN.schedules["lr",]}, intervals={"lr": interval})
    fit(module=Searching(), plan=plan)
    expected = [step["lr"] for epoch in planned([6] * HORIZON, plan) for step in epoch]
    assert [set(rates[batch, epoch]) for epoch in range(HORIZON) for batch in range(6)] == [
        {value} for value in expected
    ]
    assert len(rates[0, 0]) > 1


SCHEDULERS = [
    ("LinearLR", LinearLR),
    ("ConstantLR", ConstantLR),
    ("OneCycleLR", lambda optimizer: OneCycleLR(optimizer, 0.1, total_steps=100)),
    ("PlanLR", lambda o: PlanLR(o, BY_EPOCH, horizon=HORIZON, steps_per_epoch=6)),
]


@pytest.mark.parametrize("interval", ["step", "epoch"])
@pytest.mark.parametrize(("name", "made"), SCHEDULERS)
@pytest.mark.parametrize("base", [Model, Manual])
@pytest.mark.filterwarnings("ignore:A `OneCycleLR` scheduler is using")
def test_a_scheduler_of_the_module_is_refused_if_the_plan_moves_lr(base, name, made, interval):
    def configured(module):
        optimizer = sgd(module, momentum=0.9)
        own = {"scheduler": made(optimizer), "interval": interval}
        return {"optimizer": optimizer, "lr_scheduler": own}

    with pytest.raises(InputError, match=f"both the plan and the module's {name} set the learning"):
        fit(module=with_optimizers(configured, base))


@pytest.mark.parametrize("form", ["lists", "dictionary", "dictionaries"])
def test_a_scheduler_is_refused_in_each_form_that_lightning_takes(form):
    def configured(module):
        optimizer = sgd(module)
        own = ReduceLROnPlateau(optimizer)
        config = {"scheduler": own, "monitor": "val_loss"}
        whole = {"optimizer": optimizer, "lr_scheduler": config}
        return {"lists": ([optimizer], [config]), "dictionary": whole, "dictionaries": (whole,)}[
            form
        ]

    with pytest.raises(InputError, match="ReduceLROnPlateau set the learning rate: return only"):
        fit(module=with_optimizers(configured))


def test_a_scheduler_of_the_module_steps_if_the_plan_moves_something_else():
    decay = Plan({("weight_decay",): PLAN.schedules["weight_decay",]})

    def configured(module):
        optimizer = sgd(module)
        own = LinearLR(optimizer, 1.0, 0.0, total_iters=24)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": own, "interval": "step"}}

    recorder = fit(module=with_optimizers(configured), plan=decay)
    assert [epoch[0]["weight_decay"] for epoch in recorder.epochs[:-1]] == [0.0, 0.01, 0.02, 0.03]
    assert len({step["lr"] for epoch in recorder.epochs for step in epoch}) == 24


@pytest.mark.parametrize(
    "made",
    [
        lambda o: OneCycleLR(o, 0.1, total_steps=100),
        lambda o: CyclicLR(o, 0.01, 0.1, step_size_up=5),
    ],
)
def test_a_scheduler_that_cycles_the_momentum_is_refused_if_the_plan_moves_it(made):
    momentum = Plan({("momentum",): Linear(initial=0.9, final=0.5, duration=HORIZON)})

    def configured(module):
        optimizer = sgd(module, momentum=0.9)
        return [optimizer], [{"scheduler": made(optimizer), "interval": "step"}]

    with pytest.raises(InputError, match="set the momentum"):
        fit(module=with_optimizers(configured), plan=momentum)


def test_a_scheduler_steps_if_only_on_values_takes_a_rate():
    def configured(module):
        optimizer = sgd(module)
        return [optimizer], [{"scheduler": LinearLR(optimizer), "interval": "step"}]

    plan, taken = Plan({("other.lr",): FALLING}), []
    module = with_optimizers(configured)
    recorder = fit(module=module, plan=plan, on_values=lambda v: taken.append(v["other.lr"]))
    assert list(dict.fromkeys(taken)) == pytest.approx([0.4, 0.3, 0.2, 0.1])
    assert recorder.epochs[0][0]["lr"] < recorder.epochs[0][-1]["lr"]


@pytest.mark.parametrize(("moved", "is_refused"), [("head", True), ("body", False)])
def test_a_scheduler_is_refused_only_if_the_plan_moves_the_rates_of_its_optimizer(
    moved, is_refused
):
    def configured(module):
        head = SGD([{"params": [module.net.weight], "name": "head"}], lr=0.1)
        body = SGD([{"params": [module.net.bias], "name": "body"}], lr=0.1)
        return [head, body], [LinearLR(head)]

    plan = Plan({(f"{moved}.lr",): FALLING})
    module = with_optimizers(configured, Manual)
    if is_refused:
        with pytest.raises(InputError, match="the module's LinearLR set the learning rate"):
            fit(module=module, plan=plan)
    else:
        fit(module=module, plan=plan)
        assert module.trainer.optimizers[1].param_groups[0]["lr"] == pytest.approx(0.1)


def test_two_optimizers_that_begin_alike_follow_the_plan():
    module = with_optimizers(lambda m: [sgd(m), AdamW(m.parameters(), lr=0.1)], Manual)
    recorder = fit(module=module, plan=Plan({("lr",): BY_EPOCH.schedules["lr",]}))
    replayed = scheduler()
    for epoch in recorder.epochs[:-1]:
        assert [step["lr"] for step in epoch] == [replayed.at(0)["lr"]] * 12
        replayed.step(1.0)


def test_a_training_without_an_optimizer_has_no_place_for_the_values():
    class NoOptimizer(Model):
        def configure_optimizers(self):
            return None

    with pytest.warns(UserWarning, match="no optimizer"), pytest.raises(InputError, match="`lr`"):
        fit(module=NoOptimizer())


# --- values that nothing takes --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["label_smoothing", "weights.kl", "head.lr"])
def test_a_value_that_nothing_takes_is_refused(name):
    plan = Plan({(name,): Linear(initial=0.1, final=0.0, duration=HORIZON)})
    with pytest.raises(InputError, match=f"the plan sets `{name}`, but nothing .* pass on_values="):
        fit(plan=plan)


def test_a_value_for_on_values_is_set_before_each_step():
    plan = Plan(
        {("smoothing",): Linear(initial=0.0, final=0.4, duration=HORIZON)},
        intervals={"smoothing": "step"},
    )
    seen = []
    fit(plan=plan, on_values=lambda values: seen.append(values["smoothing"]))
    # The values of a training's first epoch are set once before the first batch.
    assert list(dict.fromkeys(seen)) == pytest.approx([0.4 * step / 24 for step in range(24)])


def test_a_weight_of_a_loss_term_is_set_in_the_module():
    class Weighted(Model):
        def __init__(self):
            super().__init__()
            self.terms, self.seen = WeightedLoss(["fit", "size"]), []

        def training_step(self, batch, batch_idx):
            self.seen.append(self.terms.weights[1].item())
            size = self.net.weight.square().sum()
            return self.terms({"fit": self.loss(batch), "size": size})

    module = Weighted()
    fit(module=module, plan=Plan({("weights.size",): Linear(initial=0.4, final=0.0, duration=4)}))
    assert module.seen[::6] == pytest.approx([0.4, 0.3, 0.2, 0.1])


class Generative(Manual):
    """Two optimizers, each with a loss that has one term for itself and one that both have."""

    def __init__(self):
        super().__init__()
        self.generator = WeightedLoss(["fooling", "norm"])
        self.discriminator = WeightedLoss(["real", "norm"])
        self.critic = nn.Linear(3, 1)
        self.seen = []

    def training_step(self, batch, batch_idx):
        for optimizer, loss, part in zip(
            self.optimizers(),
            (self.generator, self.discriminator),
            (self.net, self.critic),
            strict=True,
        ):
            error, norm = part(batch[0]).square().mean(), part.weight.square().sum()
            optimizer.zero_grad()
            self.manual_backward(loss(dict(zip(loss.terms, (error, norm), strict=True))))
            optimizer.step()
        weights = [*self.generator.weights.tolist(), *self.discriminator.weights.tolist()]
        self.seen.append([round(weight, 6) for weight in weights])

    def configure_optimizers(self):
        return SGD(self.net.parameters(), lr=0.1), SGD(self.critic.parameters(), lr=0.1)


def test_each_of_several_losses_has_the_weights_of_its_terms():
    module = Generative()
    fit(module=module, plan=Plan({("weights.real",): RISING, ("weights.norm",): FALLING}))
    assert module.seen[::6] == [
        [1.0, 0.4, 0.0, 0.4],
        [1.0, 0.3, 0.1, 0.3],
        [1.0, 0.2, 0.2, 0.2],
        [1.0, 0.1, 0.3, 0.1],
    ]


def test_a_term_that_none_of_several_losses_has_is_refused_with_the_most_similar_one():
    module = Generative()
    message = (
        r"the plan sets `weights\.reel`, .* this term \(weights\.fooling, weights\.norm, .*"
        r"did you mean `weights\.real`\?"
    )
    with pytest.raises(InputError, match=message):
        fit(module=module, plan=Plan({("weights.reel",): RISING}))
    assert not module.seen


def test_on_values_may_take_a_weight_that_no_loss_has():
    module, taken = Generative(), []
    plan = Plan({("weights.real",): RISING, ("weights.content",): FALLING})
    fit(module=module, plan=plan, on_values=lambda values: taken.append(values["weights.content"]))
    assert list(dict.fromkeys(taken)) == pytest.approx([0.4, 0.3, 0.2, 0.1])
    assert [weights[2] for weights in module.seen[::6]] == [0.0, 0.1, 0.2, 0.3]


# --- other parts of the training that change what the plan sets -----------------------------------


def changed_in_optimizer_step(module):
    class Warming(Model):
        def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure=None):
            if self.trainer.global_step < 3:
                for group in optimizer.param_groups:
                    group["lr"] = 0.001
            optimizer.step(closure=optimizer_closure)

    return Warming()


def changed_after_the_step(module):
    class Decaying(Model):
        def on_train_batch_end(self, *rest):
            for group in self.trainer.optimizers[0].param_groups:
                group["lr"] *= 0.5

    return Decaying()


@pytest.mark.parametrize(
    ("made", "found"), [(changed_in_optimizer_step, "0.001"), (changed_after_the_step, "0.05")]
)
def test_a_module_that_changes_lr_is_refused_before_the_step(made, found):
    message = f"the plan has set `lr` to 0.1, but at an optimizer step it is {found}"
    with pytest.raises(InputError, match=message):
        fit(module=made(None), plan=BY_EPOCH)


@pytest.mark.parametrize("plan", [BY_EPOCH, PLAN], ids=["by epoch", "by step"])
@pytest.mark.parametrize("where", ["module", "callback"])
def test_what_changes_lr_after_the_check_is_refused_at_the_first_step(plan, where):
    class Late(Callback):
        def on_before_optimizer_step(self, trainer, module, optimizer):
            for group in optimizer.param_groups:
                group["lr"] = 9.0

    class Changing(Model):
        def on_before_optimizer_step(self, optimizer):
            Late().on_before_optimizer_step(None, None, optimizer)

    module = Changing() if where == "module" else Model()
    with pytest.raises(InputError, match="but at an optimizer step it is 9"):
        fit(*([Late()] if where == "callback" else []), module=module, plan=plan)
    assert module.trainer.global_step == 0


@pytest.mark.parametrize("plan", [BY_EPOCH, PLAN], ids=["by epoch", "by step"])
@pytest.mark.parametrize("place", ["before", "after"])
def test_what_changes_lr_after_a_step_is_refused_unless_the_next_step_sets_it_again(plan, place):
    class Late(Callback):
        def on_train_batch_end(self, trainer, *rest):
            trainer.optimizers[0].param_groups[0]["lr"] = 9.0

    recorder = Recorder()
    schedule = ScheduleCallback(scheduler(plan), metric="val_loss")
    callbacks = [Late(), schedule] if place == "before" else [schedule, Late()]
    training = trainer(callbacks[0], callbacks[1], recorder)
    if plan is PLAN:
        training.fit(Model(), data(), data(2))
        assert_follows_plan(recorder)
    else:
        with pytest.raises(InputError, match="but at an optimizer step it is 9"):
            training.fit(Model(), data(), data(2))
        assert training.global_step == 1


def test_parameter_groups_may_be_added_in_the_training():
    class Growing(Model):
        def __init__(self):
            super().__init__()
            self.late = nn.Linear(3, 1)

        def loss(self, batch):
            return super().loss(batch) + self.late(batch[0]).square().mean()

        def configure_optimizers(self):
            return SGD(self.net.parameters(), lr=0.1)

        def on_train_epoch_start(self):
            if self.current_epoch == 2:
                optimizer = self.trainer.optimizers[0]
                optimizer.add_param_group({"params": list(self.late.parameters())})

    assert_follows_plan(fit(module=Growing(), plan=BY_EPOCH), plan=BY_EPOCH)


# --- metrics --------------------------------------------------------------------------------------


def logging_in(hook):
    """Return a module that logs the metric in a hook after its validation batches, or sometimes."""

    class Logging(Model):
        def validation_step(self, batch, batch_idx):
            if hook == "by step and epoch":
                self.log("val_loss", self.loss(batch), on_step=True, on_epoch=True)
            elif hook == "by step only":
                self.log("val_loss", self.loss(batch), on_step=True, on_epoch=False)
            elif hook == "in the first epoch" and self.current_epoch == 0:
                self.log("val_loss", self.loss(batch))
            elif hook == "under another name":
                self.log("valid_loss", self.loss(batch))

        def on_validation_epoch_end(self):
            if hook == "late":
                self.log("val_loss", torch.tensor(0.5))

        def training_step(self, batch, batch_idx):
            if hook == "in the training":
                self.log("val_loss", self.loss(batch), on_step=True, on_epoch=True)
            return super().training_step(batch, batch_idx)

        def on_train_epoch_end(self):
            if hook == "after the validation":
                self.log("val_loss", torch.tensor(0.5))

    return Logging()


@pytest.mark.parametrize("hook", ["by step and epoch", "late"])
def test_a_metric_may_be_logged_by_the_step_too_or_late(hook):
    assert_follows_plan(fit(module=logging_in(hook)))


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        ("by step only", "with on_epoch=True"),
        ("in the training", "log it in every validation"),
        ("after the validation", "no metric was logged in it"),
        ("not at all", "no metric was logged in it"),
        ("under another name", "did you mean `valid_loss`"),
    ],
)
def test_a_metric_that_the_validation_does_not_log_is_refused(hook, message):
    with pytest.raises(InputError, match=f"has no metric `val_loss`.*{message}"):
        fit(module=logging_in(hook))


def test_a_metric_that_is_logged_only_sometimes_is_not_taken_twice():
    seen = []

    def on_values(values):
        seen.append(values)

    with pytest.raises(InputError, match="the validation has no metric `val_loss`"):
        fit(module=logging_in("in the first epoch"), plan=BY_EPOCH, on_values=on_values)
    assert len({values["lr"] for values in seen}) == 2


class TwoLoaders(Model):
    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.log("val_loss", self.loss(batch) + dataloader_idx)


def test_a_metric_of_one_of_several_validation_loaders_is_named_with_its_number():
    metric = "val_loss/dataloader_idx_1"
    recorder = fit(module=TwoLoaders(), validation=[data(2), data(2)], metric=metric)
    assert_follows_plan(recorder)


def test_a_metric_of_several_validation_loaders_without_a_number_is_refused():
    with pytest.raises(InputError, match="pass metric='val_loss/dataloader_idx_0'"):
        fit(module=TwoLoaders(), validation=[data(2), data(2)])


def test_the_sanity_check_is_no_epoch_of_the_plan():
    class Counting(Model):
        def __init__(self):
            super().__init__()
            self.sane = 0

        def on_validation_end(self):
            self.sane += self.trainer.sanity_checking

    module = Counting()
    assert_follows_plan(fit(module=module))
    assert module.sane == 1
