"""A physics-informed network for the Helmholtz equation.

The equation is u_xx + u_yy + u = q on [-1, 1]², u = 0 on the boundary, with q chosen such that
u = sin(pi x) sin(2 pi y). Training data: 1,920 points of the boundary, drawn from the seed; the
equation is imposed at 192 points drawn anew at each step. Model: tanh MLP 2-24-24-24-1, Adam, 100
epochs of 20 steps.

Scheduled: `lr`. Adam's steps do not shrink with the gradient, so a constant rate is either slow
early or noisy late: error(end) grows with lr, distance covered grows with the sum of lr. The metric
`error` is |u - exact| / |exact| in the 2-norm, on two different fixed grids for validation and
test. Runtime: 5 seconds per run on one core.

Source: Wang, Teng and Perdikaris (2021), Understanding and mitigating gradient flow pathologies in
physics-informed neural networks (the problem, there with a higher frequency).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn

from schedsearch.task import Examples, OptimizerName, Splits
from schedsearch.tasks._networks import JetMLP

_INTERIOR = 192
_BOUNDARY = 96
_STEPS = 20


def exact(points: Tensor) -> Tensor:
    """Return sin(pi x) sin(2 pi y) at points (N, 2)."""
    return torch.sin(math.pi * points[..., 0]) * torch.sin(2 * math.pi * points[..., 1])


def _grid(columns: int, rows: int) -> Examples:
    """Return the centres of the cells that divide the square, and the exact solution there."""
    x = -1 + (2 * torch.arange(columns) + 1) / columns
    y = -1 + (2 * torch.arange(rows) + 1) / rows
    points = torch.cartesian_prod(x, y)
    return {"point": points, "u": exact(points)}


def _boundary(count: int, seed: int) -> Examples:
    """Return points of the four sides, a quarter each."""
    generator = torch.Generator().manual_seed(seed)
    along = 2 * torch.rand(count, generator=generator) - 1
    across = torch.ones(count)
    across[::2] = -1
    points = torch.stack([along, across], dim=-1)
    points[count // 2 :] = points[count // 2 :].flip(-1)
    return {"point": points}


class Helmholtz:
    """The Helmholtz equation by a physics-informed network; minimise the relative `error`."""

    hyperparameters: Mapping[str, float] = MappingProxyType(
        {"lr": 0.005, "momentum": 0.9, "weights.equation": 1.0, "weights.boundary": 300.0}
    )
    optimizer: OptimizerName = "adam"
    batch_size: int = _BOUNDARY
    steps_per_epoch: int | None = _STEPS
    noise: Mapping[str, tuple[int, ...]] = MappingProxyType({"interior": (_INTERIOR, 2)})

    def data(self, seed: int) -> Splits:
        return Splits(
            train=_boundary(_BOUNDARY * _STEPS, seed), validation=_grid(32, 40), test=_grid(49, 51)
        )

    def model(self, seed: int) -> nn.Module:
        return JetMLP((2, 24, 24, 24, 1), seed)

    def terms(
        self,
        model: nn.Module,
        batch: Examples,
        hp: Mapping[str, Tensor],
        noise: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        """Return the two mean squares; the normal noise becomes uniform in the square."""
        interior = 2 * torch.special.ndtr(noise["interior"]) - 1
        value, _, (u_xx, u_yy) = model(torch.cat([interior, batch["point"]]))
        source = (1 - 5 * math.pi**2) * exact(interior)
        residual = (u_xx + u_yy + value)[:_INTERIOR] - source
        boundary = value[_INTERIOR:]
        return {"equation": residual.square().mean(), "boundary": boundary.square().mean()}

    def metrics(self, model: nn.Module, split: Examples) -> dict[str, Tensor]:
        misfit = model(split["point"]).value - split["u"]
        return {"error": misfit.norm() / split["u"].norm()}
