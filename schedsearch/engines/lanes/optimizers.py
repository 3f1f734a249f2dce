"""SGD, Adam and AdamW for stacked parameters, with separate hyperparameters for each lane.

The formulas are those of torch.optim. Factors that depend only on the hyperparameters and the
number of steps are computed in float64 before the step, one per lane: the coefficients.
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
#: Returns coefficients, (steps, coefficients, lanes), for values by name, each (lanes,) or
#: (steps, lanes), and the number of each step, (steps, lanes), counted from 1; all float64.
Coefficients: TypeAlias = Callable[[Mapping[str, Tensor], Tensor], Tensor]
#: Returns the updated parameter and moments, for a parameter, its gradient, moments, coefficients.
Update: TypeAlias = Callable[
    [Tensor, Tensor, Sequence[Tensor], Sequence[Tensor]], tuple[Tensor, list[Tensor]]
]


@dataclass(frozen=True)
class LaneOptimizer:
    """An optimizer as functions of tensors.

    Attributes:
        defaults: torch's defaults of the hyperparameters that a task may leave out.
        moments: the names of its state tensors per parameter.
        size: the number of coefficients of a step.
        coefficients: computes the coefficients.
        update: computes a step.
    """

    defaults: Mapping[str, float]
    moments: tuple[str, ...]
    size: int
    coefficients: Coefficients
    update: Update


def _sgd_coefficients(values: Mapping[str, Tensor], counts: Tensor) -> Tensor:
    rows = [values["lr"], values["weight_decay"], values["momentum"]]
    return torch.stack([row.expand_as(counts) for row in rows], dim=1)


def _sgd(
    parameter: Tensor, gradient: Tensor, moments: Sequence[Tensor], coefficients: Sequence[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """Update a parameter; without momentum the buffer stays unchanged, as in torch."""
    lr, weight_decay, momentum = coefficients
    [buffer] = moments
    gradient = gradient + weight_decay * parameter
    accumulated = momentum * buffer + gradient
    has_momentum = momentum != 0
    step = torch.where(has_momentum, accumulated, gradient)
    return parameter - lr * step, [torch.where(has_momentum, accumulated, buffer)]


def _adam_coefficients(values: Mapping[str, Tensor], counts: Tensor) -> Tensor:
    momentum = values["momentum"]
    rows = [
        1 - momentum.expand_as(counts),
        values["lr"] / (1 - _powers(momentum, counts)),
        (1 - _BETA2**counts).rsqrt(),
        values["weight_decay"].expand_as(counts),
    ]
    return torch.stack(rows, dim=1)


def _powers(base: Tensor, exponents: Tensor) -> Tensor:
    """Return base ** exponents, (steps, lanes), for a base (lanes,) or (steps, lanes).

    The last bit of a power depends on the layout of the tensors. A base with steps is raised row by
    row, as a base without is, so that a lane whose value is held has the same bits in both.
    """
    if base.dim() == 1:
        return base**exponents
    return torch.stack([row**count for row, count in zip(base, exponents, strict=True)])


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
