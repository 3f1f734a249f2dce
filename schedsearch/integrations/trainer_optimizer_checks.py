"""Refuses optimizers and schedulers of the Trainer that would not follow the plan."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainingArguments, get_constant_schedule

from schedsearch.errors import TrainingRefusedError
from schedsearch.integrations.trainer_checks import option_text
from schedsearch.parameter_groups import moved_keys


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
        f"lr_scheduler_type='{option_text(args.lr_scheduler_type)}' or of `optimizers`: set "
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
    if option_text(args.optim) in ("lomo", "adalomo") or not (trained & optimized or args.fsdp):
        raise TrainingRefusedError(
            f"the plan moves {moved}, but optim='{option_text(args.optim)}' has optimizers or "
            "updates other than those of its parameter groups: set optim='adamw_torch', or another "
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
