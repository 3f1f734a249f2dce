"""What the lanes' runs draw in an epoch, kept for the lanes that come after, and stacked."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from schedsearch.engines.dropout import dropout_generator
from schedsearch.engines.random_streams import batch_indices, epoch_noise

#: Bytes of draws kept for other lanes, and bytes stacked at once.
_KEPT = 256 * 2**20
_STACKED = 64 * 2**20


@dataclass(frozen=True)
class RandomInputs:
    """What a run draws in an epoch; each tensor has the steps first.

    Attributes:
        order: the positions of the training examples, (steps, batch size); None: there are none.
        noise: the task's noise by name.
        uniforms: the numbers that each call of a dropout function takes.
    """

    order: Tensor | None
    noise: Mapping[str, Tensor]
    uniforms: Sequence[Tensor]

    def tensors(self) -> list[Tensor]:
        """Return noise and uniforms, in the order in which a step takes them."""
        return [*self.noise.values(), *self.uniforms]


@dataclass(frozen=True)
class RandomInputShapes:
    """How much an epoch draws."""

    examples: int
    batch_size: int
    steps: int
    noise: Mapping[str, tuple[int, ...]]
    dropout: Sequence[tuple[int, ...]]

    def draw(self, seed: int, epoch: int) -> RandomInputs:
        """Return what any engine draws for that epoch of a run of that seed."""
        order = None
        if self.examples:
            order = batch_indices(seed, epoch, self.examples, self.batch_size, self.steps)
        uniforms = [
            torch.rand(self.steps, *shape, generator=dropout_generator(seed, epoch, call))
            for call, shape in enumerate(self.dropout)
        ]
        return RandomInputs(order, epoch_noise(seed, epoch, self.steps, self.noise), uniforms)


class RandomInputCache:
    """Draws by seed and epoch, the least recently used dropped first: most lanes share a seed."""

    def __init__(self, draw: Callable[[int, int], RandomInputs]) -> None:
        self._draw = draw
        self._kept: OrderedDict[tuple[int, int], RandomInputs] = OrderedDict()
        self._bytes = 0

    def __call__(self, seed: int, epoch: int) -> RandomInputs:
        """Return the draws of a run's epoch."""
        key = (seed, epoch)
        if key not in self._kept:
            self._kept[key] = self._draw(seed, epoch)
            self._bytes += _size(self._kept[key])
        self._kept.move_to_end(key)
        drawn = self._kept[key]
        while self._bytes > _KEPT and self._kept:
            self._bytes -= _size(self._kept.popitem(last=False)[1])
        return drawn


def stacked_steps(
    lanes: Sequence[RandomInputs], steps: int, device: torch.device
) -> Iterator[list[Tensor]]:
    """Yield noise and uniforms of each step, each tensor with the lanes first.

    As many steps are stacked at once as fit a bound on the memory.
    """
    by_tensor = list(zip(*(draws.tensors() for draws in lanes), strict=True))
    step_bytes = sum(t[0].numel() * t.element_size() for t in lanes[0].tensors()) * len(lanes)
    at_once = max(1, min(steps, _STACKED // max(1, step_bytes)))
    for start in range(0, steps, at_once):
        stop = min(start + at_once, steps)
        chunk = [torch.stack([t[start:stop] for t in ts], dim=1).to(device) for ts in by_tensor]
        yield from ([tensor[step] for tensor in chunk] for step in range(stop - start))


def _size(draws: RandomInputs) -> int:
    tensors = [*draws.tensors(), *([] if draws.order is None else [draws.order])]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
