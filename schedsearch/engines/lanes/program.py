"""The program of the lanes engine: stacked tensors, and traced functions on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from schedsearch.engines.lanes.compiling import compile_graphs
from schedsearch.engines.lanes.data import LaneData
from schedsearch.engines.lanes.graphs import largest_result_bytes, trace
from schedsearch.engines.lanes.optimizers import LANE_OPTIMIZERS
from schedsearch.engines.lanes.pooling import DisjointMaxPooling
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
from schedsearch.task import Splits, Task, count_examples, count_steps

#: Bytes of the largest intermediate result of a validation; beyond, lanes are validated in groups.
_VALIDATION_BYTES = 32 * 2**20


@dataclass(frozen=True)
class Program:
    """The tensors and functions of the lanes, made once per engine.

    Attributes:
        model: a module of the task, into which the tensors of a lane are copied.
        probe: what a step reads, changes and returns.
        state: parameters, buffers and moments of all lanes.
        data: of all lanes.
        random_inputs: the random numbers of an epoch, by seed and epoch.
        steps: per epoch.
        dtype: of the hyperparameters.
        sums: of the loss terms of an epoch, (lanes, terms), float64.
        train: takes one step in place; see LaneStep.train.
        validate: see LaneStep.validate; for `validation_lanes` lanes at once.
        validation_lanes: how many lanes are validated at once.
    """

    model: nn.Module
    probe: Probe
    state: LaneState
    data: LaneData
    random_inputs: RandomInputCache
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
    """Return the program of a task; the data of one seed gives the shapes for all.

    Raises what the task raises, and what torch raises if a step cannot be batched.
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
    names = _names(task, state, splits)
    step = LaneStep(task, model, found, names, optimizer, precision, device, steps)
    sums = torch.zeros(lanes, len(found.terms), dtype=torch.float64, device=device)
    inputs = _step_inputs(state, sample, found.dropout, optimizer.size, sums)
    validation_inputs = [*state.models(), *data.validation.values(), sums]
    validation_lanes = _lanes_at_once(step, validation_inputs, lanes)
    validation_inputs = [tensor[:validation_lanes] for tensor in validation_inputs]
    # Not compiled, slices take longer than torch's pooling.
    pooling = DisjointMaxPooling() if compile_it and device.type == "cpu" else nullcontext()
    with pooling:
        graphs = [trace(step.train, inputs), trace(step.validate, validation_inputs)]
    train, validate = compile_graphs(graphs, [inputs, validation_inputs]) if compile_it else graphs
    return Program(
        model=model,
        probe=found,
        state=state,
        data=data,
        random_inputs=RandomInputCache(shapes.draw),
        steps=steps,
        dtype=dtype,
        sums=sums,
        train=train,
        validate=validate,
        validation_lanes=validation_lanes,
    )


def _names(task: Task, state: LaneState, splits: Splits) -> TensorNames:
    return TensorNames(
        parameters=tuple(state.parameters),
        others=tuple(state.others),
        moments=tuple(state.moments),
        batch=tuple(splits.train),
        noise=tuple(task.noise),
        hp=tuple(task.hyperparameters),
        validation=tuple(splits.validation),
    )


def _sample(
    adapter: TaskAdapter, splits: Splits, random_inputs: RandomInputs, dtype: torch.dtype
) -> Sample:
    """Return the inputs of the first step of a run, at the defaults."""
    batch = {}
    if random_inputs.order is not None:
        first = random_inputs.order[0].to(adapter.device)
        batch = {name: tensor[first] for name, tensor in splits.train.items()}
    hp = {
        name: torch.tensor(value, dtype=dtype, device=adapter.device)
        for name, value in adapter.task.hyperparameters.items()
    }
    noise = {name: tensor[0].to(adapter.device) for name, tensor in random_inputs.noise.items()}
    return Sample(batch, hp, noise)


def _step_inputs(
    state: LaneState,
    sample: Sample,
    dropout: Sequence[tuple[int, ...]],
    coefficients: int,
    sums: Tensor,
) -> list[Tensor]:
    """Return the inputs of a step, in the order of LaneStep.train."""
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


def _lanes_at_once(step: LaneStep, inputs: Sequence[Tensor], lanes: int) -> int:
    """Return how many lanes to validate at once: a divisor of the number of lanes.

    The memory of a lane is estimated by the largest result in the graph of one lane.
    """
    one = largest_result_bytes(trace(step.validate, [tensor[:1] for tensor in inputs]))
    return max(
        n
        for n in range(1, lanes + 1)
        if n == 1 or (lanes % n == 0 and n * one <= _VALIDATION_BYTES)
    )
