"""Each setting of Lightning's Trainer: the training follows the plan, or is refused."""

from __future__ import annotations

import inspect
import re

import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch.optim import SGD
from torch.utils.data import DataLoader

from schedsearch.errors import InputError
from schedsearch.integrations.lightning import ScheduleCallback
from schedsearch.plan import Plan
from tests.integrations.documented import rows
from tests.integrations.lightning_trainings import (
    BATCHES,
    HORIZON,
    PLAN,
    Manual,
    Model,
    Recorder,
    Stream,
    assert_follows_plan,
    data,
    fit,
    scheduler,
    search_epochs,
    trainer,
)

# Lightning uses a torch class that torch will rename.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore::lightning.fabric.utilities.warnings.PossibleUserWarning"),
    pytest.mark.filterwarnings("ignore:`max_epochs` was not set"),
    pytest.mark.filterwarnings("ignore:You requested to overfit"),
    pytest.mark.filterwarnings("ignore:Found `dataloader_iter` argument"),
    pytest.mark.filterwarnings("ignore:Total length of `.*` across ranks is zero"),
]

BY_EPOCH = Plan(PLAN.schedules)

#: Settings, and the number of optimizer steps in each epoch of the plan.
FOLLOWED = [
    ({}, [6, 6, 6, 6]),
    # Evaluation.
    ({"val_check_interval": 1.0}, [6, 6, 6, 6]),
    ({"val_check_interval": 0.5, "max_epochs": 2}, [3, 3, 3, 3]),
    ({"val_check_interval": 1, "max_epochs": -1}, [1, 1, 1, 1]),
    ({"val_check_interval": 2, "max_epochs": None}, [2, 2, 2, 2]),
    ({"val_check_interval": 4}, [4, 6, 6, 6]),
    ({"val_check_interval": 9, "check_val_every_n_epoch": None, "max_epochs": 6}, [9] * 4),
    ({"val_check_interval": 4, "check_val_every_n_epoch": None, "max_epochs": 3}, [4, 4, 4, 4]),
    ({"check_val_every_n_epoch": 2, "max_epochs": 8}, [12, 12, 12, 12]),
    (
        {"check_val_every_n_epoch": 2, "val_check_interval": 3, "max_epochs": 4},
        [9, 3, 9, 3],
    ),
    ({"num_sanity_val_steps": 0}, [6, 6, 6, 6]),
    ({"num_sanity_val_steps": -1}, [6, 6, 6, 6]),
    ({"limit_val_batches": 1}, [6, 6, 6, 6]),
    ({"limit_val_batches": 0.5}, [6, 6, 6, 6]),
    ({"limit_train_batches": 3}, [3, 3, 3, 3]),
    ({"limit_train_batches": 0.5}, [3, 3, 3, 3]),
    ({"overfit_batches": 2}, [2, 2, 2, 2]),
    ({"overfit_batches": 0.5}, [3, 3, 3, 3]),
    ({"reload_dataloaders_every_n_epochs": 1}, [6, 6, 6, 6]),
    # The end of the training.
    ({"max_epochs": 4, "max_steps": 100}, [6, 6, 6, 6]),
    ({"max_epochs": -1}, [6, 6, 6, 6]),
    ({"max_epochs": None}, [6, 6, 6, 6]),
    ({"max_epochs": None, "max_steps": 24}, [6, 6, 6, 6]),
    ({"max_epochs": -1, "max_steps": 12, "accumulate_grad_batches": 2}, [3, 3, 3, 3]),
    ({"min_epochs": 4, "max_epochs": -1}, [6, 6, 6, 6]),
    ({"min_steps": 24, "max_epochs": -1}, [6, 6, 6, 6]),
    ({"max_time": {"hours": 1}}, [6, 6, 6, 6]),
    # Steps.
    ({"accumulate_grad_batches": 2}, [3, 3, 3, 3]),
    ({"accumulate_grad_batches": 4}, [2, 2, 2, 2]),
    ({"accumulate_grad_batches": 100}, [1, 1, 1, 1]),
    ({"accumulate_grad_batches": 3, "val_check_interval": 4}, [1, 2, 2, 2]),
    ({"accumulate_grad_batches": 4, "val_check_interval": 2, "max_epochs": -1}, [0, 1, 1, 0]),
    ({"gradient_clip_val": 0.1}, [6, 6, 6, 6]),
    ({"gradient_clip_val": 0.1, "gradient_clip_algorithm": "value"}, [6, 6, 6, 6]),
    ({"precision": "bf16-mixed"}, [6, 6, 6, 6]),
    ({"precision": "64-true"}, [6, 6, 6, 6]),
    # The rest does not touch the plan.
    ({"strategy": "auto"}, [6, 6, 6, 6]),
    ({"accelerator": "auto", "devices": "auto", "num_nodes": 1}, [6, 6, 6, 6]),
    ({"inference_mode": False}, [6, 6, 6, 6]),
    ({"detect_anomaly": True}, [6, 6, 6, 6]),
    ({"deterministic": True}, [6, 6, 6, 6]),
    ({"benchmark": True}, [6, 6, 6, 6]),
    ({"use_distributed_sampler": False, "sync_batchnorm": True}, [6, 6, 6, 6]),
    ({"plugins": [TorchCheckpointIO()]}, [6, 6, 6, 6]),
    ({"profiler": "simple", "max_epochs": -1}, [6, 6, 6, 6]),
    ({"enable_model_summary": True}, [6, 6, 6, 6]),
    ({"enable_progress_bar": True}, [6, 6, 6, 6]),
    ({"enable_autolog_hparams": False}, [6, 6, 6, 6]),
    ({"model_registry": "name"}, [6, 6, 6, 6]),
    ({"log_every_n_steps": 0}, [6, 6, 6, 6]),
    ({"limit_test_batches": 0, "limit_predict_batches": 0}, [6, 6, 6, 6]),
]

#: Settings, and what the refusal says.
REFUSED = [
    ({"limit_val_batches": 0}, "limit_val_batches is 0: set it to 1.0"),
    ({"limit_train_batches": 0}, "limit_train_batches is 0, so nothing would be trained"),
    ({"overfit_batches": 0.0, "limit_train_batches": 0.0}, "limit_train_batches is 0.0"),
    ({"val_check_interval": "00:00:00:01"}, "val_check_interval is a time"),
    ({"barebones": True}, "set barebones=False"),
    ({"max_epochs": 0}, "max_epochs is 0"),
    ({"max_steps": 0}, "max_steps is 0"),
    (
        {"max_epochs": 3},
        "plan has 4 epochs, .* validates 3 times: max_epochs is 3, .* set max_epochs to 4, "
        "or make a plan with a horizon of 3",
    ),
    ({"check_val_every_n_epoch": 2}, "validates 2 times.* set max_epochs to 8"),
    ({"val_check_interval": 3, "max_epochs": 1}, "validates 2 times.* set max_epochs to 2"),
    (
        {"val_check_interval": 9, "check_val_every_n_epoch": None, "max_epochs": 5},
        "validates 3 times.* set max_epochs to 6",
    ),
    ({"max_steps": 23}, "validates 3 times.* max_steps is 23,.* set max_steps to 24"),
    ({"max_steps": 5}, r"validates 0 times.* max_steps is 5,.* set max_steps to 24$"),
    (
        {"max_steps": 11, "accumulate_grad_batches": 2},
        "validates 3 times.* max_steps is 11,.* set max_steps to 12",
    ),
    ({"max_epochs": 100}, "validates 100 times: max_epochs is 100, .* set max_epochs to 4, so"),
    ({"val_check_interval": 1}, "validates 24 times.* is 1 and .* set max_epochs to -1, so that"),
    (
        {"max_steps": 30, "max_epochs": -1},
        "validates 5 times.* set max_steps to 24, .* horizon of 5",
    ),
    ({"min_epochs": 5, "max_epochs": -1}, "min_epochs is 5, .* after 4 epochs: .* at most 4"),
    ({"min_steps": 25, "max_epochs": -1}, "min_steps is 25, .* after 24 steps: .* at most 24"),
]


@pytest.mark.parametrize(
    ("options", "steps"), FOLLOWED, ids=lambda value: re.sub(r" object at \w+| ", "", str(value))
)
def test_a_setting_is_followed(tmp_path, options, steps):
    recorder = fit(default_root_dir=tmp_path, **options)
    assert recorder.steps == steps
    assert_follows_plan(recorder)


class Untrained(Model):
    """Fails if the trainer comes to its training or its validation."""

    def training_step(self, batch, batch_idx):
        pytest.fail("the training began")


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_a_setting_is_refused_before_the_first_step(options, message):
    with pytest.raises(InputError, match=message):
        fit(module=Untrained(), **options)


@pytest.mark.parametrize(
    "options", [{"max_epochs": 3}, {"check_val_every_n_epoch": 2}, {"limit_train_batches": 0}]
)
def test_what_does_not_depend_on_the_data_is_refused_before_the_sanity_check(options):
    class Unvalidated(Untrained):
        def validation_step(self, batch, batch_idx):
            pytest.fail("the sanity check began")

    with pytest.raises(InputError):
        fit(module=Unvalidated(), **options)


@pytest.mark.parametrize("options", [{"devices": 2}, {"num_nodes": 2}, {"devices": 1}])
def test_several_processes_are_refused(options):
    # Before it starts processes, which would run this test.
    several = Trainer(accelerator="cpu", strategy="ddp_spawn", logger=False, **options)
    schedule = ScheduleCallback(scheduler(), metric="val_loss")
    with pytest.raises(InputError, match="strategy='auto', devices=1 and num_nodes=1"):
        schedule.setup(several, Model(), "fit")


class Accumulating(SingleDeviceStrategy):
    """Accumulates gradients by itself, as DeepSpeed does."""

    handles_gradient_accumulation = True


def test_a_strategy_that_accumulates_gradients_by_itself_is_refused():
    with pytest.raises(InputError, match="the trainer has Accumulating with 1 process: set strat"):
        fit(module=Untrained(), strategy=Accumulating("cpu"))


class Module(LightningDataModule):
    """The data of both kinds."""

    def train_dataloader(self):
        return data()

    def val_dataloader(self):
        return data(2)


@pytest.mark.parametrize("options", [{}, {"val_check_interval": 3, "max_epochs": 2}])
def test_the_data_of_a_module_is_followed(options):
    recorder = Recorder()
    training = trainer(ScheduleCallback(scheduler(), metric="val_loss"), recorder, **options)
    training.fit(Model(), datamodule=Module())
    assert_follows_plan(recorder)


def test_a_development_run_trains_the_beginning_of_the_plan():
    recorder = fit(fast_dev_run=3)
    assert_follows_plan(recorder, epochs=1)
    assert recorder.steps == [3]


def test_a_development_run_is_no_trial():
    with pytest.raises(InputError, match="set fast_dev_run=False"):
        search_epochs(lambda run: fit(source=run, fast_dev_run=True))


@pytest.mark.parametrize(
    ("function", "header"),
    [(Trainer.__init__, "setting of the Trainer"), (Trainer.fit, "argument of `fit`")],
)
def test_every_argument_is_in_its_table_of_the_documentation(function, header):
    assert not set(inspect.signature(function).parameters) - {"self"} - rows(header)


# --- batches --------------------------------------------------------------------------------------


def test_gradient_accumulation_may_change_between_training_epochs():
    schedule = GradientAccumulationScheduler({0: 1, 1: 4, 3: 2})
    recorder = fit(schedule)
    assert recorder.steps == [6, 2, 2, 3]
    assert_follows_plan(recorder)


def test_gradient_accumulation_may_change_within_an_epoch_of_the_plan():
    schedule = GradientAccumulationScheduler({0: 1, 1: 4, 3: 2})
    recorder = fit(schedule, check_val_every_n_epoch=2, max_epochs=8)
    assert recorder.steps == [8, 5, 6, 6]
    assert_follows_plan(recorder)


def test_gradient_accumulation_that_a_callback_changes_within_a_training_epoch_is_refused():
    class Change(GradientAccumulationScheduler):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            trainer.accumulate_grad_batches = 1 + batch_idx // 2

    with pytest.raises(InputError, match="accumulate_grad_batches is 2, but it was 1"):
        fit(Change({0: 1}))


class Growing(Model):
    """Gets one batch more whenever the trainer loads the data loader again."""

    def __init__(self, first=3):
        super().__init__()
        self.batches = first - 1

    def train_dataloader(self):
        self.batches += 1
        return data(self.batches)


@pytest.mark.parametrize("options", [{}, {"accumulate_grad_batches": 2}])
def test_the_number_of_batches_may_change_between_training_epochs(options):
    module = Growing()
    recorder = fit(module=module, training=module, reload_dataloaders_every_n_epochs=1, **options)
    assert module.batches == 6
    assert_follows_plan(recorder)


def test_a_number_of_batches_that_changes_within_an_epoch_of_the_plan_is_refused():
    options = {"check_val_every_n_epoch": 2, "max_epochs": 8, "num_sanity_val_steps": 0}
    module = Growing()
    with pytest.raises(InputError, match=r"from 3 batches .* to 4 batches of a training epoch"):
        fit(module=module, training=module, reload_dataloaders_every_n_epochs=1, **options)


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"limit_train_batches": 4}, [4, 4, 4, 4]),
        (
            {"val_check_interval": 4, "check_val_every_n_epoch": None, "max_epochs": 3},
            [4, 4, 4, 4],
        ),
    ],
)
def test_data_without_a_length_is_followed_by_the_step_if_the_steps_are_known(options, steps):
    recorder = fit(training=DataLoader(Stream(), 2), **options)
    assert recorder.steps == steps
    assert_follows_plan(recorder)


@pytest.mark.parametrize("options", [{}, {"val_check_interval": 3}])
def test_data_without_a_length_is_refused_by_the_step_if_the_steps_are_not_known(options):
    with pytest.raises(InputError, match=r"lr: the interval is .* not known: give the data loader"):
        fit(training=DataLoader(Stream(), 2), module=Untrained(), **options)


def test_data_that_ends_before_limit_train_batches_is_refused():
    with pytest.raises(InputError, match="data with fewer batches than limit_train_batches"):
        fit(training=DataLoader(Stream(), 2), limit_train_batches=8)


@pytest.mark.parametrize(
    ("options", "steps"), [({}, 6), ({"val_check_interval": 3, "max_epochs": 2}, 3)]
)
def test_data_without_a_length_is_followed_by_the_epoch(options, steps):
    recorder = fit(training=DataLoader(Stream(), 2), plan=BY_EPOCH, **options)
    assert recorder.steps == [steps] * HORIZON
    assert_follows_plan(recorder, plan=BY_EPOCH)


@pytest.mark.parametrize(
    ("options", "ended"),
    [({"val_check_interval": 3, "max_epochs": 1}, 2), ({"max_steps": 10}, 1)],
)
def test_a_limit_that_ends_data_without_a_length_before_the_horizon_is_refused(options, ended):
    with pytest.raises(InputError, match=f"ended after {ended} of the {HORIZON} epochs"):
        fit(training=DataLoader(Stream(), 2), plan=BY_EPOCH, **options)


@pytest.mark.parametrize("limit", ["min_steps", "max_steps"])
def test_the_steps_of_several_optimizers_are_not_compared_with_a_limit(limit):
    class Two(Manual):
        def configure_optimizers(self):
            return [SGD(self.net.parameters(), lr=0.1), SGD(self.net.parameters(), lr=0.1)]

    steps = 2 * BATCHES * HORIZON
    assert_follows_plan(fit(module=Two(), plan=BY_EPOCH, **{limit: steps}), plan=BY_EPOCH)


def test_a_module_that_takes_batches_itself_is_refused_by_the_step():
    class Taking(Model):
        def training_step(self, dataloader_iter):
            batch, *_ = next(dataloader_iter)
            return self.loss(batch)

    with pytest.raises(InputError, match="training_step takes batches from dataloader_iter"):
        fit(module=Taking())


def test_a_module_that_takes_batches_itself_is_followed_by_the_epoch():
    class Taking(Model):
        def training_step(self, dataloader_iter):
            batch, *_ = next(dataloader_iter)
            return self.loss(batch)

    assert_follows_plan(fit(module=Taking(), plan=BY_EPOCH), plan=BY_EPOCH)


def test_training_data_without_a_batch_is_refused():
    with pytest.raises(InputError, match="the training data has no batch"):
        fit(training=DataLoader(torch.utils.data.TensorDataset(torch.zeros(0, 3))))


def test_validation_data_without_a_batch_is_refused():
    with pytest.raises(InputError, match="the validation data has no batch"):
        fit(validation=DataLoader(torch.utils.data.TensorDataset(torch.zeros(0, 3))))


def test_a_training_without_validation_data_is_refused():
    schedule = ScheduleCallback(scheduler(), metric="val_loss")
    with pytest.raises(InputError, match="give the trainer validation data, and the module a val"):
        trainer(schedule).fit(Untrained(), data())


def test_a_training_epoch_that_ends_before_its_validation_is_refused():
    class Skipping(Model):
        def on_train_batch_start(self, batch, batch_idx):
            return -1 if batch_idx == 3 else None

    with pytest.raises(InputError, match="a validation is missing; let no training epoch end"):
        fit(module=Skipping())


def test_a_validation_that_a_callback_starts_is_refused():
    class Extra(GradientAccumulationScheduler):
        def on_train_batch_end(self, trainer, module, *rest):
            trainer.validating = True
            trainer.fit_loop.epoch_loop.val_loop.run()
            trainer.training = True

    with pytest.raises(InputError, match="start no validation within fit"):
        fit(Extra({0: 1}))


# --- optimization ---------------------------------------------------------------------------------


def test_manual_optimization_has_a_step_in_each_batch():
    recorder = fit(module=Manual(), val_check_interval=3, max_epochs=2)
    assert recorder.steps == [3, 3, 3, 3]
    assert_follows_plan(recorder)
