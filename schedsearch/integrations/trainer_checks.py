"""Refuses settings of the Trainer of transformers with which it would not train by the plan.

All checks come before the first optimizer step. Each error names the setting and the value to set.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import (
    Trainer,
    TrainerCallback,
    TrainerState,
    TrainingArguments,
    get_constant_schedule,
)
from transformers.trainer_utils import has_length

from schedsearch.errors import CheckpointRefusedError, TrainingRefusedError
from schedsearch.integrations.evaluation_intervals import EvaluationIntervals
from schedsearch.parameter_groups import moved_keys


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
    return repr([_text(option) for option in value]) if isinstance(value, list) else repr(value)


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
    settings.append(f"eval_strategy='{_text(args.eval_strategy)}'")
    if args.eval_strategy == "steps":
        settings.append(f"eval_steps={args.eval_steps}")
    if args.gradient_accumulation_steps > 1:
        settings.append(f"gradient_accumulation_steps={args.gradient_accumulation_steps}")
    return ", ".join(settings)


def check_learning_rate_scheduler(args: TrainingArguments, scheduler: Any) -> None:
    """Check that the Trainer's scheduler leaves the learning rate to the plan.

    Raises:
        InputError: it may change it.
    """
    constant = get_constant_schedule(torch.optim.SGD([torch.zeros(1)], lr=0.1)).lr_lambdas[0]
    if isinstance(scheduler, LambdaLR) and all(f is constant for f in scheduler.lr_lambdas):
        return
    raise TrainingRefusedError(
        f"the plan moves the learning rate, and so does the {type(scheduler).__name__} of "
        f"lr_scheduler_type='{_text(args.lr_scheduler_type)}' or of `optimizers`: set "
        "lr_scheduler_type='constant', and where you pass `optimizers`, pass None as the scheduler"
    )


def check_optimizer(
    args: TrainingArguments, model: nn.Module, optimizer: Optimizer, names: Collection[str]
) -> None:
    """Check that the values of a plan reach the parameters through the optimizer.

    Args:
        args: of the Trainer.
        model: its parameters are trained.
        optimizer: of the Trainer.
        names: the hyperparameters that the plan sets.

    Raises:
        InputError: a value would have no effect, or another one than its name says.
    """
    groups = optimizer.param_groups
    keys = set(moved_keys(names, groups))
    if keys:
        _check_implementation(args, model, groups, keys)
    if "lr" in keys:
        _check_own_learning_rate(groups)


def _check_implementation(
    args: TrainingArguments, model: nn.Module, groups: Sequence[dict[str, Any]], keys: set[str]
) -> None:
    moved = ", ".join(sorted(keys))
    if getattr(args, "deepspeed_plugin", None) is not None or args.deepspeed:
        raise TrainingRefusedError(
            f"the plan moves {moved}, but DeepSpeed has its own optimizer: set deepspeed=None"
        )
    trained = {id(parameter) for parameter in model.parameters()}
    optimized = {id(parameter) for group in groups for parameter in group["params"]}
    if _text(args.optim) in ("lomo", "adalomo") or not (trained & optimized or args.fsdp):
        raise TrainingRefusedError(
            f"the plan moves {moved}, but optim='{_text(args.optim)}' has optimizers or updates "
            "other than those of its parameter groups: set optim='adamw_torch', or another "
            "optimizer that is neither layer-wise nor lomo"
        )


def _check_own_learning_rate(groups: Iterable[dict[str, Any]]) -> None:
    for group in groups:
        if group.get("relative_step"):
            raise TrainingRefusedError(
                "the plan moves the learning rate, but Adafactor computes its own: set "
                "relative_step=False and warmup_init=False, as optim='adafactor' does"
            )
        if group.get("warmup_steps"):
            raise TrainingRefusedError(
                "the plan moves the learning rate, and so does the optimizer in its first "
                f"{group['warmup_steps']} steps: set warmup_steps=0"
            )


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


def _text(option: str) -> str:
    """Return an option that is a text or a member of an enumeration, as the user writes it."""
    return str(getattr(option, "value", option))
