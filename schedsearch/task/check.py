"""Validation of a task by running each of its parts once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING

from schedsearch.errors import TaskError
from schedsearch.task.loading import call_user_code
from schedsearch.task.protocol import (
    Splits,
    Task,
    TrainFunction,
    count_examples,
    count_steps,
    is_train_function,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True)
class TaskOutputs:
    """The names of the loss terms of a task, and of its metrics as in an objective (`val_NAME`)."""

    terms: tuple[str, ...]
    metrics: tuple[str, ...]


def check_task(
    task: Task | TrainFunction,
    tracking: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> TaskOutputs | None:
    """Run the data, the model, the loss terms of one batch and the validation metrics of a task.

    Args:
        task: the task.
        tracking: entered while data and model are made, see `track_imports`.

    Returns:
        The names of loss terms and metrics; None for a train function, which cannot be tried
        without training.

    Raises:
        TaskError: a part raises an exception or does not follow the protocol.
    """
    if is_train_function(task):
        return None
    import torch
    from torch import nn

    name = type(task).__name__
    with torch.random.fork_rng():
        with tracking():
            splits = call_user_code(f"{name}.data(0)", lambda: task.data(0))
        if not isinstance(splits, Splits):
            raise TaskError(f"{name}.data must return Splits, not {type(splits).__name__}")
        for split in (splits.train, splits.validation, splits.test):
            count_examples(split)
        count_steps(task, count_examples(splits.train))
        with tracking():
            model = call_user_code(f"{name}.model(0)", lambda: task.model(0))
        if not isinstance(model, nn.Module):
            raise TaskError(f"{name}.model must return a Module, not {type(model).__name__}")
        terms = call_user_code(
            f"{name}.terms", lambda: compute_first_terms(task, model, splits, "cpu")
        )
        _check_terms(task, terms)
        with torch.no_grad():
            model.eval()
            metrics = call_user_code(
                f"{name}.metrics", lambda: task.metrics(model, splits.validation)
            )
    _check_numbers(f"{name}.metrics", metrics)
    if without_shape := lazy_tensors(model):
        raise TaskError(
            f"{name}.model: {', '.join(without_shape)} has no shape after a step and a validation: "
            "nothing uses it; remove it, or give it a shape"
        )
    return TaskOutputs(tuple(terms), tuple(f"val_{metric}" for metric in metrics))


def lazy_tensors(model: nn.Module) -> list[str]:
    """Return the names of the parameters and buffers that have no shape yet."""
    from torch.nn.parameter import is_lazy

    tensors = (*model.named_parameters(), *model.named_buffers())
    return [name for name, tensor in tensors if is_lazy(tensor)]


def compute_first_terms(
    task: Task, model: nn.Module, splits: Splits, device: torch.device | str
) -> Mapping[str, Tensor]:
    """Return the loss terms of the first batch; the noise comes from torch's global generators."""
    import torch

    batch = {name: tensor[: task.batch_size] for name, tensor in splits.train.items()}
    hp = {name: torch.tensor(float(v), device=device) for name, v in task.hyperparameters.items()}
    noise = {name: torch.randn(shape, device=device) for name, shape in task.noise.items()}
    return task.terms(model, batch, hp, noise)


def _check_terms(task: Task, terms: Mapping[str, Tensor]) -> None:
    what = f"{type(task).__name__}.terms"
    _check_numbers(what, terms)
    for name in task.hyperparameters:
        term = name.removeprefix("weights.")
        if term != name and term not in terms:
            raise TaskError(
                f"the hyperparameter `{name}` is the weight of an unknown loss term: {what} "
                f"returns {', '.join(terms)}"
            )
    if not any(getattr(term, "requires_grad", False) for term in terms.values()):
        raise TaskError(f"{what}: no term depends on the model's parameters")


def _check_numbers(what: str, result: object) -> None:
    if not isinstance(result, Mapping) or not result:
        raise TaskError(f"{what} must return a dict of 0-d tensors by name, not {result!r}")
    for name, value in result.items():
        shape = getattr(value, "shape", None)
        if shape is None and not isinstance(value, Real):
            raise TaskError(f"{what}: `{name}` is {value!r}, but must be a 0-d tensor")
        if shape is not None and len(shape):
            raise TaskError(f"{what}: `{name}` has the shape {tuple(shape)}, but must be 0-d")
