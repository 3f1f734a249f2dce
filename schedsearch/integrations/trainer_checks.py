"""Refuses settings of the Trainer of transformers with which it would not train by the plan.

All checks come before the first optimizer step. Each error names the setting and the value to set.
"""

from __future__ import annotations

import inspect
import math
from typing import Any

from transformers import (
    Trainer,
    TrainerCallback,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_utils import has_length

from schedsearch.errors import CheckpointRefusedError, TrainingRefusedError
from schedsearch.integrations.evaluation_intervals import EvaluationIntervals


def calling_trainer(callback: TrainerCallback) -> Trainer | None:
    """Return the Trainer that calls a callback; None if it is another class.

    The Trainer passes neither itself nor its other callbacks to a callback, so its frame is found.
    """
    frame = inspect.currentframe()
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, Trainer) and callback in owner.callback_handler.callbacks:
            return owner
        frame = frame.f_back
    return None


def check_processes(args: TrainingArguments, processes: int) -> None:
    """Check that as many processes train as belong to a trial, and one outside of a search.

    Args:
        args: of the Trainer.
        processes: of the trial.

    Raises:
        InputError: it is another number, or the model is divided among processes.
    """
    # `parallelism_config` and `deepspeed` have an effect only in several processes.
    if processes > 1 and args.world_size != processes:
        raise TrainingRefusedError(
            f"{processes} processes train the trial, but args.world_size is {args.world_size}: "
            "make the TrainingArguments in the function `train(run)`, and on the CPU set "
            "use_cpu=True and ddp_backend='gloo'"
        )
    if processes == 1 and args.world_size > 1:
        raise TrainingRefusedError(
            f"ScheduleCallback works in a single process, but args.world_size is {args.world_size} "
            f"and args.process_index {args.process_index}: start the script as `python SCRIPT`, "
            "not by torchrun or `accelerate launch` with several processes; a search can use "
            "several, by `start --processes-per-trial N`"
        )
    if args.fsdp:
        raise TrainingRefusedError(
            f"ScheduleCallback needs the whole model, but fsdp is {_setting(args.fsdp)}, which "
            "divides the model among processes: set fsdp=None"
        )


def _setting(value: Any) -> str:
    """Return a value of the arguments as the user writes it; fsdp is a list of options in some."""
    return (
        repr([option_text(option) for option in value]) if isinstance(value, list) else repr(value)
    )


def evaluation_intervals(
    args: TrainingArguments, state: TrainerState, loader: Any
) -> EvaluationIntervals:
    """Return the intervals of a training.

    Raises:
        InputError: the Trainer does not evaluate, not at regular intervals, or its data loader has
            no length.
    """
    if args.eval_strategy == "no":
        raise TrainingRefusedError(
            "ScheduleCallback needs the evaluation after each epoch of the plan: set "
            "eval_strategy='epoch', or 'steps' with eval_steps"
        )
    if args.eval_strategy == "steps":
        length = int(state.eval_steps)
    elif has_length(loader):
        length = max(math.ceil(len(loader) / args.gradient_accumulation_steps), 1)
    else:
        raise TrainingRefusedError(
            "eval_strategy='epoch': the number of batches of an epoch is not known, since the "
            "training data has no length: set eval_strategy='steps' and eval_steps, or give the "
            "training data set a length"
        )
    intervals = EvaluationIntervals(length, state.max_steps)
    first = intervals.steps_of(0) / (1 if args.eval_strategy == "steps" else length)
    if args.eval_delay > first:
        raise TrainingRefusedError(
            f"eval_delay={args.eval_delay} leaves out evaluations, but each evaluation ends an "
            "epoch of the plan: set eval_delay=0"
        )
    return intervals


def check_position(
    intervals: EvaluationIntervals, args: TrainingArguments, step: int, epoch: int, horizon: int
) -> None:
    """Check that the training and the plan end together, and are at the same epoch now.

    Args:
        intervals: of the training.
        args: of the Trainer.
        step: the number of optimizer steps at the beginning: more than 0 after a checkpoint.
        epoch: the number of epochs of the plan that have ended.
        horizon: the number of epochs of the plan.

    Raises:
        InputError: they do not.
    """
    trained = intervals.completed(step)
    if epoch + intervals.count - trained != horizon:
        if epoch == trained:
            raise TrainingRefusedError(_horizon_message(intervals, args, horizon))
        if step == 0:
            raise TrainingRefusedError(
                f"the plan is after epoch {epoch} of {horizon} already, but the Trainer begins a "
                f"training with {intervals.count} evaluations: pass a new scheduler for each "
                "training, as in ScheduleCallback(config.scheduler(), ...); if "
                "auto_find_batch_size began it again in a search, set "
                "per_device_train_batch_size to a smaller value instead"
            )
        raise CheckpointRefusedError(
            f"the checkpoint is after {trained} of {intervals.count} evaluations, but its plan is "
            f"after epoch {epoch} of {horizon}: resume with the settings of its training, from a "
            "checkpoint that was saved after an evaluation"
        )
    if args.eval_strategy == "epoch" and args.ignore_data_skip and intervals.step_within(step):
        raise CheckpointRefusedError(
            "ignore_data_skip=True begins the data epoch of the checkpoint again, so the epoch of "
            "the plan would be longer: set ignore_data_skip=False"
        )


def _horizon_message(intervals: EvaluationIntervals, args: TrainingArguments, horizon: int) -> str:
    by_steps = args.max_steps > 0
    if args.eval_strategy == "epoch":
        advice = f"num_train_epochs={horizon}" + (" and max_steps=-1" if by_steps else "")
        if not by_steps and args.num_train_epochs == horizon:
            # Versions 4 do not count the last, shorter step of gradient accumulation.
            advice = f"max_steps={horizon * intervals.length}"
    else:
        length = math.ceil(intervals.total / horizon)
        if EvaluationIntervals(length, intervals.total).count == horizon:
            advice = f"eval_steps={length}"
        else:
            advice = f"max_steps={horizon * intervals.length}"
    return (
        f"the plan has {horizon} epochs, but the Trainer evaluates {intervals.count} times, and "
        f"each evaluation ends an epoch of the plan ({_length_settings(args)}; "
        f"{intervals.length} of {intervals.total} optimizer steps between evaluations): set "
        f"{advice}, or a horizon of {intervals.count}"
    )


def _length_settings(args: TrainingArguments) -> str:
    """Return the settings that the number of evaluations depends on, as the user writes them."""
    training = "max_steps" if args.max_steps > 0 else "num_train_epochs"
    settings = [f"{training}={getattr(args, training)}"]
    settings.append(f"eval_strategy='{option_text(args.eval_strategy)}'")
    if args.eval_strategy == "steps":
        settings.append(f"eval_steps={args.eval_steps}")
    if args.gradient_accumulation_steps > 1:
        settings.append(f"gradient_accumulation_steps={args.gradient_accumulation_steps}")
    return ", ".join(settings)


def check_trainer(trainer: Trainer, callback_type: type, metric: str) -> None:
    """Check what only the Trainer knows: its callbacks, and the names of its metrics.

    Raises:
        InputError: it has two of these callbacks, or cannot give the metric.
    """
    if sum(isinstance(c, callback_type) for c in trainer.callback_handler.callbacks) > 1:
        raise TrainingRefusedError(
            "the Trainer has two ScheduleCallbacks: pass one, with a plan of all hyperparameters"
        )
    if any(
        not getattr(type(trainer), method).__module__.startswith("transformers.")
        for method in ("evaluate", "evaluation_loop", "_evaluate")
    ):
        return  # a subclass may give other metrics
    names = [""]
    if isinstance(trainer.eval_dataset, dict):
        names = [f"{name}_" for name in trainer.eval_dataset]
    wanted = possible_names(metric)
    if trainer.compute_metrics is None or trainer.args.prediction_loss_only:
        known = [f"eval_{name}loss" for name in names]
        if not any(name in known for name in wanted):
            raise TrainingRefusedError(
                f"the metric is `{metric}`, but the evaluation gives only {', '.join(known)}: set "
                "metric= of ScheduleCallback to one of these, or pass compute_metrics to the "
                "Trainer (with prediction_loss_only=False)"
            )
    elif not any(w.startswith(f"eval_{name}") for name in names for w in wanted):
        raise TrainingRefusedError(
            f"the metric is `{metric}`, but the evaluation sets have names: set metric= of "
            f"ScheduleCallback to one of {', '.join(f'eval_{name}...' for name in names)}"
        )


def possible_names(metric: str) -> tuple[str, ...]:
    """Return the names of a metric in the Trainer: as given, and as metric_for_best_model reads it.

    >>> possible_names("loss"), possible_names("eval_loss")
    (('loss', 'eval_loss'), ('eval_loss',))
    """
    return (metric,) if metric.startswith("eval_") else (metric, f"eval_{metric}")


def option_text(option: str) -> str:
    """Return an option that is a text or a member of an enumeration, as the user writes it."""
    return str(getattr(option, "value", option))
