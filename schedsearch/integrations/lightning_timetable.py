"""The timetable of a training by Lightning: what it is, and whether it ends with the plan."""

from __future__ import annotations

import math
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler

from schedsearch.errors import CheckpointRefusedError, TrainingRefusedError
from schedsearch.integrations.timetable import Position, Timetable


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


def callbacks_of(trainer: Any) -> list[Callback]:
    """Return the callbacks of a trainer, an attribute that Lightning sets without declaring it."""
    callbacks: list[Callback] = trainer.callbacks
    return callbacks


def _accumulation(trainer: Trainer) -> tuple[tuple[int, int], ...]:
    for callback in callbacks_of(trainer):
        if isinstance(callback, GradientAccumulationScheduler):
            return tuple((e, callback.get_accumulate_grad_batches(e)) for e in callback.epochs)
    return ((0, trainer.accumulate_grad_batches),)


def position_of(trainer: Trainer, timetable: Timetable, done: int) -> Position:
    """Return the position after so many batches of the training epoch."""
    if not timetable.counts_across_epochs:
        return trainer.current_epoch, done
    total = trainer.fit_loop.total_batch_idx - trainer.fit_loop.batch_idx + done
    if timetable.batches == math.inf:
        return 0, total
    return trainer.current_epoch, total - int(trainer.current_epoch * timetable.batches)


def describe(timetable: Timetable) -> str:
    """Return the batches of a training epoch, and those of a step, for a message."""
    sizes = ", ".join(str(size) for _, size in timetable.accumulation)
    return f"{timetable.batches:g} batches of a training epoch in steps of {sizes}"


def is_dev_run(trainer: Any) -> bool:
    """Return whether a trainer only tries a few batches."""
    return bool(trainer.fast_dev_run)


def check_accumulation(trainer: Trainer, timetable: Timetable) -> None:
    """Check that gradients are accumulated over the number of batches that was known before.

    Raises:
        InputError: they are not.
    """
    expected = timetable.accumulated(trainer.current_epoch)
    if trainer.accumulate_grad_batches != expected:
        raise TrainingRefusedError(
            f"accumulate_grad_batches is {trainer.accumulate_grad_batches}, but it was {expected} "
            'at the beginning of the training epoch, and values at the interval "step" need the '
            "number of steps before: set it in the trainer, or by GradientAccumulationScheduler"
        )


# --- the horizon ----------------------------------------------------------------------------------


def check_horizon(trainer: Trainer, timetable: Timetable, horizon: int) -> None:
    """Check that the limits of a trainer let the plan come to its horizon, and no further.

    Raises:
        InputError: the training ends before the horizon, or must not end there.
    """
    if is_dev_run(trainer) or not timetable.knows_validations:
        return
    limits = _limits(trainer, timetable)
    validations = timetable.validations(*limits)
    if validations < horizon:
        raise TrainingRefusedError(_too_few(trainer, timetable, horizon, limits))
    # Lightning sets 1000 training epochs if it is given no limit.
    has_limit = (trainer.max_epochs, trainer.max_steps) != (1000, -1)
    if horizon < validations < math.inf and has_limit:
        raise TrainingRefusedError(_too_many(trainer, timetable, horizon, limits))
    epoch, batch = timetable.position(horizon)
    steps = timetable.steps_before((epoch, batch)) if timetable.knows_steps else math.inf
    # With manual optimization Lightning counts the steps of every optimizer.
    min_steps = trainer.min_steps if trainer.lightning_module.automatic_optimization else None
    for name, least, end in (
        ("min_epochs", trainer.min_epochs, epoch + 1),
        ("min_steps", min_steps, steps),
    ):
        if least is not None and least > end:
            raise TrainingRefusedError(
                f"{name} is {least}, but the plan ends at its horizon of {horizon} epochs, after "
                f"{end} {name.removeprefix('min_')}: set {name} to at most {end}"
            )


def check_end(trainer: Trainer, ended: int, horizon: int, *, has_trained: bool) -> None:
    """Check that a training that ended before the horizon was meant to, by a callback or the user.

    Raises:
        InputError: the data or a limit of the trainer has ended it, or the checkpoint that it is
            resumed from.
    """
    if trainer.should_stop or is_dev_run(trainer):
        return
    if not has_trained:
        raise CheckpointRefusedError(
            f"the checkpoint was saved after the last batch, when the plan was after epoch {ended} "
            f"of {horizon}: Lightning neither trains nor repeats the last validation; resume from "
            "a checkpoint that was saved after a validation"
        )
    raise TrainingRefusedError(
        f"the training ended after {ended} of the {horizon} epochs of the plan, by max_epochs = "
        f"{trainer.max_epochs} or max_steps = {trainer.max_steps}: raise the limit, or make a plan "
        "whose horizon is the number of validations"
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
    way_out = f"set {name} to {least}"
    if validations:
        way_out += f", or make a plan with a horizon of {validations}"
    return f"{_numbers(trainer, horizon, validations)}; {way_out}"


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
        f"the plan has {horizon} epochs, each of which ends with a validation, but "
        f"the trainer validates {validations} times: max_epochs is {trainer.max_epochs}, max_steps "
        f"is {trainer.max_steps}, val_check_interval is {trainer.val_check_interval} and "
        f"check_val_every_n_epoch is {trainer.check_val_every_n_epoch}"
    )
