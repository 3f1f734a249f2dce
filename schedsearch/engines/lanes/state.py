"""The state of all lanes: parameters, buffers and moments, stacked along the first dimension.

The tensors are created once and changed in place, so that a compiled step can keep using them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class LaneState:
    """The state of all lanes; an idle lane keeps the state of its last run.

    Args:
        model: has the names and shapes, and the initial state of all lanes.
        lanes: their number.
        trained: the parameters that the optimizer updates; the others are fixed.
        moments: the names of the optimizer's state tensors.
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

    @property
    def bytes_per_lane(self) -> int:
        """The size of the state of one lane."""
        return sum(tensor[0].numel() * tensor.element_size() for tensor in self.tensors())

    def tensors(self) -> list[Tensor]:
        """Return all tensors, in the order of the step's inputs."""
        return [*self.models(), *self.moments.values()]

    def models(self) -> list[Tensor]:
        """Return the tensors of the models: trained parameters, then the others."""
        return [*self.parameters.values(), *self.others.values()]

    def load(self, lane: int, model: nn.Module, optimizer: Mapping[str, Tensor]) -> None:
        """Copy a model and the state of an optimizer into a lane; missing moments are zero."""
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
        """Return a copy of the state of some lanes."""
        return [tensor[lanes] for tensor in self.tensors()]

    def restore(self, lanes: Sequence[int], copies: Sequence[Tensor]) -> None:
        """Restore the state that `copy` returned."""
        for tensor, copy in zip(self.tensors(), copies, strict=True):
            tensor[lanes] = copy


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return a model's parameters and buffers, shared ones once, detached."""
    return {
        name: tensor.detach()
        for name, tensor in (*model.named_parameters(), *model.named_buffers())
    }
