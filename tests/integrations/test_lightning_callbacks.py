"""The other callbacks and the loggers of Lightning, and what stops a training."""

from __future__ import annotations

import csv
import signal
import threading

import lightning.pytorch.callbacks as shipped
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.tuner import Tuner
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.optim import SGD

from schedsearch.engines import make_engine
from schedsearch.errors import InputError, SchedSearchError
from schedsearch.integrations.lightning import ScheduleCallback
from schedsearch.plan import Plan
from tests.integrations.documented import rows
from tests.integrations.lightning_trainings import (
    HORIZON,
    PLAN,
    Model,
    Recorder,
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
]

DECAY = Plan({("weight_decay",): PLAN.schedules["weight_decay",]})


class TwoParts(Model):
    """With a backbone, which callbacks freeze at first."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Linear(3, 3)

    def loss(self, batch):
        return super().loss([self.backbone(batch[0]), batch[1]])

    def configure_optimizers(self):
        return SGD(self.net.parameters(), lr=0.1)


class Unfreezing(shipped.BaseFinetuning):
    def freeze_before_training(self, module):
        self.freeze(module.backbone)

    def finetune_function(self, module, epoch, optimizer):
        if epoch == 2:
            self.unfreeze_and_add_param_group(module.backbone, optimizer)


class Writing(shipped.BasePredictionWriter):
    """Writes predictions, of which a training has none."""


class Sized(Model):
    """With the attributes that the tuners set."""

    def __init__(self):
        super().__init__()
        self.lr, self.batch_size = 0.1, 2

    def train_dataloader(self):
        return torch.utils.data.DataLoader(data().dataset, self.batch_size)

    def val_dataloader(self):
        return data(2)


# --- callbacks that lightning ships ---------------------------------------------------------------


@pytest.mark.parametrize(
    "callback",
    [
        lambda: shipped.EMAWeightAveraging(),
        lambda: shipped.WeightAveraging(),
        lambda: shipped.ModelPruning("l1_unstructured", amount=0.1),
        lambda: shipped.LambdaCallback(on_train_start=lambda *_: None),
        lambda: shipped.GradientAccumulationScheduler({0: 2}),
        lambda: shipped.EarlyStopping("val_loss", patience=9),
        lambda: shipped.Timer({"hours": 1}),
        lambda: shipped.ModelSummary(),
        lambda: shipped.RichModelSummary(),
        lambda: shipped.TQDMProgressBar(),
        lambda: shipped.RichProgressBar(),
        lambda: shipped.DeviceStatsMonitor(cpu_stats=True),
        lambda: shipped.ThroughputMonitor(batch_size_fn=lambda batch: len(batch[0])),
        lambda: shipped.SpikeDetection(rtol=1e9),
        lambda: Writing("epoch"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*Parametrizations.*")
@pytest.mark.filterwarnings("ignore:When using the `ThroughputMonitor`")
def test_a_callback_that_leaves_the_values_alone_is_accepted(tmp_path, callback):
    made = callback()
    options = {
        "enable_progress_bar": isinstance(made, shipped.ProgressBar),
        "logger": CSVLogger(tmp_path),
        "log_every_n_steps": 3,
    }
    assert_follows_plan(fit(made, default_root_dir=tmp_path, **options))


@pytest.mark.parametrize("plan", [PLAN, DECAY])
def test_weight_averaging_with_its_own_learning_rates_is_refused(plan):
    with pytest.raises(InputError, match=r"StochasticWeightAveraging .*use WeightAveraging or EMA"):
        fit(shipped.StochasticWeightAveraging(0.05), plan=plan)


@pytest.mark.parametrize("name", ["BackboneFinetuning", "LearningRateFinder"])
def test_a_callback_that_sets_lr_is_refused_if_the_plan_does(name):
    callback = getattr(shipped, name)()
    with pytest.raises(InputError, match=f"the callback {name} set the learning rate: remove"):
        fit(callback, module=TwoParts())


def test_a_callback_that_sets_lr_is_accepted_if_the_plan_moves_something_else(tmp_path):
    callback = shipped.LearningRateFinder(num_training_steps=3)
    options = {"default_root_dir": tmp_path, "plan": DECAY, "training": None}
    recorder = fit(callback, module=Sized(), **options)
    assert [epoch[0]["weight_decay"] for epoch in recorder.epochs[:-1]] == [0.0, 0.01, 0.02, 0.03]


@pytest.mark.parametrize("taken", [True, False])
def test_a_callback_that_sets_lr_is_accepted_if_only_on_values_takes_a_rate(taken):
    class Parts(TwoParts):
        def configure_optimizers(self):
            named = {"params": self.net.parameters(), "name": "net"}
            return SGD([named if taken else {"params": self.net.parameters()}], lr=0.1)

    plan = Plan({("net.lr",): PLAN.schedules["lr",]})
    callback = shipped.BackboneFinetuning(unfreeze_backbone_at_epoch=2)
    if taken:
        with pytest.raises(InputError, match="BackboneFinetuning set the learning rate"):
            fit(callback, module=Parts(), plan=plan, on_values=dict)
    else:
        fit(callback, module=Parts(), plan=plan, on_values=dict)


def test_a_group_that_is_unfrozen_later_keeps_a_tenth_of_the_rate():
    shares = []

    class Shares(Callback):
        def on_before_optimizer_step(self, trainer, module, optimizer):
            groups = optimizer.param_groups
            shares.append(groups[1]["lr"] / groups[0]["lr"] if len(groups) > 1 else None)

    plan = Plan({("lr",): PLAN.schedules["lr",]})
    recorder = fit(Unfreezing(), Shares(), module=TwoParts(), plan=plan)
    assert recorder.steps == [6] * HORIZON
    assert shares == [None] * 12 + [pytest.approx(0.1)] * 12


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_batch_size_that_is_found_by_trying_is_no_search(tmp_path):
    finder = shipped.BatchSizeFinder(max_trials=1)

    def train(run):
        schedule = ScheduleCallback(run, metric="val_loss")
        trainer(schedule, finder, default_root_dir=tmp_path).fit(Sized())

    with pytest.raises(InputError, match="BatchSizeFinder chooses another batch size"):
        search_epochs(train)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_plan_is_followed_with_a_batch_size_that_is_found_first(tmp_path):
    finder, recorder = shipped.BatchSizeFinder(max_trials=2), Recorder()
    schedule = ScheduleCallback(scheduler(), metric="val_loss")
    trainer(schedule, finder, recorder, default_root_dir=tmp_path).fit(Sized())
    assert_follows_plan(recorder)


def test_a_tuner_refuses_to_search_for_the_rate_that_the_plan_sets():
    with pytest.raises(InputError, match="LearningRateFinder set the learning rate"):
        Tuner(trainer(ScheduleCallback(scheduler(), metric="val_loss"))).lr_find(Sized())


def test_every_callback_of_lightning_is_in_the_documentation():
    assert set(shipped.__all__) - {"Callback"} <= rows("callback of Lightning")


def test_a_second_schedule_callback_is_refused_by_lightning():
    with pytest.raises(RuntimeError, match="more than one stateful callback"):
        trainer(*(ScheduleCallback(scheduler(), metric="val_loss") for _ in range(2)))


# --- stopping -------------------------------------------------------------------------------------


class Stop(Callback):
    """Asks the trainer to stop, after a number of batches of a training epoch."""

    def __init__(self, epoch, batch):
        self.when = (epoch, batch)

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if (trainer.current_epoch, batch_idx + 1) == self.when:
            trainer.should_stop = True


def stopping_early():
    # No validation is better than this bound.
    return shipped.EarlyStopping("val_loss", stopping_threshold=1e9)


def test_early_stopping_ends_the_training_after_a_validation():
    assert_follows_plan(fit(stopping_early()), epochs=1)


def test_early_stopping_may_stop_in_the_middle_of_a_training_epoch():
    recorder = fit(stopping_early(), val_check_interval=2, max_epochs=-1)
    assert recorder.steps == [2]


@pytest.mark.parametrize(("batch", "steps"), [(6, [6, 6]), (3, [6, 3])])
def test_a_validation_that_a_stop_brings_forward_is_no_epoch_of_the_plan(batch, steps):
    source = scheduler()
    recorder = fit(Stop(1, batch), source=source)
    assert recorder.steps == steps
    assert source.epoch == (2 if batch == 6 else 1)


class Overtime(Callback):
    """Lets the time of the trainer's Timer be over, after a number of batches of an epoch."""

    def __init__(self, epoch, batch):
        self.when = (epoch, batch)

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if (trainer.current_epoch, batch_idx + 1) == self.when:
            [timer] = [c for c in trainer.callbacks if isinstance(c, shipped.Timer)]
            timer._duration = 0


@pytest.mark.parametrize(("batch", "steps"), [(6, [6, 6]), (3, [6, 3])])
def test_max_time_ends_the_training_as_a_stop_does(batch, steps):
    source = scheduler()
    recorder = fit(Overtime(1, batch), max_time={"hours": 1}, source=source)
    assert (recorder.steps, source.epoch) == (steps, 2 if batch == 6 else 1)


def test_a_stop_before_min_epochs_does_not_disturb_the_plan():
    assert_follows_plan(fit(Stop(0, 3), min_epochs=HORIZON))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"min_epochs": HORIZON},
        {"min_steps": 6 * HORIZON},
        {"val_check_interval": 2, "max_epochs": -1},
        {"check_val_every_n_epoch": 2, "max_epochs": 8, "min_epochs": 8},
    ],
)
def test_a_pruned_run_ends_the_training(options):
    recorders = []
    metrics = search_epochs(lambda run: recorders.append(fit(source=run, **options)), epochs=2)
    assert len(metrics) == 2
    assert_follows_plan(recorders[0], epochs=2)


@pytest.mark.parametrize(
    ("stop", "epochs"),
    [
        (stopping_early, 1),
        (lambda: Stop(1, 6), 2),
        (lambda: Stop(1, 3), 1),
    ],
)
def test_a_run_that_lightning_stops_ends_with_what_it_has_reported(stop, epochs):
    def train(run):
        fit(stop(), source=run)
        run.test(loss=0.5)

    results = stopped_results(train)
    assert [bool(result.metrics) for result in results if result.metrics] == [True] * epochs
    assert [result.stopped for result in results] == [False] * (len(results) - 1) + [True]


@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_a_run_that_a_timer_stops_ends_with_what_it_has_reported(interval):
    def train(run):
        fit(shipped.Timer({"hours": 1}, interval=interval), Overtime(1, 3), source=run)

    results = stopped_results(train)
    assert [bool(result.metrics) for result in results] == [True, interval == "epoch"]


def test_a_run_that_stops_before_its_first_validation_fails():
    with pytest.raises(SchedSearchError, match="must report at least one epoch"):
        stopped_results(lambda run: fit(Stop(0, 3), source=run))


def stopped_results(train):
    """Train a run until it ends, and return the results of its epochs."""
    train.hyperparameters = {"lr": 0.1, "weight_decay": 0.0}
    engine = make_engine(train, horizon=HORIZON)
    engine.fill(0, seed=1)
    replayed, results = scheduler(), []
    while not results or not results[-1].stopped:
        [result] = engine.train_epoch([replayed.epoch_values])
        if isinstance(result, Exception):
            raise result
        results.append(result)
        replayed.step(1.0)
    engine.release(0)
    return results


def test_the_signals_of_a_search_go_to_the_worker():
    signals = (signal.SIGINT, signal.SIGTERM)
    before, found = [signal.getsignal(each) for each in signals], []

    class Looking(Callback):
        def on_train_batch_end(self, *rest):
            is_main = threading.current_thread() is threading.main_thread()
            found.append((is_main, [signal.getsignal(each) for each in signals]))

    search_epochs(lambda run: fit(Looking(), source=run))
    assert found == [(False, before)] * 6 * HORIZON


def test_a_run_trains_to_its_horizon_and_is_tested_then():
    def train(run):
        schedule = ScheduleCallback(run, metric="val_loss")
        fitted, module = trainer(schedule, max_epochs=-1), Model()
        fitted.fit(module, data(), data(2))
        [result] = fitted.test(module, data(3), verbose=False)
        run.test(loss=result["test_loss"])

    assert [set(metrics) for metrics in search_epochs(train)] == [{"val_loss"}] * HORIZON


# --- several calls --------------------------------------------------------------------------------


def test_validations_and_tests_outside_of_fit_are_no_epochs_of_the_plan():
    source = scheduler()
    fitted, module = trainer(ScheduleCallback(source, metric="val_loss")), Model()
    fitted.validate(module, data(2), verbose=False)
    fitted.test(module, data(2), verbose=False)
    assert source.epoch == 0
    fitted.fit(module, data(), data(2))
    fitted.validate(module, data(2), verbose=False)
    assert source.epoch == HORIZON


def test_a_training_may_continue_in_a_second_call_of_the_same_trainer():
    source, recorder, stop = scheduler(), Recorder(), Stop(1, 6)
    fitted, module = trainer(ScheduleCallback(source, metric="val_loss"), stop, recorder), Model()
    fitted.fit(module, data(), data(2))
    assert source.epoch == 2
    fitted.should_stop = False
    fitted.fit(module, data(), data(2))
    assert_follows_plan(recorder)


def test_a_second_training_with_a_used_scheduler_is_refused():
    source = scheduler()
    fit(source=source)
    with pytest.raises(InputError, match="the plan has ended after 4 epochs"):
        fit(source=source)


def test_a_new_training_with_a_half_used_scheduler_is_refused():
    source = scheduler()
    fit(Stop(1, 6), source=source)
    with pytest.raises(
        InputError, match=r"2 validations ended epochs of the plan, but .* had 0 before batch"
    ):
        fit(source=source)


def test_a_second_training_of_a_run_is_refused():
    def train(run):
        for _ in range(2):
            fit(source=run)

    with pytest.raises(InputError, match="the plan has ended"):
        search_epochs(train)


# --- loggers --------------------------------------------------------------------------------------


def logged(folder, name="lr"):
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {int(row["step"]): row for row in rows if row.get(name)}


@pytest.mark.parametrize(("every", "steps"), [(1, range(24)), (50, range(0, 24, 6))])
def test_the_values_in_force_are_logged_under_their_names(tmp_path, every, steps):
    logger = CSVLogger(tmp_path, name="", version="")
    recorder = fit(logger=logger, log_every_n_steps=every)
    rows = logged(tmp_path)
    flat = [step for epoch in recorder.epochs for step in epoch]
    assert sorted(rows) == list(steps)
    for step, row in rows.items():
        assert {name: float(row[name]) for name in flat[step]} == pytest.approx(flat[step])


def test_the_values_in_force_are_scalars_of_tensorboard(tmp_path):
    recorder = fit(logger=TensorBoardLogger(tmp_path, name="", version=""), log_every_n_steps=1)
    events = EventAccumulator(str(tmp_path)).Reload()
    flat = [step for epoch in recorder.epochs for step in epoch]
    for name in flat[0]:
        expected = torch.tensor([step[name] for step in flat]).tolist()
        assert [event.value for event in events.Scalars(name)] == expected


def test_the_learning_rate_monitor_logs_the_same(tmp_path):
    logger = CSVLogger(tmp_path, name="", version="")
    monitor = shipped.LearningRateMonitor(logging_interval="step")
    fit(monitor, logger=logger, log_every_n_steps=1)
    ours, theirs = logged(tmp_path), logged(tmp_path, "lr-SGD")
    assert {step: row["lr"] for step, row in ours.items()} == {
        step: row["lr-SGD"] for step, row in theirs.items()
    }


def test_accumulated_batches_are_logged_once(tmp_path):
    logger = CSVLogger(tmp_path, name="", version="")
    fit(logger=logger, log_every_n_steps=1, accumulate_grad_batches=2)
    assert sorted(logged(tmp_path)) == list(range(12))


@pytest.mark.filterwarnings("ignore:Starting from v1.9.0, `tensorboardX`")
def test_the_default_trainer_follows_the_plan(tmp_path):
    recorder = Recorder()
    schedule = ScheduleCallback(scheduler(), metric="val_loss")
    fitted = Trainer(
        max_epochs=HORIZON,
        callbacks=[schedule, recorder],
        default_root_dir=tmp_path,
        enable_progress_bar=False,
    )
    fitted.fit(Model(), data(), data(2))
    assert_follows_plan(recorder)
