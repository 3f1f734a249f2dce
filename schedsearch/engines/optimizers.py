"""The optimizers that a task can name, their hyperparameters, and their state as tensors."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from schedsearch.task import OPTIMIZER_HYPERPARAMETERS, OptimizerName


def make_optimizer(name: OptimizerName, model: nn.Module) -> torch.optim.Optimizer:
    """Return torch's own optimizer over the trainable parameters.

    They are fused: one call for all parameters, which takes half as long for small models.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    match name:
        case "sgd":
            return torch.optim.SGD(parameters, fused=True)
        case "adam":
            return torch.optim.Adam(parameters, fused=True)
        case "adamw":
            return torch.optim.AdamW(parameters, fused=True)


def set_hyperparameters(optimizer: torch.optim.Optimizer, values: Mapping[str, float]) -> None:
    """Set the scheduled values in the parameter groups; `momentum` is the first beta of Adam."""
    for group in optimizer.param_groups:
        for name in OPTIMIZER_HYPERPARAMETERS:
            if name not in values:
                continue
            if name == "momentum" and "betas" in group:
                group["betas"] = (values[name], group["betas"][1])
            else:
                group[name] = values[name]


def state_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """Return a copy of the optimizer's state, named `KEY.PARAMETER`."""
    return {
        f"{key}.{name}": tensor.detach().clone()
        for name, parameter in model.named_parameters()
        for key, tensor in optimizer.state.get(parameter, {}).items()
        if tensor is not None
    }


def load_state_tensors(
    optimizer: torch.optim.Optimizer, model: nn.Module, tensors: Mapping[str, Tensor]
) -> None:
    """Load a state that `state_tensors` returned, onto the devices of the parameters."""
    parameters = dict(model.named_parameters())
    for full_name, tensor in tensors.items():
        key, name = full_name.split(".", 1)
        parameter = parameters[name]
        optimizer.state[parameter][key] = tensor.detach().to(parameter.device, copy=True)
