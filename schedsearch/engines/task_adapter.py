"""A task as engines use it: data and models by seed, checked loss terms and metrics."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from schedsearch.engines.base import Snapshot
from schedsearch.engines.lazy_modules import materialize
from schedsearch.engines.precision import PrecisionSettings
from schedsearch.engines.random_streams import seeded_global_rng
from schedsearch.epoch_values import EpochValues, StepValues
from schedsearch.errors import SchedSearchError
from schedsearch.task import (
    Examples,
    Splits,
    Task,
    count_examples,
    count_steps,
    lazy_tensors,
)

#: Seeds whose data is cached, in addition to one per lane.
_SPARE_SEEDS = 4


class TaskAdapter:
    """The data and models of a task on a device; runs with one seed share one copy of the data."""

    def __init__(
        self, task: Task, device: torch.device, precision: PrecisionSettings, lanes: int
    ) -> None:
        self.task = task
        self.device = device
        self._precision = precision
        self.splits = functools.lru_cache(maxsize=lanes + _SPARE_SEEDS)(self._load)

    def _load(self, seed: int) -> Splits:
        with seeded_global_rng(self.device, seed, "data"):
            splits = self.task.data(seed)
        return Splits(*map(self._on_device, (splits.train, splits.validation, splits.test)))

    def _on_device(self, examples: Examples) -> Examples:
        return {name: tensor.to(self.device) for name, tensor in examples.items()}

    def steps(self, seed: int) -> int:
        """Return the number of optimizer steps of an epoch."""
        if self.task.steps_per_epoch:
            return self.task.steps_per_epoch
        return count_steps(self.task, count_examples(self.splits(seed).train))

    def values_by_step(self, values: Mapping[str, float], seed: int) -> Mapping[str, StepValues]:
        """Return the values of an epoch: one number each, or one per step if they differ."""
        if not (isinstance(values, EpochValues) and values.moving):
            return values
        return values.by_step(self.steps(seed))

    def make_model(self, seed: int) -> nn.Module:
        """Return a new model; torch's generators are seeded in case the task does not do so.

        Parameters without a shape get it from the first batch, see `materialize`, and if the model
        has none to train, so that nothing can be optimized, the first batch creates them.
        """
        with seeded_global_rng(self.device, seed, "model"):
            model = self.task.model(seed).to(self.device)
            if lazy_tensors(model) or not any(p.requires_grad for p in model.parameters()):
                self._materialize(model, seed)
        return model

    def make_model_like(self, seed: int, snapshot: Snapshot) -> nn.Module:
        """Return a new model with the parameters of a snapshot, also those that a step created."""
        model = self.make_model(seed)
        if not snapshot.model.keys() <= model.state_dict().keys():
            with seeded_global_rng(self.device, seed, "model"):
                self._materialize(model, seed)
        load_model_tensors(model, snapshot)
        return model

    def _materialize(self, model: nn.Module, seed: int) -> None:
        with self._precision.autocast_context(self.device):
            materialize(model, self.task, self.splits(seed), self.device)

    def compute_metrics(self, model: nn.Module, split: Examples, prefix: str) -> dict[str, float]:
        """Return the metrics of a model on a split, with a prefix to their names.

        Raises:
            SchedSearchError: a metric is not a number.
        """
        model.eval()
        with torch.no_grad(), self._precision.autocast_context(self.device):
            metrics = self.task.metrics(model, split)
        check_metrics(self.task, metrics)
        return {f"{prefix}{name}": finite_or_nan(float(value)) for name, value in metrics.items()}


def copy_model_tensors(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return copies of a model's state_dict, and of the buffers that it leaves out."""
    state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    not_persistent = {
        name: tensor.detach().clone() for name, tensor in model.named_buffers() if name not in state
    }
    return state, {"buffers": not_persistent} if not_persistent else {}


def load_model_tensors(model: nn.Module, snapshot: Snapshot) -> None:
    """Copy the tensors that `copy_model_tensors` returned into a model."""
    model.load_state_dict(snapshot.model)
    buffers = dict(model.named_buffers())
    with torch.no_grad():
        for name, tensor in snapshot.extra.get("buffers", {}).items():
            buffers[name].copy_(tensor)


def check_metrics(task: Task, metrics: Mapping[str, object]) -> None:
    """Raise a SchedSearchError unless these are named numbers or 0-d tensors."""
    owner = type(task).__name__
    _check_names(f"{owner}.metrics", metrics)
    for name, value in metrics.items():
        if not (isinstance(value, Real) or _is_scalar(value)):
            raise SchedSearchError(
                f"{owner}: the metric `{name}` is {_shown(value)}, "
                "but must be a number or a 0-d tensor"
            )


def _check_names(function: str, returned: object) -> None:
    if not isinstance(returned, Mapping) or not returned:
        raise SchedSearchError(
            f"{function} must return a dict of 0-d tensors by name, not {returned!r}"
        )


def _is_scalar(value: object) -> bool:
    return isinstance(value, Tensor) and value.dim() == 0


def _shown(value: object) -> str:
    return f"of shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)


def finite_or_nan(number: float) -> float:
    """Return a number, or NaN if it is infinite."""
    return number if math.isfinite(number) else math.nan


def term_weights(hp: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the hyperparameters that are weights of loss terms, by term."""
    return {
        name.removeprefix("weights."): tensor
        for name, tensor in hp.items()
        if name.startswith("weights.")
    }


def weighted_sum(terms: Mapping[str, Tensor], hp: Mapping[str, Tensor]) -> Tensor:
    """Return the loss: the sum of the terms, each multiplied by its weight if it has one.

    Raises:
        SchedSearchError: `terms` is not a dict, is empty, or has a value that is not a 0-d tensor.
    """
    _check_names("terms", terms)
    for name, term in terms.items():
        if not _is_scalar(term):
            raise SchedSearchError(
                f"the loss term `{name}` is {_shown(term)}, but must be a 0-d tensor"
            )
    weights = term_weights(hp)
    weighted = [weights[name] * term if name in weights else term for name, term in terms.items()]
    return functools.reduce(torch.add, weighted)


def hyperparameter_dtype(model: nn.Module) -> torch.dtype | None:
    """Return the dtype of hyperparameters in a task: that of the model's parameters."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), None)
