"""Inside Lightning and the Trainer: groups keep their ratios, several optimizers agree."""

from __future__ import annotations

import pytest
import torch
from lightning.pytorch import LightningModule
from transformers import Trainer, TrainerCallback

from examples.with_lightning import loaders
from examples.with_lightning import trainer as lightning_trainer
from examples.with_transformers import trainer
from schedsearch.errors import InputError
from schedsearch.integrations.lightning import ScheduleCallback
from schedsearch.plan import Plan
from schedsearch.scheduler import Scheduler
from schedsearch.schedules import Constant, Cyclical, Linear

HORIZON = 4
EPOCH_RATES = [Linear(0.01, 0.0, duration=HORIZON).at(epoch) for epoch in range(HORIZON)]
RATES = Plan({("lr",): Linear(0.01, 0.0), ("label_smoothing",): Constant(0.0)})

# Lightning uses a torch class that torch will rename.
pytestmark = pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*:FutureWarning")


# --- transformers ---------------------------------------------------------------------------------

#: Weight decay begins and is in the middle at 0, so that present values do not tell the groups.
DECAYED = Plan(
    {
        ("weight_decay",): Cyclical(initial=0.0, final=0.2, cycles=2),
        ("label_smoothing",): Constant(0.0),
    }
)


class Groups(TrainerCallback):
    """Records the weight decay and the rate of each group, and its parameters, in each epoch."""

    def __init__(self):
        self.decays, self.rates, self.parameters = [], [], []

    def on_epoch_end(self, args, state, control, optimizer, **given):
        groups = optimizer.param_groups
        self.decays.append([group["weight_decay"] for group in groups])
        self.rates.append([group["lr"] for group in groups])
        self.parameters = [group["params"] for group in groups]


def hf_trainer(folder, plan=DECAYED, **arguments):
    made = trainer(Scheduler(plan, horizon=HORIZON), HORIZON, seed=0)
    for name, value in {"output_dir": str(folder), **arguments}.items():
        setattr(made.args, name, value)
    made.train_dataset.labels = made.train_dataset.labels[:100]
    groups = Groups()
    made.add_callback(groups)
    return made, groups


def decays_of_plan():
    scheduler, decays = Scheduler(DECAYED, horizon=HORIZON), []
    for _ in range(HORIZON):
        decays.append(scheduler.values["weight_decay"])
        scheduler.step(1.0)
    return decays


@pytest.mark.parametrize("begin", [0.01, 0.0])
def test_the_trainers_biases_and_norms_stay_free_of_weight_decay_also_after_a_resume(
    tmp_path, begin
):
    whole, groups = hf_trainer(tmp_path, weight_decay=begin, save_strategy="epoch")
    whole.train()
    names = {id(p): name for name, p in whole.model.named_parameters()}
    free = [names[id(p)] for p in groups.parameters[1]]
    assert free
    assert all("bias" in name or "LayerNorm" in name for name in free)
    assert groups.decays == [[decay, 0.0] for decay in decays_of_plan()]
    assert max(decays_of_plan()) > 0
    rest, rest_groups = hf_trainer(tmp_path, weight_decay=begin)
    rest.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert rest_groups.decays == groups.decays[2:]


def test_groups_that_the_trainer_would_not_make_all_begin_at_0_and_have_the_weight_decay(tmp_path):
    made, groups = hf_trainer(tmp_path)
    parts = [made.model.bert, made.model.classifier]
    made.optimizer = torch.optim.SGD([{"params": part.parameters()} for part in parts], lr=0.01)
    made.train()
    assert groups.decays == [[decay, decay] for decay in decays_of_plan()]


def test_a_group_with_its_own_weight_decay_still_counts_for_the_largest_rate(tmp_path):
    rates, decays = Linear(0.01, 0.0, duration=HORIZON), Constant(0.1)
    plan = {("lr",): rates, ("weight_decay",): decays, ("head.weight_decay",): Constant(0.2)}
    made, groups = hf_trainer(tmp_path, plan=Plan({**plan, ("label_smoothing",): Constant(0.0)}))
    weights, free = [], []
    for name, parameter in made.model.bert.named_parameters():
        (free if "bias" in name or "LayerNorm" in name else weights).append(parameter)
    head = {"params": made.model.classifier.parameters(), "lr": 1.0, "name": "head"}
    made.optimizer = torch.optim.AdamW(
        [{"params": weights}, {"params": free}, head], lr=0.5, weight_decay=0.0
    )
    made.train()
    assert groups.rates == [[value / 2, value / 2, value] for value in EPOCH_RATES]
    assert groups.decays == [[0.1, 0.0, 0.2]] * HORIZON


class SparesEmbeddings(Trainer):
    """A Trainer with its own rule for weight decay."""

    def get_decay_parameter_names(self, model):
        names = super().get_decay_parameter_names(model)
        return [name for name in names if "embeddings" not in name]


def test_a_subclass_of_the_trainer_decides_what_is_free_of_weight_decay(tmp_path):
    made, groups = hf_trainer(tmp_path)
    made.__class__ = SparesEmbeddings
    made.train()
    names = {id(p): name for name, p in made.model.named_parameters()}
    assert any("word_embeddings" in names[id(p)] for p in groups.parameters[1])
    assert groups.decays == [[decay, 0.0] for decay in decays_of_plan()]


def test_layer_wise_rates_of_an_optimizer_stay_layer_wise_in_the_trainer(tmp_path):
    made, groups = hf_trainer(tmp_path, plan=RATES)
    layers = [made.model.bert.embeddings, made.model.bert.encoder, made.model.classifier]
    rates = [0.25, 0.5, 1.0]
    made.optimizer = torch.optim.AdamW(
        [{"params": m.parameters(), "lr": r} for m, r in zip(layers, rates, strict=True)]
    )
    made.train()
    assert groups.rates == [[value * rate for rate in rates] for value in EPOCH_RATES]


# --- Lightning ------------------------------------------------------------------------------------


class Adversaries(LightningModule):
    """Two optimizers by manual optimization, as in a GAN."""

    def __init__(self, *groups):
        super().__init__()
        self.automatic_optimization = False
        self.nets = torch.nn.ModuleList(torch.nn.Linear(10, 1) for _ in groups)
        self.groups, self.rates = groups, []

    def configure_optimizers(self):
        pairs = zip(self.nets, self.groups, strict=True)
        first, second = [{"params": net.parameters(), **group} for net, group in pairs]
        return torch.optim.AdamW([first]), torch.optim.SGD([second])

    def training_step(self, batch, index):
        for net, optimizer in zip(self.nets, self.optimizers(), strict=True):
            optimizer.zero_grad()
            self.manual_backward((net(batch[0]).flatten() - batch[1]).square().mean())
            optimizer.step()
        if index == 0:
            self.rates.append([each.param_groups[0]["lr"] for each in self.optimizers()])

    def validation_step(self, batch, index):
        self.log("val_error", (self.nets[0](batch[0]).flatten() - batch[1]).abs().mean())


def fit_adversaries(module, plan):
    training, validation, _ = loaders(0)
    source = Scheduler(plan, horizon=HORIZON)
    schedule = ScheduleCallback(source, metric="val_error", on_values=dict)
    lightning_trainer(HORIZON, schedule).fit(module, training, validation)
    return module.rates


def test_two_optimizers_with_one_rate_have_the_value():
    rates = fit_adversaries(Adversaries({"lr": 0.1}, {"lr": 0.1}), RATES)
    assert rates == [[rate, rate] for rate in EPOCH_RATES]


def test_two_optimizers_with_different_rates_are_refused_before_the_first_step():
    module = Adversaries({"lr": 3e-3}, {"lr": 0.1})
    with pytest.raises(InputError, match=r"`lr` .*: 0\.003 \(AdamW\), 0\.1 \(SGD\); give .* names"):
        fit_adversaries(module, RATES)
    assert module.rates == []


def test_two_optimizers_whose_groups_the_plan_names_have_their_values():
    module = Adversaries({"lr": 3e-3, "name": "first"}, {"lr": 0.1, "name": "second"})
    plan = Plan({("first.lr",): Linear(0.01, 0.0), ("second.lr",): Constant(0.5)})
    assert fit_adversaries(module, plan) == [[rate, 0.5] for rate in EPOCH_RATES]
