"""Dropout with masks from the run's seed, so that a run is the same alone and among others.

torch draws masks from one global generator in the order of the calls, and trainings that share a
step would share it. Here each call of a dropout function gets uniform numbers that depend on the
run's seed and the epoch only, and drops elements whose number is less than the probability.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from schedsearch.engines.random_streams import generator

#: Returns uniform numbers in [0, 1) for the number of a call within a step, and a shape.
UniformSource: TypeAlias = Callable[[int, tuple[int, ...], torch.device], Tensor]

#: The limit of SELU for large negative inputs.
_SELU_LIMIT = -1.7580993408473766


class DeterministicDropout(TorchFunctionMode):
    """A context in which dropout functions and layers take their random numbers from `uniform`.

    Attributes:
        shapes: the shape of each call's numbers, in the order of the calls.
    """

    def __init__(self, uniform: UniformSource) -> None:
        super().__init__()
        self._uniform = uniform
        self.shapes: list[tuple[int, ...]] = []

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in _DROPOUTS:
            return self._drop(func, *args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _drop(
        self,
        func: Any,
        input: Tensor,
        p: float | Tensor = 0.5,
        training: bool = True,
        inplace: bool = False,
    ) -> Tensor:
        if not training:
            return input
        dimensions, dropped = _DROPOUTS[func]
        shape = _mask_shape(tuple(input.shape), dimensions)
        uniform = self._uniform(len(self.shapes), shape, input.device)
        self.shapes.append(shape)
        output = dropped(input, (uniform >= p).to(input.dtype), p)
        return input.copy_(output) if inplace else output


def _mask_shape(shape: tuple[int, ...], dimensions: int | None) -> tuple[int, ...]:
    """Return the shape of a mask; feature dropout over `dimensions` drops whole channels.

    As in torch, an input without a batch has one dimension less; but for two dimensions, torch
    always takes the first one as the batch.
    """
    if dimensions is None:
        return shape
    leading = 2 if dimensions in (0, 2) or len(shape) == dimensions + 2 else 1
    return shape[:leading] + (1,) * (len(shape) - leading)


def _zero_dropped(input: Tensor, kept: Tensor, p: float | Tensor) -> Tensor:
    tiny = torch.finfo(input.dtype).tiny
    share = (1 - p).clamp_min(tiny) if isinstance(p, Tensor) else max(1 - p, tiny)
    return input * (kept / share)


def _set_to_selu_limit(input: Tensor, kept: Tensor, p: float | Tensor) -> Tensor:
    """Set dropped elements to SELU's limit; scale and shift to preserve mean 0 and variance 1."""
    if not isinstance(p, Tensor) and p == 1:
        return input * 0
    variance = (1 - p) * (1 + p * _SELU_LIMIT**2)
    scale = variance**-0.5 if isinstance(variance, Tensor) else 1 / math.sqrt(variance)
    return scale * (input * kept + _SELU_LIMIT * (1 - kept)) - scale * _SELU_LIMIT * p


_DROPOUTS: Mapping[Any, tuple[int | None, Callable[[Tensor, Tensor, float | Tensor], Tensor]]] = {
    functional.dropout: (None, _zero_dropped),
    functional.dropout1d: (1, _zero_dropped),
    functional.dropout2d: (2, _zero_dropped),
    functional.dropout3d: (3, _zero_dropped),
    functional.alpha_dropout: (None, _set_to_selu_limit),
    functional.feature_alpha_dropout: (0, _set_to_selu_limit),
}


class EpochDropout(DeterministicDropout):
    """Dropout in one epoch of one run; call `next_step` before each step."""

    def __init__(self, seed: int, epoch: int) -> None:
        super().__init__(self._uniform_numbers)
        self._seed, self._epoch = seed, epoch
        self._generators: list[torch.Generator] = []

    def next_step(self) -> None:
        """Begin a step: its calls are numbered from 0."""
        self.shapes.clear()

    def _uniform_numbers(self, call: int, shape: tuple[int, ...], device: torch.device) -> Tensor:
        if call == len(self._generators):
            self._generators.append(dropout_generator(self._seed, self._epoch, call))
        return torch.rand(shape, generator=self._generators[call]).to(device)


def dropout_generator(seed: int, epoch: int, call: int) -> torch.Generator:
    """Return the generator of one dropout call for all steps of an epoch.

    torch draws uniform numbers one by one, so an epoch drawn at once equals one drawn by step.
    """
    return generator(seed, epoch, "dropout", call)
