"""Checkpoints of Lightning's trainer: a resumed training has the values of an undisturbed one."""

from __future__ import annotations

import re
from contextlib import nullcontext
from datetime import timedelta
from unittest.mock import ANY

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import (
    EarlyStopping,
    ModelCheckpoint,
    ModelPruning,
    OnExceptionCheckpoint,
)
from torch.utils.data import DataLoader

from schedsearch.engines import Resumed
from schedsearch.engines.loop import LoopContext, LoopEngine
from schedsearch.errors import CheckpointRefusedError, InputError
from schedsearch.plan import Plan
from schedsearch.schedules import ReduceOnPlateau
from tests.integrations.lightning_trainings import (
    HORIZON,
    PLAN,
    Model,
    Stream,
    assert_follows_plan,
    data,
    fit,
    planned,
    scheduler,
)
from tests.integrations.moved_folders import resume_in_moved_folder

# Lightning uses a torch class that torch will rename.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore::lightning.fabric.utilities.warnings.PossibleUserWarning"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks used to"),
    pytest.mark.filterwarnings("ignore:`.fit.ckpt_path=None.` was called without a model"),
    pytest.mark.filterwarnings("ignore:.fit.ckpt_path=.last.. is set, but there is no last"),
    pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before"),
]


class Steps(Callback):
    """Records the values of each optimizer step."""

    def __init__(self):
        self.values = {}

    def on_before_optimizer_step(self, trainer, module, optimizer):
        group = optimizer.param_groups[0]
        self.values[trainer.global_step] = (group["lr"], group["weight_decay"])


def train(folder, kind, resumed=None, plan=PLAN, **options):
    """Train with a ModelCheckpoint; return the values of each step, and the scheduler."""
    keep = ModelCheckpoint(folder, "{step}", save_top_k=-1, **kind)
    steps, source = Steps(), scheduler(plan)
    options |= {"enable_checkpointing": True, "fitted": {"ckpt_path": resumed}}
    fit(keep, steps, source=source, **options)
    return steps.values, source


KINDS = [
    {},
    {"save_on_train_epoch_end": True},
    {"save_on_train_epoch_end": False},
    {"every_n_train_steps": 5},
    {"every_n_epochs": 2},
    {"train_time_interval": timedelta(0)},
    {"monitor": "val_loss", "every_n_train_steps": 5},
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"val_check_interval": 3, "max_epochs": 2},
        {"val_check_interval": 4},
        {"check_val_every_n_epoch": 2, "max_epochs": 8},
        {"val_check_interval": 9, "check_val_every_n_epoch": None, "max_epochs": 6},
        {"accumulate_grad_batches": 4},
    ],
    ids=str,
)
def test_a_training_resumes_from_each_checkpoint_with_the_values_of_an_undisturbed_one(
    tmp_path, kind, options
):
    whole, _ = train(tmp_path / "whole", kind, **options)
    paths = sorted((tmp_path / "whole").glob("*.ckpt"))
    # Those of the first, a middle and the last moment.
    for path in {paths[0], paths[len(paths) // 2], paths[-1]}:
        done = int(re.search(r"step=(\d+)", path.name)[1])
        rest, source = train(tmp_path / "rest", kind, resumed=path, **options)
        assert rest == {step: values for step, values in whole.items() if step >= done}
        assert source.epoch >= HORIZON - (not rest)


CLOSED = Plan(
    {
        ("lr",): ReduceOnPlateau(initial=0.1, factor=0.5, patience=1),
        ("weight_decay",): PLAN.schedules["weight_decay",],
    }
)


@pytest.mark.parametrize("done", [6, 12, 24])
def test_a_plan_that_depends_on_a_validation_resumes_before_it(tmp_path, done):
    kind = {"every_n_train_steps": 6}
    whole, _ = train(tmp_path, kind, plan=CLOSED)
    path = tmp_path / f"step={done}.ckpt"
    rest, source = train(tmp_path / "rest", kind, resumed=path, plan=CLOSED)
    assert rest == {step: values for step, values in whole.items() if step >= done}
    assert source.epoch == HORIZON


def test_a_training_resumes_from_a_checkpoint_after_a_repeated_validation(tmp_path):
    whole, _ = train(tmp_path, {"every_n_train_steps": 6}, plan=CLOSED)
    kind = {"save_on_train_epoch_end": False}
    train(tmp_path / "second", kind, resumed=tmp_path / "step=12.ckpt", plan=CLOSED)
    path = tmp_path / "second" / "step=12.ckpt"
    rest, source = train(tmp_path / "third", kind, resumed=path, plan=CLOSED)
    assert rest == {step: values for step, values in whole.items() if step >= 12}
    assert source.epoch == HORIZON


def test_a_plan_that_depends_on_the_validations_does_not_end_before_the_last_one(tmp_path):
    kind = {"every_n_train_steps": 6}
    train(tmp_path, kind, plan=CLOSED, max_steps=24)
    message = "saved after the last batch, when the plan was after epoch 3 of 4: .* saved after a"
    path = tmp_path / "step=24.ckpt"
    # At max_steps Lightning does not begin its loop.
    with pytest.raises(CheckpointRefusedError, match=message):
        train(tmp_path / "rest", kind, resumed=path, plan=CLOSED, max_steps=24)


def test_a_plan_that_depends_on_validations_resumes_after_one(tmp_path):
    whole, _ = train(tmp_path, {}, plan=CLOSED)
    rest, _ = train(tmp_path / "rest", {}, resumed=tmp_path / "step=12.ckpt", plan=CLOSED)
    assert rest == {step: values for step, values in whole.items() if step >= 12}


class Lost(Callback):
    """Raises an exception before the batch that follows a number of optimizer steps."""

    def __init__(self, error, step):
        self.error, self.step = error, step

    def on_train_batch_start(self, trainer, *rest):
        if trainer.global_step == self.step:
            raise self.error


class LostInValidation(Model):
    """Raises an exception in the second batch of a validation."""

    def validation_step(self, batch, batch_idx):
        super().validation_step(batch, batch_idx)
        if self.global_step == 6 and batch_idx == 1:
            raise RuntimeError("lost")


@pytest.mark.parametrize("error", [RuntimeError("lost"), KeyboardInterrupt()])
def test_a_training_resumes_from_the_checkpoint_of_an_exception(tmp_path, error):
    whole, rest = Steps(), Steps()
    fit(whole)
    keep = ModelCheckpoint(tmp_path, "{step}", save_on_exception=True, every_n_train_steps=100)
    raised = SystemExit if isinstance(error, KeyboardInterrupt) else RuntimeError
    with pytest.raises(raised):
        fit(Lost(error, step=8), keep, enable_checkpointing=True)
    fit(rest, fitted={"ckpt_path": tmp_path / "step=8.ckpt"})
    assert rest.values == {step: v for step, v in whole.values.items() if step >= 8}


def test_a_validation_that_was_interrupted_is_repeated_as_a_whole(tmp_path):
    whole, _ = train(tmp_path / "whole", {}, plan=CLOSED)
    keep = ModelCheckpoint(tmp_path, "{step}", save_on_exception=True, every_n_train_steps=100)
    with pytest.raises(RuntimeError, match="lost"):
        fit(keep, module=LostInValidation(), plan=CLOSED, enable_checkpointing=True)
    rest, _ = train(tmp_path / "rest", {}, resumed=tmp_path / "step=6.ckpt", plan=CLOSED)
    assert rest == {step: values for step, values in whole.items() if step >= 6}


def test_a_training_goes_on_from_the_last_exception_by_itself(tmp_path):
    whole, rest = Steps(), Steps()
    fit(whole)
    for steps in (Steps(), rest):
        keep = OnExceptionCheckpoint(tmp_path, "lost")
        again = pytest.raises(RuntimeError, match="lost") if steps is not rest else nullcontext()
        lost = [] if steps is rest else [Lost(RuntimeError("lost"), 8)]
        with again:
            fit(*lost, keep, steps, enable_checkpointing=True)
    assert rest.values == {step: v for step, v in whole.values.items() if step >= 8}


@pytest.mark.parametrize(
    "options",
    [
        {"val_check_interval": 2, "max_epochs": -1},
        {"check_val_every_n_epoch": 2, "max_epochs": 8},
    ],
)
def test_a_checkpoint_of_a_training_with_other_settings_is_refused(tmp_path, options):
    train(tmp_path, {"every_n_train_steps": 8})
    with pytest.raises(
        InputError, match="1 validation ended epochs of the plan, but by its settings"
    ):
        train(tmp_path / "rest", {}, resumed=tmp_path / "step=8.ckpt", **options)


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"training": data(4)}, [4, 4]),
        ({"limit_train_batches": 3}, [3, 3]),
        ({"accumulate_grad_batches": 2}, [3, 3]),
    ],
)
def test_with_other_data_or_settings_the_plan_continues_at_the_same_epoch(tmp_path, options, steps):
    train(tmp_path, {})
    recorder = fit(fitted={"ckpt_path": tmp_path / "step=12.ckpt"}, **options)
    assert recorder.steps == steps
    assert recorder.epochs[:2] == planned([1, 1, *steps])[2:]


def test_a_checkpoint_of_a_training_without_the_schedule_is_refused(tmp_path):
    train(tmp_path, {})
    path = tmp_path / "step=12.ckpt"
    saved = torch.load(path, weights_only=True)
    saved["callbacks"].pop("ScheduleCallback")
    torch.save(saved, path)
    with pytest.raises(InputError, match="resume from a checkpoint that was saved with this"):
        train(tmp_path / "rest", {}, resumed=path)


def test_a_finished_training_that_is_resumed_ends_at_once(tmp_path):
    train(tmp_path, {"save_on_train_epoch_end": False})
    rest, source = train(tmp_path / "rest", {}, resumed=tmp_path / "step=24.ckpt", max_epochs=-1)
    assert not rest
    assert source.epoch == HORIZON


def test_early_stopping_before_or_after_the_schedule_keeps_the_checkpoint_whole(tmp_path):
    keep = ModelCheckpoint(tmp_path, "{step}", save_on_train_epoch_end=False)
    fit(EarlyStopping("val_loss", stopping_threshold=1e9), keep, enable_checkpointing=True)
    rest, source = train(tmp_path / "rest", {}, resumed=tmp_path / "step=6.ckpt")
    assert min(rest) == 6
    assert source.epoch == HORIZON


def test_data_without_a_length_resumes_by_the_epoch(tmp_path):
    by_epoch = Plan(PLAN.schedules)
    options = {"training": DataLoader(Stream(), 2), "plan": by_epoch}
    whole, _ = train(tmp_path, {}, **options)
    rest, _ = train(tmp_path / "rest", {}, resumed=tmp_path / "step=12.ckpt", **options)
    assert rest == {step: values for step, values in whole.items() if step >= 12}
    assert_follows_plan(fit(**options), plan=by_epoch)


# --- in a search ----------------------------------------------------------------------------------


def search(train, folder, epochs):
    """Train some epochs of a run that has a folder; return the number of epochs that it resumed."""
    if not hasattr(train, "hyperparameters"):
        train.hyperparameters = {"lr": 0.1, "weight_decay": 0.0}
    engine = LoopEngine(train, horizon=HORIZON)
    engine.fill(0, 1, None, LoopContext("run", (), lambda: folder))
    replayed, resumed = scheduler(), 0
    while replayed.epoch < epochs:
        [result] = engine.train_epoch([replayed.epoch_values])
        if isinstance(result, Exception):
            raise result
        if isinstance(result, Resumed):
            resumed = result.epoch
        for _ in range(resumed if isinstance(result, Resumed) else 1):
            replayed.step(1.0)
    engine.release(0)
    return resumed


@pytest.mark.parametrize("kind", [{}, {"save_on_train_epoch_end": False}])
def test_a_run_that_is_lost_goes_on_from_the_checkpoint_in_its_folder(tmp_path, kind):
    whole, rest = Steps(), Steps()
    fit(whole)

    def train_run(run):
        rest.values.clear()
        keep = ModelCheckpoint(run.directory, "last", enable_version_counter=False, **kind)
        path = run.directory / "last.ckpt"
        fitted = {"ckpt_path": path if path.exists() else None}
        fit(keep, rest, source=run, enable_checkpointing=True, fitted=fitted)

    assert search(train_run, tmp_path, epochs=2) == 0
    assert search(train_run, tmp_path, epochs=HORIZON) == 2
    assert rest.values == {step: v for step, v in whole.values.items() if step >= 12}


@pytest.mark.filterwarnings("ignore:.*Parametrizations.*")
def test_a_run_with_pruned_weights_does_not_go_on_without_its_masks(tmp_path):
    def train_run(run):
        keep = ModelCheckpoint(run.directory, "last", enable_version_counter=False)
        path = run.directory / "last.ckpt"
        fitted = {"ckpt_path": path if path.exists() else None}
        pruning = ModelPruning("l1_unstructured", amount=1)
        fit(keep, pruning, source=run, enable_checkpointing=True, fitted=fitted)

    assert search(train_run, tmp_path, epochs=2) == 0
    with pytest.raises(InputError, match="ModelPruning: the checkpoints do not have its masks"):
        search(train_run, tmp_path, epochs=HORIZON)


class Losses(Callback):
    """Records the validation loss of each epoch of the plan."""

    def __init__(self):
        self.values = []

    def on_validation_end(self, trainer, module):
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self.values.append(trainer.callback_metrics["val_loss"].item())


@pytest.mark.parametrize("options", [{}, {"val_check_interval": 3, "max_epochs": 2}], ids=str)
@pytest.mark.parametrize("at_end", [True, False])
def test_a_run_that_is_lost_has_the_losses_of_an_undisturbed_one(tmp_path, at_end, options):
    losses = {}

    def train_run(run):
        torch.manual_seed(run.seed)
        keep = ModelCheckpoint(run.directory, "{epoch}", save_on_train_epoch_end=at_end)
        [path] = run.directory.glob("*.ckpt") if any(run.directory.iterdir()) else [None]
        recorded = losses[run.directory.name, path is None] = Losses()
        fit(
            *(keep, recorded),
            source=run,
            training=DataLoader(data().dataset, 2, shuffle=True),
            enable_checkpointing=True,
            fitted={"ckpt_path": path},
            **options,
        )

    for name in ("whole", "lost"):
        (tmp_path / name).mkdir()
    search(train_run, tmp_path / "whole", epochs=HORIZON)
    # Lost at the end of the first training epoch: within one, Lightning saves no order of the data.
    first = HORIZON // options.get("max_epochs", HORIZON)
    search(train_run, tmp_path / "lost", epochs=first)
    assert search(train_run, tmp_path / "lost", epochs=HORIZON) == first
    rest = losses["lost", False].values
    assert rest == losses["whole", True].values[-len(rest) :]
    assert len(set(rest)) == len(rest)


class Noisy(Model):
    """Validates with random numbers, and has a scheduler of another value than the plan's."""

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.loss(batch) + torch.rand(()))

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "monitor": "val_loss"},
        }


def test_a_run_that_is_lost_before_the_validation_has_the_losses_of_an_undisturbed_one(tmp_path):
    losses = {}

    def train_run(run):
        torch.manual_seed(run.seed)
        keep = ModelCheckpoint(run.directory, "{step}", every_n_train_steps=6, save_top_k=-1)
        path = run.directory / "lost"
        recorded = losses[run.directory.name] = Losses()
        fit(
            *(keep, recorded),
            module=Noisy(),
            source=run,
            training=DataLoader(data().dataset, 2, shuffle=True),
            enable_checkpointing=True,
            fitted={"ckpt_path": path if path.exists() else None},
        )

    train_run.hyperparameters = {"weight_decay": 0.0}
    for name in ("whole", "lost"):
        (tmp_path / name).mkdir()
    search(train_run, tmp_path / "whole", epochs=HORIZON)
    (tmp_path / "whole" / "step=12.ckpt").rename(tmp_path / "lost" / "lost")
    assert search(train_run, tmp_path / "lost", epochs=HORIZON) == 1
    assert losses["lost"].values == losses["whole"].values[1:]


def test_a_run_in_another_folder_knows_the_best_checkpoint_that_it_had_before(tmp_path):
    kept = []

    def train(run):
        best = ModelCheckpoint(run.directory / "best", monitor="val_loss")
        keep = ModelCheckpoint(run.directory, save_last=True)
        last = run.directory / "last.ckpt"
        path = last if last.exists() else None
        fit(best, keep, source=run, enable_checkpointing=True, fitted={"ckpt_path": path})
        kept.append((best.best_model_path, best.best_model_score, best.best_k_models))

    train.hyperparameters = {"lr": 0.1, "weight_decay": 0.0}
    # The later epochs are worse.
    values = [{"lr": rate, "weight_decay": 0.0} for rate in (0.05, 0.05, 0.9, 0.9)]

    assert resume_in_moved_folder(train, values, tmp_path) == Resumed(3, ANY)
    (best, score, _), _, (again, same, models) = kept
    assert "epoch=3" not in best
    assert again == best.replace("undisturbed", "second")
    assert same == score
    assert models == {again: score}
