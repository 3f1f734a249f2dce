"""What ScheduleCallback refuses in a training by Lightning, before its first step."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    BatchSizeFinder,
    GradientAccumulationScheduler,
    LearningRateFinder,
    StochasticWeightAveraging,
)
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature

from schedsearch.errors import InputError, did_you_mean
from schedsearch.integrations.driver import ScheduleDriver
from schedsearch.integrations.timetable import Timetable


def timetable_of(trainer: Trainer) -> Timetable:
    """Return the validations and optimizer steps that the settings of a trainer give."""
    check_every = trainer.val_check_batch
    return Timetable(
        trainer.num_training_batches,
        # Before the data loader is set up, the number of batches is not known either.
        math.inf if check_every is None else check_every,
        trainer.check_val_every_n_epoch,
        _accumulation(trainer),
    )


def _accumulation(trainer: Trainer) -> tuple[tuple[int, int], ...]:
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, GradientAccumulationScheduler):
            return tuple((e, callback.get_accumulate_grad_batches(e)) for e in callback.epochs)
    return ((0, trainer.accumulate_grad_batches),)


def moves_learning_rate(names: Iterable[str]) -> bool:
    """Return whether hyperparameters include a learning rate."""
    return any(name == "lr" or name.endswith(".lr") for name in names)


# --- settings of the trainer ----------------------------------------------------------------------


def check_settings(trainer: Trainer, driver: ScheduleDriver) -> None:
    """Check the settings that do not depend on data and optimizers.

    Raises:
        InputError: a setting cannot give the values of the plan.
    """
    _check_processes(trainer)
    _check_batches(trainer)
    if trainer.barebones:
        raise InputError(
            "barebones=True logs no metric, but the schedules need a validation metric: set "
            "barebones=False"
        )
    if getattr(trainer, "_val_check_time_interval", None) is not None:
        raise InputError(
            "val_check_interval is a time, so the length of an epoch of the plan would depend on "
            "the speed of the machine: set val_check_interval to a number of batches, or to a "
            "share of the training epoch such as 0.5"
        )
    if _is_dev_run(trainer) and driver.is_search:
        raise InputError(
            "fast_dev_run trains only a few batches, which is no trial of a search: set "
            "fast_dev_run=False"
        )
    _check_callbacks(trainer.callbacks, driver)  # type: ignore[attr-defined]


def _is_dev_run(trainer: Any) -> bool:
    return bool(trainer.fast_dev_run)


def _check_processes(trainer: Trainer) -> None:
    strategy = type(trainer.strategy).__name__
    spawns = isinstance(trainer.strategy.launcher, _MultiProcessingLauncher)
    if trainer.world_size > 1 or spawns or trainer.strategy.handles_gradient_accumulation:
        raise InputError(
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
        raise InputError(f"the schedules need a validation after each epoch of the plan; {how}")
    for name, value in (
        ("limit_train_batches", trainer.limit_train_batches),
        ("max_epochs", trainer.max_epochs),
        ("max_steps", trainer.max_steps),
    ):
        if value == 0:
            raise InputError(f"{name} is {value}, so nothing would be trained: set another number")


def _check_callbacks(callbacks: Iterable[Any], driver: ScheduleDriver) -> None:
    moves = moves_learning_rate(driver.names)
    for callback in callbacks:
        name = type(callback).__name__
        if isinstance(callback, StochasticWeightAveraging):
            raise InputError(
                f"{name} sets learning rates, and may add a training epoch that the plan does not "
                "have: use WeightAveraging or EMAWeightAveraging instead"
            )
        if isinstance(callback, BackboneFinetuning | LearningRateFinder) and moves:
            raise InputError(
                f"both the plan and the callback {name} set the learning rate: remove the "
                "callback, or take `lr` out of the plan"
            )
        if isinstance(callback, BatchSizeFinder) and driver.is_search:
            raise InputError(
                f"{name} chooses another batch size on another machine, so trials could not be "
                "compared: find the batch size before the search, with "
                "Tuner(Trainer()).scale_batch_size(module), and remove the callback"
            )


# --- optimizers and schedulers --------------------------------------------------------------------


def check_schedulers(trainer: Trainer, names: Collection[str]) -> None:
    """Check that no scheduler of the module moves what the plan moves.

    Raises:
        InputError: one does.
    """
    for config in trainer.lr_scheduler_configs:
        cycles_momentum = getattr(config.scheduler, "cycle_momentum", False)
        if moves_learning_rate(names):
            moved = "learning rate"
        elif "momentum" in names and cycles_momentum:
            moved = "momentum"
        else:
            continue
        raise InputError(
            f"both the plan and the module's {type(config.scheduler).__name__} set the {moved}: "
            "return only the optimizer from configure_optimizers, without lr_scheduler"
        )


# --- the horizon ----------------------------------------------------------------------------------


def check_horizon(trainer: Trainer, timetable: Timetable, horizon: int) -> None:
    """Check that the limits of a trainer let the plan come to its horizon, and no further.

    Raises:
        InputError: the training ends before the horizon, or must not end there.
    """
    if _is_dev_run(trainer) or not timetable.knows_validations:
        return
    limits = _limits(trainer, timetable)
    validations = timetable.validations(*limits)
    if validations < horizon:
        raise InputError(_too_few(trainer, timetable, horizon, limits))
    # Lightning sets 1000 training epochs if it is given no limit.
    has_limit = (trainer.max_epochs, trainer.max_steps) != (1000, -1)
    if horizon < validations < math.inf and has_limit:
        raise InputError(_too_many(trainer, timetable, horizon, limits))
    epoch, batch = timetable.position(horizon)
    steps = timetable.steps_before((epoch, batch)) if timetable.knows_steps else math.inf
    for name, least, end in (
        ("min_epochs", trainer.min_epochs, epoch + 1),
        ("min_steps", trainer.min_steps, steps),
    ):
        if least is not None and least > end:
            raise InputError(
                f"{name} is {least}, but the plan ends at its horizon of {horizon} epochs, after "
                f"{end} {name.removeprefix('min_')}: set {name} to at most {end}"
            )


def _limits(trainer: Trainer, timetable: Timetable) -> tuple[float, float]:
    """Return the limits of training epochs and of optimizer steps; infinite if there is none."""
    epochs = math.inf if trainer.max_epochs in (None, -1) else float(trainer.max_epochs or 0)
    if timetable.batches == math.inf and timetable.counts_across_epochs:
        epochs = math.inf  # their number of validations is not known
    automatic = trainer.lightning_module.automatic_optimization
    if trainer.max_steps == -1 or not automatic or not timetable.knows_steps:
        return epochs, math.inf
    return epochs, trainer.max_steps


def _too_few(
    trainer: Trainer, timetable: Timetable, horizon: int, limits: tuple[float, float]
) -> str:
    position = timetable.position(horizon)
    if timetable.reaches(horizon, math.inf, limits[1]):
        name, least = "max_epochs", position[0] + 1
    else:
        name, least = "max_steps", timetable.steps_before(position)
    validations = timetable.validations(*limits)
    return (
        f"{_numbers(trainer, horizon, validations)}; set {name} to {least}, or make a plan with "
        "another horizon"
    )


def _too_many(
    trainer: Trainer, timetable: Timetable, horizon: int, limits: tuple[float, float]
) -> str:
    epoch, batch = timetable.position(horizon)
    if limits[1] < math.inf:
        way_out = f"set max_steps to {timetable.steps_before((epoch, batch))}"
    elif timetable.validations(epoch + 1, math.inf) == horizon:
        way_out = f"set max_epochs to {epoch + 1}"
    else:
        way_out = "set max_epochs to -1"
    validations = timetable.validations(*limits)
    return (
        f"{_numbers(trainer, horizon, validations)}; {way_out}, so that the training ends with the "
        f"plan, or val_check_interval to another length, or make a plan with a horizon of "
        f"{validations}"
    )


def _numbers(trainer: Trainer, horizon: int, validations: float) -> str:
    return (
        f"the plan has {horizon} epochs, and an epoch is what lies between two validations, but "
        f"the trainer validates {validations} times: max_epochs is {trainer.max_epochs}, max_steps "
        f"is {trainer.max_steps}, val_check_interval is {trainer.val_check_interval} and "
        f"check_val_every_n_epoch is {trainer.check_val_every_n_epoch}"
    )


# --- data -----------------------------------------------------------------------------------------


def check_data(trainer: Trainer, timetable: Timetable, moving: Collection[str]) -> None:
    """Check that there are validation batches, and that the steps are known if values need them.

    Raises:
        InputError: one of this is not so.
    """
    counts = trainer.num_val_batches
    counts = counts if isinstance(counts, list) else [counts]
    if counts and not sum(counts):
        raise InputError(
            "the validation data has no batch, but the schedules need a validation after each "
            "epoch of the plan"
        )
    if not moving:
        return
    names = ", ".join(moving)
    if not timetable.knows_steps:
        raise InputError(
            f'{names}: the interval is "step", but the number of batches of an epoch is not '
            "known: give the data loader a length, or set limit_train_batches of the trainer to a "
            "number of batches that it has in every epoch"
        )
    step = trainer.lightning_module.training_step
    if is_param_in_hook_signature(step, "dataloader_iter", explicit=True):
        raise InputError(
            f'{names}: the interval is "step", but training_step takes batches from '
            "dataloader_iter itself, so their number in a step is not known: let it take `batch`"
        )


def check_accumulation(trainer: Trainer, timetable: Timetable) -> None:
    """Check that gradients are accumulated over the number of batches that was known before.

    Raises:
        InputError: they are not.
    """
    expected = timetable.accumulated(trainer.current_epoch)
    if trainer.accumulate_grad_batches != expected:
        raise InputError(
            f"accumulate_grad_batches is {trainer.accumulate_grad_batches}, but it was {expected} "
            'at the beginning of the training epoch, and values at the interval "step" need the '
            "number of steps before: set it in the trainer, or by GradientAccumulationScheduler"
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
    raise InputError(
        f"the validation has no metric `{metric}`, only {', '.join(logged) or 'none at all'}: "
        f"{hint}"
    )
