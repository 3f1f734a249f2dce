"""SGD, Adam and AdamW over stacked parameters, each lane with values of its own.

The arithmetic is that of torch.optim. What depends on the hyperparameters and on the count of steps
alone is computed in float64 ahead of the step, a number per lane: the coefficients.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

import torch
from torch import Tensor

from schedsearch.task import OptimizerName

_BETA2 = 0.999
_EPS = 1e-8
#: From values by name, each (lanes,), and the number of each step, (steps, lanes), counted from 1,
#: to the coefficients, (steps, coefficients, lanes); all float64.
Coefficients: TypeAlias = Callable[[Mapping[str, Tensor], Tensor], Tensor]
#: From a parameter, its gradient, its moments and coefficients to the next parameter and moments.
Update: TypeAlias = Callable[
    [Tensor, Tensor, Sequence[Tensor], Sequence[Tensor]], tuple[Tensor, list[Tensor]]
]


@dataclass(frozen=True)
class LaneOptimizer:
    """An optimizer as a rule on tensors.

    Attributes:
        defaults: torch's, of the hyperparameters that a task may leave out.
        moments: the names of its state of a parameter.
        size: how many coefficients a step has.
    """

    defaults: Mapping[str, float]
    moments: tuple[str, ...]
    size: int
    coefficients: Coefficients
    update: Update


def _sgd_coefficients(values: Mapping[str, Tensor], counts: Tensor) -> Tensor:
    constant = torch.stack([values["lr"], values["weight_decay"], values["momentum"]])
    return constant.expand(len(counts), *constant.shape)


def _sgd(
    parameter: Tensor, gradient: Tensor, moments: Sequence[Tensor], coefficients: Sequence[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """Descend; without momentum the buffer rests, as torch leaves it."""
    lr, weight_decay, momentum = coefficients
    [buffer] = moments
    gradient = gradient + weight_decay * parameter
    gathered = momentum * buffer + gradient
    moving = momentum != 0
    step = torch.where(moving, gathered, gradient)
    return parameter - lr * step, [torch.where(moving, gathered, buffer)]


def _adam_coefficients(values: Mapping[str, Tensor], counts: Tensor) -> Tensor:
    beta1 = values["momentum"].expand_as(counts)
    rows = [
        1 - beta1,
        values["lr"] / (1 - beta1**counts),
        (1 - _BETA2**counts).rsqrt(),
        values["weight_decay"].expand_as(counts),
    ]
    return torch.stack(rows, dim=1)


def _adamw_coefficients(values: Mapping[str, Tensor], counts: Tensor) -> Tensor:
    decay = values["lr"] * values["weight_decay"]
    return _adam_coefficients({**values, "weight_decay": decay}, counts)


def _adam(
    parameter: Tensor, gradient: Tensor, moments: Sequence[Tensor], coefficients: Sequence[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    weight, size, correction, weight_decay = coefficients
    gradient = gradient + weight_decay * parameter
    return _adam_step(parameter, gradient, moments, (weight, size, correction))


def _adamw(
    parameter: Tensor, gradient: Tensor, moments: Sequence[Tensor], coefficients: Sequence[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    weight, size, correction, decay = coefficients
    parameter = parameter - decay * parameter
    return _adam_step(parameter, gradient, moments, (weight, size, correction))


def _adam_step(
    parameter: Tensor, gradient: Tensor, moments: Sequence[Tensor], coefficients: Sequence[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    weight, size, correction = coefficients
    mean, square = moments
    mean = torch.lerp(mean, gradient, weight)
    square = _BETA2 * square + (1 - _BETA2) * gradient * gradient
    return parameter - size * mean / (square.sqrt() * correction + _EPS), [mean, square]


_ADAM_DEFAULTS = {"weight_decay": 0.0, "momentum": 0.9}
_ADAM_MOMENTS = ("exp_avg", "exp_avg_sq")
LANE_OPTIMIZERS: Mapping[OptimizerName, LaneOptimizer] = MappingProxyType(
    {
        "sgd": LaneOptimizer(
            {"weight_decay": 0.0, "momentum": 0.0}, ("momentum_buffer",), 3, _sgd_coefficients, _sgd
        ),
        "adam": LaneOptimizer(_ADAM_DEFAULTS, _ADAM_MOMENTS, 4, _adam_coefficients, _adam),
        "adamw": LaneOptimizer(
            {**_ADAM_DEFAULTS, "weight_decay": 0.01}, _ADAM_MOMENTS, 4, _adamw_coefficients, _adamw
        ),
    }
)
