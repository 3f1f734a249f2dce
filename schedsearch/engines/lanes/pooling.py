"""Max-pooling over windows that do not overlap, in operations that the compiler can fuse.

torch's own max-pooling remembers where each maximum is, and its gradient is scattered there. The
compiler can neither vectorize this nor fuse it with the activation, so a small convolutional
network spends more than half of its step on it. The maximum of strided slices, and comparisons for
the gradient, give the same numbers. torch's pooling in three dimensions has a rule for autocast, so
it is left as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

#: The functions, by how many last dimensions they pool.
_POOLS = {functional.max_pool1d: 1, functional.max_pool2d: 2}
#: Larger windows are left to torch: each place in a window is several operations of the graph.
_LARGEST_WINDOW = 9


class DisjointMaxPooling(TorchFunctionMode):
    """A context in which functions and layers pool disjoint windows by slices.

    Values are those of torch, and gradients as well where no number is NaN: of equal numbers in a
    window, the first one has the gradient. Other windows, and large ones, are left to torch.
    """

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in _POOLS and (size := _disjoint_window(_POOLS[func], *args, **kwargs)):
            images = args[0] if args else kwargs["input"]
            return _max_pool(images, size)
        return func(*args, **kwargs)


def _disjoint_window(
    dimensions: int,
    input: Tensor,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> tuple[int, ...] | None:
    """Return the size of the windows, one for each dimension; None if torch has to pool."""
    size, lengths = _for_each(dimensions, kernel_size), input.shape[-dimensions:]
    if len(size) != dimensions or input.dim() <= dimensions:
        return None
    if not all(0 < each <= length for each, length in zip(size, lengths, strict=True)):
        return None
    strides = () if stride is None else _for_each(dimensions, stride)
    is_simple = not (ceil_mode or return_indices) and input.is_floating_point()
    is_dense = (
        set(_for_each(dimensions, padding))
        == {0}
        == {each - 1 for each in _for_each(dimensions, dilation)}
    )
    is_small = math.prod(size) <= _LARGEST_WINDOW
    return size if is_simple and is_small and is_dense and strides in ((), size) else None


def _for_each(dimensions: int, value: Any) -> tuple[int, ...]:
    """Return a setting for each dimension.

    >>> _for_each(2, 3), _for_each(2, [3]), _for_each(2, (3, 4))
    ((3, 3), (3, 3), (3, 4))
    """
    values = tuple(value) if isinstance(value, Sequence) else (int(value),)
    return values * dimensions if len(values) == 1 else values


class _MaxPool(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(images: Tensor, size: tuple[int, ...]) -> Tensor:
        return _maximum(list(_slices(images, size)))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, tuple[int, ...]], output: Tensor) -> None:
        images, ctx.size = inputs
        ctx.save_for_backward(images)
        ctx.save_for_forward(images)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        [images], [gradient] = ctx.saved_tensors, gradients
        total = torch.zeros_like(images)
        for place, is_first in zip(_places(ctx.size), _first(images, ctx.size), strict=True):
            part = torch.where(is_first, gradient, 0.0)
            total = total + _spread(part, images.shape, place, ctx.size)
        return total, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        [images], tangent = ctx.saved_tensors, tangents[0]
        chosen = zip(_first(images, ctx.size), _slices(tangent, ctx.size), strict=True)
        parts = [torch.where(is_first, numbers, 0.0) for is_first, numbers in chosen]
        return sum(parts[1:], start=parts[0])


#: torch gives the method no types.
_max_pool: Callable[[Tensor, tuple[int, ...]], Tensor] = _MaxPool.apply


def _places(size: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Return the places in a window in the order in which torch compares them."""
    return product(*map(range, size))


def _slices(images: Tensor, size: tuple[int, ...]) -> Iterator[Tensor]:
    """Yield, for each place in a window, the numbers there in all windows."""
    ends = _covered(images.shape, size)
    for place in _places(size):
        chosen: Any = tuple(map(slice, place, ends, size))
        yield images[(..., *chosen)]


def _covered(shape: Sequence[int], size: tuple[int, ...]) -> tuple[int, ...]:
    """Return how much of each last dimension has whole windows."""
    lengths = shape[-len(size) :]
    return tuple(n // step * step for n, step in zip(lengths, size, strict=True))


def _first(images: Tensor, size: tuple[int, ...]) -> Iterator[Tensor]:
    """Yield, for each place in a window, where the first of the largest numbers is there."""
    slices = list(_slices(images, size))
    maximum = _maximum(slices)
    is_free = torch.ones_like(maximum, dtype=torch.bool)
    for numbers in slices:
        is_first = (numbers == maximum) & is_free
        is_free = is_free & ~is_first
        yield is_first


def _maximum(slices: Sequence[Tensor]) -> Tensor:
    found = slices[0]
    for numbers in slices[1:]:
        found = torch.maximum(found, numbers)
    return found


def _spread(
    part: Tensor, shape: Sequence[int], place: tuple[int, ...], size: tuple[int, ...]
) -> Tensor:
    """Return zeros of a shape with the part at one place of all windows."""
    ends, rank = _covered(shape, size), part.dim()
    for i in reversed(range(len(size))):
        dimension = rank - len(size) + i
        larger = [*part.shape[:dimension], shape[dimension], *part.shape[dimension + 1 :]]
        part = torch.ops.aten.slice_backward(part, larger, dimension, place[i], ends[i], size[i])
    return part
