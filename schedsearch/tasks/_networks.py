"""What the built-in tasks' models share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from `seed` within the block, and leave torch's global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def mlp(widths: Sequence[int], seed: int) -> nn.Sequential:
    """Return a multilayer perceptron with ReLU between its layers, initialised from the seed."""
    with seeded(seed):
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        return nn.Sequential(*layers[:-1])


class Jet(NamedTuple):
    """A scalar field at N points: its values (N), and its pure partial derivatives (D, N)."""

    value: Tensor
    first: Tensor
    second: Tensor


class JetMLP(nn.Module):
    """A tanh perceptron from D coordinates to a scalar that also returns its derivatives.

    Values and derivatives pass through the layers together (Taylor-mode forward differentiation):
    with h = tanh(z), h' = (1 - h²) z' and h'' = (1 - h²) z'' - 2 h (1 - h²) z'². So one backward
    pass trains on a differential equation, and nothing is differentiated twice.

    Source: Bettencourt, Johnson and Duvenaud (2019), Taylor-Mode Automatic Differentiation for
    Higher-Order Derivatives in JAX.
    """

    def __init__(self, widths: Sequence[int], seed: int) -> None:
        super().__init__()
        with seeded(seed):
            weights = [torch.empty(o, i) for i, o in pairwise(widths)]
            self.weights = nn.ParameterList(nn.init.xavier_normal_(weight) for weight in weights)
            self.biases = nn.ParameterList(torch.zeros(outputs) for outputs in widths[1:])

    def forward(self, points: Tensor) -> Jet:
        """Return the field at points (N, D)."""
        count, dimensions = points.shape
        slopes = torch.eye(dimensions, dtype=points.dtype, device=points.device)
        slopes = slopes[:, None].expand(dimensions, count, dimensions)
        rows = torch.cat([points[None], slopes, torch.zeros_like(slopes)])
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if number:
                rows = _tanh(rows, dimensions)
            rows = linear(rows, weight)
            rows = torch.cat([rows[:1] + bias, rows[1:]])
        rows = rows.squeeze(-1)
        return Jet(rows[0], rows[1 : 1 + dimensions], rows[1 + dimensions :])


def _tanh(rows: Tensor, dimensions: int) -> Tensor:
    value, first, second = torch.split(rows, [1, dimensions, dimensions])
    value = torch.tanh(value)
    slope = 1 - value.square()
    return torch.cat([value, slope * first, slope * (second - 2 * value * first.square())])
