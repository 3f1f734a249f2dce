"""A physics-informed network for the viscous Burgers equation.

The equation is u_t + u u_x = nu u_xx with nu = 0.1 / pi, for x in [-1, 1] and t in [0, 1], from
u(x, 0) = -sin(pi x) with u = 0 at both ends. Training data: 1,920 points of the initial condition
and of the boundary, drawn from the seed; the equation is imposed at 192 points drawn anew at each
step. Model: tanh MLP 2-20-20-20-1, Adam, 100 epochs of 20 steps.

Scheduled: `weights.boundary`, the weight lambda in

    loss = mean (u_t + u u_x - nu u_xx)² + lambda * mean (u - given)².

The equation alone is solved by u = 0, so the data must weigh enough to choose the solution; but a
weight that does so early may leave the equation inexact at the end. The metric `error` is
|u - exact| / |exact| in the 2-norm, on two different fixed grids for validation and test. The exact
solution comes from the Cole-Hopf transformation. Runtime: 4 seconds per run on one core.

Sources: Raissi, Perdikaris and Karniadakis (2019), Physics-informed neural networks; Wang, Teng and
Perdikaris (2021), Understanding and mitigating gradient flow pathologies in physics-informed neural
networks; Basdevant et al. (1986), Spectral and finite difference solutions of the Burgers equation.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from schedsearch.task import Examples, OptimizerName, Splits
from schedsearch.tasks._networks import JetMLP

VISCOSITY = 0.1 / math.pi
_INTERIOR = 192
_BOUNDARY = 96
_STEPS = 20


def exact(x: NDArray[np.float64], t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the solution at positions x and times t > 0 (arrays of one shape).

    u(x, t) = -∫ sin(pi y) f(y) g(x - y) dy / ∫ f(y) g(x - y) dy with f(y) = exp(-cos(pi y) /
    (2 pi nu)) and g the heat kernel of variance 2 nu t, by Gauss-Hermite quadrature.

    >>> exact(np.array([0.0, 0.5, 1.0]), np.array([0.5, 0.5, 0.5])).round(6) + 0.0
    array([ 0.      , -0.574228,  0.      ])
    """
    nodes, weights = np.polynomial.hermite.hermgauss(120)
    y = x[..., None] - np.sqrt(4 * VISCOSITY * t)[..., None] * nodes
    density = weights * np.exp(-np.cos(np.pi * y) / (2 * np.pi * VISCOSITY))
    solution: NDArray[np.float64] = -(np.sin(np.pi * y) * density).sum(-1) / density.sum(-1)
    return solution


@functools.cache
def _grid(columns: int, rows: int) -> Examples:
    """Return the centres of the cells that divide the domain, and the exact solution there."""
    x = -1 + (2 * np.arange(columns) + 1) / columns
    t = (np.arange(rows) + 0.5) / rows
    mesh = np.stack(np.meshgrid(x, t), axis=-1).reshape(-1, 2)
    solution = exact(mesh[:, 0], mesh[:, 1])
    return {
        "point": torch.from_numpy(mesh).float(),
        "u": torch.from_numpy(solution).float(),
    }


def _given(count: int, seed: int) -> Examples:
    """Return points of the initial condition and of the boundary, half each, and u there."""
    generator = torch.Generator().manual_seed(seed)
    position = 2 * torch.rand(count // 2, generator=generator) - 1
    initial = torch.stack([position, torch.zeros_like(position)], dim=-1)
    time = torch.rand(count // 2, generator=generator)
    ends = torch.stack([torch.sign(torch.randn(count // 2, generator=generator)), time], dim=-1)
    values = torch.cat([-torch.sin(math.pi * position), torch.zeros_like(time)])
    return {"point": torch.cat([initial, ends]), "u": values}


class Burgers:
    """The Burgers equation by a physics-informed network; minimise the relative `error`."""

    hyperparameters: Mapping[str, float] = MappingProxyType(
        {"lr": 0.005, "momentum": 0.9, "weights.equation": 1.0, "weights.boundary": 3.0}
    )
    optimizer: OptimizerName = "adam"
    batch_size: int = _BOUNDARY
    steps_per_epoch: int | None = _STEPS
    noise: Mapping[str, tuple[int, ...]] = MappingProxyType({"interior": (_INTERIOR, 2)})

    def data(self, seed: int) -> Splits:
        return Splits(
            train=_given(_BOUNDARY * _STEPS, seed), validation=_grid(48, 24), test=_grid(65, 33)
        )

    def model(self, seed: int) -> nn.Module:
        return JetMLP((2, 20, 20, 20, 1), seed)

    def terms(
        self,
        model: nn.Module,
        batch: Examples,
        hp: Mapping[str, Tensor],
        noise: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        """Return the two mean squares; the normal noise becomes uniform in the domain."""
        uniform = torch.special.ndtr(noise["interior"])
        interior = torch.stack([2 * uniform[:, 0] - 1, uniform[:, 1]], dim=-1)
        value, (u_x, u_t), (u_xx, _) = model(torch.cat([interior, batch["point"]]))
        residual = (u_t + value * u_x - VISCOSITY * u_xx)[:_INTERIOR]
        misfit = value[_INTERIOR:] - batch["u"]
        return {"equation": residual.square().mean(), "boundary": misfit.square().mean()}

    def metrics(self, model: nn.Module, split: Examples) -> dict[str, Tensor]:
        misfit = model(split["point"]).value - split["u"]
        return {"error": misfit.norm() / split["u"].norm()}
