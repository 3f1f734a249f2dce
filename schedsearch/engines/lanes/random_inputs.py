"""The random numbers of an epoch of a run, cached for other lanes, and stacked by step."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from schedsearch.engines.dropout import dropout_generator
from schedsearch.engines.random_streams import batch_indices, epoch_noise

#: Bytes of random numbers that are cached, and bytes that are stacked at once.
_CACHE_BYTES = 256 * 2**20
_STACKED_BYTES = 64 * 2**20


@dataclass(frozen=True)
class RandomInputs:
    """The random numbers of an epoch of a run; steps are the first dimension of each tensor.

    Attributes:
        order: the indices of the training examples, (steps, batch size); None without examples.
        noise: the noise of the task, by name.
        uniforms: the uniform numbers of each call of a dropout function.
    """

    order: Tensor | None
    noise: Mapping[str, Tensor]
    uniforms: Sequence[Tensor]

    def tensors(self) -> list[Tensor]:
        """Return noise and uniforms, in the order of the step's inputs."""
        return [*self.noise.values(), *self.uniforms]


@dataclass(frozen=True)
class RandomInputShapes:
    """The shapes of the random numbers of an epoch."""

    examples: int
    batch_size: int
    steps: int
    noise: Mapping[str, tuple[int, ...]]
    dropout: Sequence[tuple[int, ...]]

    def draw(self, seed: int, epoch: int) -> RandomInputs:
        """Return the random numbers of an epoch of a run, the same as in the sequential engine."""
        order = None
        if self.examples:
            order = batch_indices(seed, epoch, self.examples, self.batch_size, self.steps)
        uniforms = [
            torch.rand(self.steps, *shape, generator=dropout_generator(seed, epoch, call))
            for call, shape in enumerate(self.dropout)
        ]
        return RandomInputs(order, epoch_noise(seed, epoch, self.steps, self.noise), uniforms)


class RandomInputCache:
    """An LRU cache of random numbers by seed and epoch; most lanes share a seed."""

    def __init__(self, draw: Callable[[int, int], RandomInputs]) -> None:
        self._draw = draw
        self._cache: OrderedDict[tuple[int, int], RandomInputs] = OrderedDict()
        self._bytes = 0

    def __call__(self, seed: int, epoch: int) -> RandomInputs:
        """Return the random numbers of a run's epoch."""
        key = (seed, epoch)
        if key not in self._cache:
            self._cache[key] = self._draw(seed, epoch)
            self._bytes += _size(self._cache[key])
        self._cache.move_to_end(key)
        inputs = self._cache[key]
        while self._bytes > _CACHE_BYTES and self._cache:
            self._bytes -= _size(self._cache.popitem(last=False)[1])
        return inputs


def stacked_steps(
    lanes: Sequence[RandomInputs], steps: int, device: torch.device
) -> Iterator[list[Tensor]]:
    """Yield noise and uniforms of each step, with lanes as the first dimension of each tensor.

    As many steps are stacked at once as fit into a bounded amount of memory.
    """
    by_tensor = list(zip(*(inputs.tensors() for inputs in lanes), strict=True))
    step_bytes = sum(t[0].numel() * t.element_size() for t in lanes[0].tensors()) * len(lanes)
    at_once = max(1, min(steps, _STACKED_BYTES // max(1, step_bytes)))
    for start in range(0, steps, at_once):
        stop = min(start + at_once, steps)
        chunk = [torch.stack([t[start:stop] for t in ts], dim=1).to(device) for ts in by_tensor]
        yield from ([tensor[step] for tensor in chunk] for step in range(stop - start))


def _size(inputs: RandomInputs) -> int:
    tensors = [*inputs.tensors(), *([] if inputs.order is None else [inputs.order])]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
