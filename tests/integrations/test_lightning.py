"""The Lightning callback: it sets the values of a plan, resumes, and ends a pruned run."""

from __future__ import annotations

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from examples.with_lightning import Progression, loaders
from examples.with_lightning import train as train_a_run
from schedsearch.engines import make_engine
from schedsearch.errors import InputError
from schedsearch.integrations.lightning import ScheduleCallback
from schedsearch.lr_scheduler import PlanLR
from schedsearch.plan import Plan
from schedsearch.scheduler import Scheduler
from tests.integrations.plans import (
    HORIZON,
    PLAN_BY_STEP,
    expected_values,
    scheduler,
    train_by_step,
    values_by_step,
)

# Lightning uses a torch class that torch will rename.
pytestmark = pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*:FutureWarning")


class Recorder(Callback):
    """Records the values in each epoch and the validation error after it."""

    def __init__(self):
        self.values, self.errors = [], []

    def on_train_batch_start(self, trainer, module, *rest):
        if trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            return
        lr = trainer.optimizers[0].param_groups[0]["lr"]
        now = {"lr": lr, "weights.l1": pytest.approx(module.loss.weights[1].item())}
        if len(self.values) < trainer.current_epoch + 1:
            self.values += [{}] * (trainer.current_epoch + 1 - len(self.values))
        self.values[trainer.current_epoch] = now

    def on_validation_end(self, trainer, module):
        if not trainer.sanity_checking:
            self.errors.append(trainer.callback_metrics["val_error"].item())


class LostError(Exception):
    """Ends a training like a lost process."""


class Interrupt(Callback):
    """Raises before the batch that follows a number of optimizer steps."""

    def __init__(self, steps):
        self.steps = steps

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.global_step == self.steps:
            raise LostError


def fit_until(steps, folder, *callbacks, **options):
    """Train for a number of optimizer steps."""
    with pytest.raises(LostError):
        fit(folder, *callbacks, Interrupt(steps), **options)


class StepRecorder(Callback):
    """Records the learning rate, and the last value of `on_values`, in each optimizer step."""

    def __init__(self):
        self.rates, self.smoothings, self.now = [], [], None

    def set(self, values):
        self.now = values["label_smoothing"]

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.rates.append(optimizer.param_groups[0]["lr"])
        self.smoothings.append(self.now)


def fit(folder, *callbacks, epochs=HORIZON, resumed=None, module=None, **options):
    torch.manual_seed(0)
    training, validation, _ = loaders(0)
    recorder, module = Recorder(), module or Progression()
    quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
    quiet["enable_checkpointing"] = any(isinstance(c, ModelCheckpoint) for c in callbacks)
    lightning_trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        callbacks=[*callbacks, recorder],
        default_root_dir=folder,
        **quiet,
        **options,
    )
    lightning_trainer.fit(module, training, validation, ckpt_path=resumed, weights_only=True)
    return recorder


def test_each_epoch_trains_with_the_values_of_the_plan(tmp_path):
    recorder = fit(tmp_path, ScheduleCallback(scheduler(), metric="val_error"))
    assert recorder.values == expected_values(recorder.errors)[:-1]
    assert len({now["lr"] for now in recorder.values}) == HORIZON


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
@pytest.mark.parametrize("at_epoch_end", [False, True])
def test_training_resumes_from_a_checkpoint_with_the_values_of_the_next_epoch(
    tmp_path, at_epoch_end
):
    whole = fit(tmp_path, ScheduleCallback(scheduler(), metric="val_error"))
    keep = ModelCheckpoint(tmp_path, "half", save_on_train_epoch_end=at_epoch_end)
    half = Recorder()
    fit_until(10, tmp_path, ScheduleCallback(scheduler(), metric="val_error"), keep, half)
    schedule = ScheduleCallback(scheduler(), metric="val_error")
    keep = ModelCheckpoint(tmp_path / "rest", save_on_train_epoch_end=at_epoch_end)
    rest = fit(tmp_path, schedule, keep, resumed=tmp_path / "half.ckpt")
    assert half.values[:2] == whole.values[:2]
    assert rest.values[2:] == expected_values(half.errors + rest.errors)[2:-1]


def test_the_terms_of_an_epoch_are_the_means_over_its_steps():
    engine = make_engine(train_a_run, horizon=HORIZON)
    engine.fill(0, seed=1)
    [result] = engine.train_epoch([{"lr": 0.0}])
    engine.release(0)
    torch.manual_seed(1)
    training, _, _ = loaders(1)
    inputs, targets = training.dataset.tensors
    residual = Progression().net(inputs) - targets
    expected = {"l2": residual.square().mean().item(), "l1": residual.abs().mean().item()}
    assert result.terms == pytest.approx(expected, rel=1e-5)


def test_a_run_sets_the_values_of_each_epoch_and_ends_when_it_is_pruned():
    engine = make_engine(train_a_run, horizon=HORIZON)
    engine.fill(0, seed=1)
    unchanged = [engine.train_epoch([{"lr": 0.0}])[0].metrics["val_error"] for _ in range(2)]
    changed = engine.train_epoch([{"lr": 0.01}])[0].metrics["val_error"]
    assert unchanged[0] == unchanged[1] != changed
    # A request for the test metrics ends the loop before its horizon.
    assert engine.test(0).keys() == {"test_error"}


def test_a_metric_that_is_not_logged_is_refused(tmp_path):
    with pytest.raises(
        InputError, match=r"the validation has no metric `loss`, it has .*val_error"
    ):
        fit(tmp_path, ScheduleCallback(scheduler(), metric="loss"))


# --- by the step ----------------------------------------------------------------------------------

#: The 5 batches of the example in 2 steps: of 3 and of 2 batches.
ACCUMULATED = {"accumulate_grad_batches": 3}
STEPS = 2


def by_step(recorder):
    source = Scheduler(PLAN_BY_STEP, horizon=HORIZON)
    return ScheduleCallback(source, metric="val_error", on_values=recorder.set)


@pytest.mark.parametrize(("options", "steps"), [({}, 5), (ACCUMULATED, STEPS)])
def test_each_optimizer_step_trains_with_the_values_of_its_time(tmp_path, options, steps):
    recorder = StepRecorder()
    fit(tmp_path, by_step(recorder), recorder, **options)
    assert recorder.rates == values_by_step("lr", steps)
    assert recorder.smoothings == values_by_step("label_smoothing", steps)


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before")
def test_training_resumes_within_an_epoch_with_the_values_of_the_next_step(tmp_path):
    keep = ModelCheckpoint(tmp_path, "half", every_n_train_steps=3)
    first, rest = StepRecorder(), StepRecorder()
    fit_until(3, tmp_path, by_step(first), first, keep, **ACCUMULATED)
    again = ModelCheckpoint(tmp_path / "rest", every_n_train_steps=3)
    resumed = tmp_path / "half.ckpt"
    fit(tmp_path, by_step(rest), rest, again, resumed=resumed, **ACCUMULATED)
    assert first.rates == values_by_step("lr", STEPS)[:3]
    assert rest.rates == values_by_step("lr", STEPS)[3:]
    assert rest.smoothings == values_by_step("label_smoothing", STEPS)[3:]


def test_a_run_of_a_search_trains_each_step_with_the_values_of_its_time(tmp_path):
    recorder = StepRecorder()

    def train(run):
        schedule = ScheduleCallback(run, metric="val_error", on_values=recorder.set)
        fit(tmp_path, schedule, recorder, **ACCUMULATED)

    train_by_step(train)
    assert recorder.rates == values_by_step("lr", STEPS)
    assert recorder.smoothings == values_by_step("label_smoothing", STEPS)


class Scheduled(Progression):
    """The module of the example, with a torch scheduler of a plan."""

    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        plan = Plan({("lr",): PLAN_BY_STEP.schedules["lr",]}, intervals={"lr": "step"})
        lr = PlanLR(optimizer, plan, horizon=HORIZON, steps_per_epoch=STEPS)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": lr, "interval": "step"}}


def test_lightning_steps_the_torch_scheduler_of_a_plan(tmp_path):
    recorder = StepRecorder()
    fit(tmp_path, recorder, module=Scheduled(), **ACCUMULATED)
    assert recorder.rates == values_by_step("lr", STEPS)


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before")
def test_lightning_resumes_the_torch_scheduler_of_a_plan(tmp_path):
    keep = ModelCheckpoint(tmp_path, "half", every_n_train_steps=3)
    fit(tmp_path, StepRecorder(), keep, module=Scheduled(), max_steps=3, **ACCUMULATED)
    rest, again = StepRecorder(), ModelCheckpoint(tmp_path / "rest", every_n_train_steps=3)
    resumed = tmp_path / "half.ckpt"
    fit(tmp_path, rest, again, module=Scheduled(), resumed=resumed, **ACCUMULATED)
    assert rest.rates == values_by_step("lr", STEPS)[3:]
