"""Tells the groups that transformers' Trainer keeps free of weight decay from the others."""

from __future__ import annotations

from collections.abc import Collection

from torch import nn
from torch.optim import Optimizer
from transformers import Trainer

from schedsearch.parameter_groups import (
    initial_value,
    record_initial,
    set_initial,
    setting_name,
)

_KEY = "weight_decay"


def record_decay_groups(
    names: Collection[str], trainer: Trainer, model: nn.Module, optimizer: Optimizer
) -> None:
    """Let a weight decay of the plan spare biases and norms if TrainingArguments has none.

    The Trainer makes a group of biases and norms, but at the weight decay of 0, its default, all
    groups begin alike. Groups that the Trainer would not make are left as they are.

    Args:
        names: the hyperparameters that the plan sets.
        trainer: has made the groups.
        model: the one that the optimizer trains.
        optimizer: before its first step.
    """
    groups = [g for g in optimizer.param_groups if setting_name(_KEY, names, g) == _KEY]
    if not groups or any(initial_value(_KEY, group) != 0 for group in groups):
        return
    decayed = set(trainer.get_decay_parameter_names(model))
    in_decay = {id(p): name in decayed for name, p in model.named_parameters()}
    kinds = [{in_decay.get(id(p)) for p in group["params"]} for group in groups]
    if all(kind in ({True}, {False}) for kind in kinds):
        record_initial(_KEY, optimizer.param_groups)  # all of them are from the beginning
        for group, kind in zip(groups, kinds, strict=True):
            set_initial(_KEY, group, float(kind == {True}))
