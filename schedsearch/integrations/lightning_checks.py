"""What ScheduleCallback refuses in a training by Lightning, before its first step."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    BatchSizeFinder,
    LearningRateFinder,
    StochasticWeightAveraging,
)
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature
from torch.optim import Optimizer

from schedsearch.errors import TrainingRefusedError, did_you_mean
from schedsearch.integrations.driver import ScheduleDriver
from schedsearch.integrations.lightning_timetable import callbacks_of, is_dev_run
from schedsearch.integrations.timetable import Timetable
from schedsearch.parameter_groups import moved_keys

# --- settings of the trainer ----------------------------------------------------------------------


def check_settings(trainer: Trainer, driver: ScheduleDriver) -> None:
    """Check the settings that do not depend on data and optimizers.

    Raises:
        InputError: a setting cannot give the values of the plan.
    """
    _check_processes(trainer, driver.source.processes)
    _check_batches(trainer)
    if trainer.barebones:
        raise TrainingRefusedError(
            "barebones=True logs no metric, but the schedules need a validation metric: set "
            "barebones=False"
        )
    if getattr(trainer, "_val_check_time_interval", None) is not None:
        raise TrainingRefusedError(
            "val_check_interval is a time, so the length of an epoch of the plan would depend on "
            "the speed of the machine: set val_check_interval to a number of batches, or to a "
            "share of the training epoch such as 0.5"
        )
    if is_dev_run(trainer) and driver.source.is_search:
        raise TrainingRefusedError(
            "fast_dev_run trains only a few batches, which is no trial of a search: set "
            "fast_dev_run=False"
        )
    _check_callbacks(callbacks_of(trainer), driver)


def _check_processes(trainer: Trainer, processes: int) -> None:
    strategy = type(trainer.strategy).__name__
    spawns = isinstance(trainer.strategy.launcher, _MultiProcessingLauncher)
    if processes > 1:
        if trainer.world_size == processes and type(trainer.strategy) is DDPStrategy and not spawns:
            return
        raise TrainingRefusedError(
            f"{processes} processes train the trial, but the trainer has {strategy} with "
            f"world_size {trainer.world_size}: set strategy='ddp', "
            "devices=int(os.environ['LOCAL_WORLD_SIZE']) and num_nodes to the number of machines"
        )
    if trainer.world_size > 1 or spawns or trainer.strategy.handles_gradient_accumulation:
        raise TrainingRefusedError(
            f"ScheduleCallback works in a single process, but the trainer has {strategy} with "
            f"{trainer.world_size} process{'es' if trainer.world_size > 1 else ''}: set "
            "strategy='auto', devices=1 and num_nodes=1"
        )


def _check_batches(trainer: Trainer) -> None:
    if not trainer.enable_validation:
        how = (
            f"limit_val_batches is {trainer.limit_val_batches}: set it to 1.0"
            if trainer.limit_val_batches == 0
            else "give the trainer validation data, and the module a validation_step"
        )
        raise TrainingRefusedError(
            f"the schedules need a validation after each epoch of the plan; {how}"
        )
    for name, value in (
        ("limit_train_batches", trainer.limit_train_batches),
        ("max_epochs", trainer.max_epochs),
        ("max_steps", trainer.max_steps),
    ):
        if value == 0:
            raise TrainingRefusedError(
                f"{name} is {value}, so nothing would be trained: set another number"
            )


def _check_callbacks(callbacks: Iterable[Any], driver: ScheduleDriver) -> None:
    # LearningRateFinder may search for a rate before there are optimizers to look at. A name such
    # as `head.lr` may be one for `on_values`.
    named = any(
        n == "lr" or (n.endswith(".lr") and not driver.has_on_values) for n in driver.source.names
    )
    for callback in callbacks:
        name = type(callback).__name__
        if isinstance(callback, StochasticWeightAveraging):
            raise TrainingRefusedError(
                f"{name} sets learning rates, and may add a training epoch that the plan does not "
                "have: use WeightAveraging or EMAWeightAveraging instead"
            )
        if named:
            _check_own_rates(callback)
        if isinstance(callback, BatchSizeFinder) and driver.source.is_search:
            raise TrainingRefusedError(
                f"{name} chooses another batch size on another machine, so trials could not be "
                "compared: find the batch size before the search, with "
                "Tuner(Trainer()).scale_batch_size(module), and remove the callback"
            )


def _check_own_rates(callback: Any) -> None:
    if isinstance(callback, BackboneFinetuning | LearningRateFinder):
        raise TrainingRefusedError(
            f"both the plan and the callback {type(callback).__name__} set the learning rate: "
            "remove the callback, or take `lr` out of the plan"
        )


# --- optimizers and schedulers --------------------------------------------------------------------


def check_moved_keys(trainer: Trainer, names: Collection[str]) -> None:
    """Check that no scheduler of the module and no callback moves what the plan moves.

    Raises:
        InputError: one does.
    """
    if "lr" in _moved_keys(names, trainer.optimizers):
        for callback in callbacks_of(trainer):
            _check_own_rates(callback)
    for config in trainer.lr_scheduler_configs:
        scheduler = config.scheduler
        own = getattr(scheduler, "optimizer", None)
        keys = _moved_keys(names, trainer.optimizers if own is None else [own])
        if "lr" in keys:
            moved = "learning rate"
        elif "momentum" in keys and getattr(scheduler, "cycle_momentum", False):
            moved = "momentum"
        else:
            continue
        raise TrainingRefusedError(
            f"both the plan and the module's {type(scheduler).__name__} set the {moved}: "
            "return only the optimizer from configure_optimizers, without lr_scheduler"
        )


def _moved_keys(names: Iterable[str], optimizers: Iterable[Optimizer]) -> list[str]:
    return moved_keys(names, [group for o in optimizers for group in o.param_groups])


# --- data -----------------------------------------------------------------------------------------


def check_data(trainer: Trainer, timetable: Timetable, moving: Collection[str]) -> None:
    """Check that there are validation batches, and that the steps are known if values need them.

    Raises:
        InputError: one of this is not so.
    """
    counts = trainer.num_val_batches
    counts = counts if isinstance(counts, list) else [counts]
    if counts and not sum(counts):
        raise TrainingRefusedError(
            "the validation data has no batch, but the schedules need a validation after each "
            "epoch of the plan: pass `val_dataloaders` with data, and set limit_val_batches above 0"
        )
    if not moving:
        return
    names = ", ".join(moving)
    if not timetable.knows_steps:
        raise TrainingRefusedError(
            f'{names}: the interval is "step", but the number of batches of an epoch is not '
            "known: give the data loader a length, or set limit_train_batches of the trainer to a "
            "number of batches that it has in every epoch"
        )
    step = trainer.lightning_module.training_step
    if is_param_in_hook_signature(step, "dataloader_iter", explicit=True):
        raise TrainingRefusedError(
            f'{names}: the interval is "step", but training_step takes batches from '
            "dataloader_iter itself, so their number in a step is not known: let it take `batch`"
        )


# --- metrics --------------------------------------------------------------------------------------


def check_metric(metric: str, logged: Collection[str]) -> None:
    """Check that a validation has logged the metric of the objective.

    Raises:
        InputError: it has not.
    """
    if metric in logged:
        return
    loaders = [name for name in logged if name.startswith(f"{metric}/dataloader_idx_")]
    if loaders:
        hint = (
            f"there are several validation loaders: pass metric={loaders[0]!r} to "
            "ScheduleCallback, or log it with add_dataloader_idx=False for one of them"
        )
    else:
        similar = did_you_mean(metric, logged)
        hint = (f"{similar} " if similar else "") + (
            "log it in every validation, in validation_step with on_epoch=True or in "
            "on_validation_epoch_end, or pass another metric to ScheduleCallback"
        )
    found = f"it has {', '.join(logged)}" if logged else "no metric was logged in it"
    raise TrainingRefusedError(f"the validation has no metric `{metric}`, {found}: {hint}")
