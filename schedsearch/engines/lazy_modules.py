"""Models whose parameters get their shapes, or are only created, in the first step."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import torch
from torch import nn

from schedsearch.errors import SchedSearchError
from schedsearch.task import Splits, Task, compute_first_terms, lazy_tensors


def materialize(model: nn.Module, task: Task, splits: Splits, device: torch.device) -> None:
    """Compute the loss terms of a task's first batch once, so that all parameters have a shape.

    The model is evaluated, so running means do not change. Modules that only the metrics or only a
    training use are called as well, without an update. Random numbers come from torch's global
    generators.

    Raises what the task raises, and SchedSearchError if a tensor has no shape afterwards.
    """
    for training in (False, True):
        with _mode(model, training=training), torch.enable_grad():
            _run(model, task, splits, device)
        if not (names := lazy_tensors(model)):
            return
    raise SchedSearchError(
        f"the model's {', '.join(names)} has no shape after a step and a validation: nothing uses "
        "it; remove it, or give it a shape"
    )


def _run(model: nn.Module, task: Task, splits: Splits, device: torch.device) -> None:
    compute_first_terms(task, model, splits, device)
    if lazy_tensors(model):
        task.metrics(model, splits.validation)


@contextlib.contextmanager
def _mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Switch between training and evaluation, and restore the mode of each module afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def refuse_created_parameters(model: nn.Module, before: Iterable[str]) -> None:
    """Refuse to batch a model that has other parameters after a step than before.

    Raises:
        SchedSearchError: the step created a parameter.
    """
    known = set(before)
    created = [name for name, _ in model.named_parameters() if name not in known]
    if created:
        raise SchedSearchError(
            f"a step creates parameters of the model ({', '.join(created)}): create them when the "
            "model is made, or use torch's lazy modules"
        )
