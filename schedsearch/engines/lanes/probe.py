"""One trial step of a task, to learn which tensors a step reads and changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from schedsearch.engines.dropout import DeterministicDropout
from schedsearch.engines.lanes.state import named_tensors
from schedsearch.engines.lazy_modules import refuse_created_parameters
from schedsearch.engines.precision import PrecisionSettings
from schedsearch.engines.task_adapter import TaskAdapter, check_metrics, weighted_sum
from schedsearch.task import Examples, Task


@dataclass(frozen=True)
class Probe:
    """The names and shapes of what a step reads, changes and returns.

    Attributes:
        terms: the names of the loss terms.
        metrics: the names of the metrics, without prefix.
        trained: the parameters that the loss depends on; torch's optimizers skip the others.
        mutated: the buffers that the step changes.
        dropout: the shape of the uniform numbers of each call of a dropout function.
    """

    terms: tuple[str, ...]
    metrics: tuple[str, ...]
    trained: tuple[str, ...]
    mutated: tuple[str, ...]
    dropout: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Sample:
    """The inputs of one step of one run."""

    batch: Examples
    hp: Mapping[str, Tensor]
    noise: Mapping[str, Tensor]


def probe(
    adapter: TaskAdapter,
    model: nn.Module,
    sample: Sample,
    validation: Examples,
    precision: PrecisionSettings,
) -> Probe:
    """Compute one step's loss, its gradient and the metrics; the model's buffers may change.

    Raises what the task raises, and SchedSearchError if a metric is not a number.
    """
    before = {name: (id(b), b._version) for name, b in model.named_buffers()}
    names = [name for name, _ in model.named_parameters()]
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    task: Task = adapter.task
    dropout = DeterministicDropout(lambda call, shape, device: torch.rand(shape, device=device))
    model.train()
    with torch.random.fork_rng(), torch.enable_grad():
        with dropout, precision.autocast_context(adapter.device):
            terms = task.terms(model, sample.batch, sample.hp, sample.noise)
        refuse_created_parameters(model, names)
        loss = weighted_sum(terms, sample.hp)
        gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    after = {name: (id(b), b._version) for name, b in model.named_buffers()}
    model.eval()
    with torch.no_grad(), precision.autocast_context(adapter.device):
        metrics = task.metrics(model, validation)
    check_metrics(task, metrics)
    return Probe(
        terms=tuple(terms),
        metrics=tuple(metrics),
        trained=tuple(n for n, g in zip(parameters, gradients, strict=True) if g is not None),
        mutated=tuple(n for n in named_tensors(model) if before.get(n) != after.get(n)),
        dropout=tuple(dropout.shapes),
    )
