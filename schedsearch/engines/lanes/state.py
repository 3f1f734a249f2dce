"""The state of all lanes: parameters, buffers and optimizer moments, stacked along the first axis.

The tensors are made once and changed in place, so that a compiled step always meets the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class LaneState:
    """What the lanes' runs consist of; every lane holds a run, an idle one the last that it held.

    Args:
        model: gives names and shapes, and what the lanes hold before they are first filled.
        lanes: how many.
        trained: the parameters that the optimizer moves; all else is fixed, or a buffer.
        moments: the names of the optimizer's state.
    """

    def __init__(
        self, model: nn.Module, lanes: int, trained: Sequence[str], moments: Sequence[str]
    ) -> None:
        tensors = {
            name: torch.stack([tensor] * lanes).contiguous()
            for name, tensor in named_tensors(model).items()
        }
        self.parameters = {name: tensors.pop(name) for name in trained}
        self.others = tensors
        self.moments = {
            f"{key}.{name}": torch.zeros_like(stacked)
            for name, stacked in self.parameters.items()
            for key in moments
        }

    def tensors(self) -> list[Tensor]:
        """Return all of it, in the order in which a step takes it."""
        return [*self.models(), *self.moments.values()]

    def models(self) -> list[Tensor]:
        """Return the models alone: parameters, then all else."""
        return [*self.parameters.values(), *self.others.values()]

    def load(self, lane: int, model: nn.Module, optimizer: Mapping[str, Tensor]) -> None:
        """Copy a model and an optimizer's state into a lane; what the latter lacks is zero."""
        stacked = {**self.parameters, **self.others}
        for name, tensor in named_tensors(model).items():
            stacked[name][lane].copy_(tensor)
        for name, moment in self.moments.items():
            if name in optimizer:
                moment[lane].copy_(optimizer[name])
            else:
                moment[lane].zero_()

    def save(self, lane: int, model: nn.Module) -> None:
        """Copy a lane's parameters and buffers into a model."""
        stacked = {**self.parameters, **self.others}
        for name, tensor in named_tensors(model).items():
            tensor.copy_(stacked[name][lane])

    def copy(self, lanes: Sequence[int]) -> list[Tensor]:
        """Return a copy of some lanes, for `restore`."""
        return [tensor[lanes] for tensor in self.tensors()]

    def restore(self, lanes: Sequence[int], copies: Sequence[Tensor]) -> None:
        """Put back what `copy` returned."""
        for tensor, copy in zip(self.tensors(), copies, strict=True):
            tensor[lanes] = copy


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return a model's parameters and buffers, shared ones once, detached."""
    return {
        name: tensor.detach()
        for name, tensor in (*model.named_parameters(), *model.named_buffers())
    }
