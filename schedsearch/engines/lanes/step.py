"""The step and the validation of all lanes, as functions of stacked tensors.

The loss and gradient of one run are transformed by `vmap` (torch.func) into those of all lanes.
The user's Python runs only while the functions are traced into graphs of tensor operations; each
step then runs a graph, compiled or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from schedsearch.engines.dropout import DeterministicDropout
from schedsearch.engines.lanes.optimizers import LaneOptimizer
from schedsearch.engines.lanes.probe import Probe
from schedsearch.engines.precision import PrecisionSettings
from schedsearch.engines.task_adapter import weighted_sum
from schedsearch.task import Task


class _ModelUser(nn.Module):
    """Lets `functional_call` replace the tensors of a model in any function that uses it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, use: Callable[[nn.Module], dict[str, Tensor]]) -> dict[str, Tensor]:
        return use(self.model)


@dataclass(frozen=True)
class TensorNames:
    """The names of the tensors that the functions take, in order."""

    parameters: tuple[str, ...]
    others: tuple[str, ...]
    moments: tuple[str, ...]
    batch: tuple[str, ...]
    noise: tuple[str, ...]
    hp: tuple[str, ...]
    validation: tuple[str, ...]


@dataclass(frozen=True)
class LaneStep:
    """The step and the validation of a task for any number of lanes.

    Args:
        task: has the loss terms and the metrics.
        model: has the structure; its tensors are replaced.
        probe: what a step of the task reads, changes and returns.
        names: of the stacked tensors.
        optimizer: updates the parameters.
        precision: of the task's methods.
        device: of the tensors.
        steps: per epoch.
    """

    task: Task
    model: nn.Module
    probe: Probe
    names: TensorNames
    optimizer: LaneOptimizer
    precision: PrecisionSettings
    device: torch.device
    steps: int

    def train(self, *tensors: Tensor) -> tuple[()]:
        """Take one step in place.

        Args:
            tensors: parameters, other tensors of the model, moments, batch, noise and uniform
                numbers for dropout, each with lanes as the first dimension; hyperparameters
                (number, lanes); coefficients of the optimizer (number, lanes); sums of the loss
                terms so far (lanes, number), float64.
        """
        names, flat = self.names, iter(tensors)
        parameters = _take_named(names.parameters, flat)
        others = _take_named(names.others, flat)
        moments = _take_named(names.moments, flat)
        batch = _take_named(names.batch, flat)
        noise = _take_named(names.noise, flat)
        uniforms = list(islice(flat, len(self.probe.dropout)))
        hp, coefficients, sums = flat
        by_name = dict(zip(names.hp, hp.unbind(), strict=True))
        lane_gradient = grad(self._lane_loss, has_aux=True)
        gradients, (terms, changed) = vmap(lane_gradient)(
            parameters, others, batch, noise, uniforms, by_name
        )
        for name, tensor in changed.items():
            others[name].copy_(tensor)
        sums.add_(torch.stack([terms[name] for name in self.probe.terms], dim=1))
        for name, parameter in parameters.items():
            its_moments = [moments[f"{key}.{name}"] for key in self.optimizer.moments]
            self._update_parameter(parameter, gradients[name], its_moments, coefficients)
        return ()

    def _lane_loss(
        self,
        parameters: Mapping[str, Tensor],
        others: Mapping[str, Tensor],
        batch: Mapping[str, Tensor],
        noise: Mapping[str, Tensor],
        uniforms: Sequence[Tensor],
        hp: Mapping[str, Tensor],
    ) -> tuple[Tensor, tuple[dict[str, Tensor], dict[str, Tensor]]]:
        """Return one lane's loss, its terms, and the buffers that the step changed."""
        changed = {name: others[name].clone() for name in self.probe.mutated}
        tensors = _in_model({**parameters, **others, **changed})
        self.model.train()
        dropout = DeterministicDropout(lambda call, shape, device: uniforms[call])
        with dropout, self.precision.autocast_context(self.device):
            terms = functional_call(
                _ModelUser(self.model),
                tensors,
                (lambda model: self.task.terms(model, batch, hp, noise),),
            )
        loss = weighted_sum(terms, hp)
        return loss, (terms, {name: tensors[f"model.{name}"] for name in changed})

    def _update_parameter(
        self, parameter: Tensor, gradient: Tensor, moments: list[Tensor], coefficients: Tensor
    ) -> None:
        per_lane = (-1, *[1] * (parameter.dim() - 1))
        numbers = [row.to(parameter.dtype).view(per_lane) for row in coefficients.unbind()]
        updated, next_moments = self.optimizer.update(parameter, gradient, moments, numbers)
        parameter.copy_(updated)
        for moment, after in zip(moments, next_moments, strict=True):
            moment.copy_(after)

    def validate(self, *tensors: Tensor) -> Tensor:
        """Return the results of an epoch: means of loss terms, metrics, and whether all is finite.

        Args:
            tensors: parameters, other tensors of the model, validation data, sums of loss terms.

        Returns:
            Shape (lanes, terms + metrics + 1), float64.
        """
        names, flat = self.names, iter(tensors)
        parameters = _take_named(names.parameters, flat)
        others = _take_named(names.others, flat)
        validation = _take_named(names.validation, flat)
        [sums] = flat
        metrics = vmap(self._lane_metrics)({**parameters, **others}, validation)
        finite = sums.isfinite().all(dim=1)
        for parameter in parameters.values():
            finite = finite & parameter.flatten(1).isfinite().all(dim=1)
        columns = [*(sums / self.steps).unbind(dim=1), *metrics, finite]
        return torch.stack([column.double() for column in columns], dim=1)

    def _lane_metrics(
        self, tensors: Mapping[str, Tensor], split: Mapping[str, Tensor]
    ) -> tuple[Tensor, ...]:
        self.model.eval()
        with self.precision.autocast_context(self.device):
            metrics = functional_call(
                _ModelUser(self.model),
                _in_model(tensors),
                (lambda model: self.task.metrics(model, split),),
            )
        return tuple(
            torch.as_tensor(metrics[name], dtype=torch.float64, device=self.device)
            for name in self.probe.metrics
        )


def _take_named(names: Sequence[str], tensors: Iterator[Tensor]) -> dict[str, Tensor]:
    return {name: next(tensors) for name in names}


def _in_model(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"model.{name}": tensor for name, tensor in tensors.items()}
