"""All that is made once for the lanes of a task: stacked tensors, and the functions on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from schedsearch.engines.lanes.data import LaneData
from schedsearch.engines.lanes.graphs import compiled, largest_result_bytes, trace
from schedsearch.engines.lanes.optimizers import LANE_OPTIMIZERS
from schedsearch.engines.lanes.probe import Probe, Sample, probe
from schedsearch.engines.lanes.random_inputs import (
    RandomInputCache,
    RandomInputs,
    RandomInputShapes,
)
from schedsearch.engines.lanes.state import LaneState
from schedsearch.engines.lanes.step import LaneStep, TensorNames
from schedsearch.engines.precision import PrecisionSettings
from schedsearch.engines.task_adapter import TaskAdapter, hyperparameter_dtype
from schedsearch.task import Splits, count_examples, count_steps

#: Bytes of the largest intermediate result of a validation; beyond, lanes are validated in turn.
_VALIDATION_BYTES = 32 * 2**20


@dataclass(frozen=True)
class Program:
    """What the lanes engine runs.

    Attributes:
        model: a module of the task's, to put a lane's tensors into.
        sums: of the loss terms of an epoch, (lanes, terms), float64.
        train: takes one step, in place; see LaneStep.train.
        validate: see LaneStep.validate; for `validated` lanes at once.
    """

    model: nn.Module
    probe: Probe
    state: LaneState
    data: LaneData
    draws: RandomInputCache
    steps: int
    dtype: torch.dtype
    sums: Tensor
    train: Callable[..., Any]
    validate: Callable[..., Tensor]
    validation_lanes: int


def build(
    adapter: TaskAdapter,
    splits: Splits,
    *,
    seed: int,
    lanes: int,
    precision: PrecisionSettings,
    compile_it: bool,
) -> Program:
    """Return the program for a task, with the data of one seed as the model of all.

    Raises what the task raises, and what torch raises where a step cannot be batched.
    """
    task, device = adapter.task, adapter.device
    model = adapter.make_model(seed)
    dtype = hyperparameter_dtype(model) or torch.get_default_dtype()
    examples = count_examples(splits.train)
    steps = count_steps(task, examples)
    shapes = RandomInputShapes(examples, task.batch_size, steps, task.noise, ())
    sample = _sample(adapter, splits, shapes.draw(seed, 0), dtype)
    found = probe(adapter, model, sample, splits.validation, precision)
    shapes = RandomInputShapes(examples, task.batch_size, steps, task.noise, found.dropout)
    optimizer = LANE_OPTIMIZERS[task.optimizer]
    state = LaneState(model, lanes, found.trained, optimizer.moments)
    data = LaneData(splits, lanes)
    names = TensorNames(
        parameters=tuple(state.parameters),
        others=tuple(state.others),
        moments=tuple(state.moments),
        batch=tuple(splits.train),
        noise=tuple(task.noise),
        hp=tuple(task.hyperparameters),
        validation=tuple(splits.validation),
    )
    step = LaneStep(task, model, found, names, optimizer, precision, device, steps)
    sums = torch.zeros(lanes, len(found.terms), dtype=torch.float64, device=device)
    inputs = _step_inputs(state, sample, found.dropout, optimizer.size, sums)
    finish = compiled if compile_it else _uncompiled
    train = finish(trace(step.train, inputs), inputs)
    inputs = [*state.models(), *data.validation.values(), sums]
    validation_lanes = _lanes_at_once(step, inputs, lanes)
    inputs = [tensor[:validation_lanes] for tensor in inputs]
    validate = finish(trace(step.validate, inputs), inputs)
    draws = RandomInputCache(shapes.draw)
    return Program(
        model, found, state, data, draws, steps, dtype, sums, train, validate, validation_lanes
    )


def _sample(
    adapter: TaskAdapter, splits: Splits, draws: RandomInputs, dtype: torch.dtype
) -> Sample:
    """Return the inputs of the first step of a run, at the defaults."""
    batch = {}
    if draws.order is not None:
        first = draws.order[0].to(adapter.device)
        batch = {name: tensor[first] for name, tensor in splits.train.items()}
    hp = {
        name: torch.tensor(value, dtype=dtype, device=adapter.device)
        for name, value in adapter.task.hyperparameters.items()
    }
    noise = {name: tensor[0].to(adapter.device) for name, tensor in draws.noise.items()}
    return Sample(batch, hp, noise)


def _step_inputs(
    state: LaneState,
    sample: Sample,
    dropout: Sequence[tuple[int, ...]],
    coefficients: int,
    sums: Tensor,
) -> list[Tensor]:
    """Return what a step takes, in the order of LaneStep.train."""
    lanes, device = sums.shape[0], sums.device
    return [
        *state.tensors(),
        *_stacked(sample.batch.values(), lanes),
        *_stacked(sample.noise.values(), lanes),
        *(torch.zeros(lanes, *shape, device=device) for shape in dropout),
        torch.stack(list(sample.hp.values()))[:, None].repeat(1, lanes),
        torch.ones(coefficients, lanes, dtype=torch.float64, device=device),
        sums,
    ]


def _stacked(tensors: Iterable[Tensor], lanes: int) -> list[Tensor]:
    return [torch.stack([tensor] * lanes) for tensor in tensors]


def _uncompiled(graph: Callable[..., Any], inputs: Sequence[Tensor]) -> Callable[..., Any]:
    return graph


def _lanes_at_once(step: LaneStep, inputs: Sequence[Tensor], lanes: int) -> int:
    """Return how many lanes are validated at once: a divisor of the lanes, so that none is left.

    One lane's memory is that of the largest result in its graph.
    """
    one = largest_result_bytes(trace(step.validate, [tensor[:1] for tensor in inputs]))
    return max(
        n
        for n in range(1, lanes + 1)
        if n == 1 or (lanes % n == 0 and n * one <= _VALIDATION_BYTES)
    )
