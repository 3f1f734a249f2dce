"""All that is made once for the lanes of a task: stacked tensors, and the functions on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from schedsearch.engines.lanes.data import LaneData
from schedsearch.engines.lanes.graphs import compiled, largest, trace
from schedsearch.engines.lanes.optimizers import LANE_OPTIMIZERS
from schedsearch.engines.lanes.probe import Probe, Sample, probe
from schedsearch.engines.lanes.random_inputs import RandomInputCache, RandomInputs, Shapes
from schedsearch.engines.lanes.state import LaneState
from schedsearch.engines.lanes.step import LaneStep, Names
from schedsearch.engines.precision import PrecisionSettings
from schedsearch.engines.task_adapter import TaskAdapter, hyperparameter_dtype
from schedsearch.task import Splits, count_examples, count_steps

#: Bytes of the largest intermediate result of a validation; beyond, lanes are validated in turn.
_AT_ONCE = 32 * 2**20


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
    validated: int


def build(
    source: TaskAdapter,
    splits: Splits,
    *,
    seed: int,
    lanes: int,
    arithmetic: PrecisionSettings,
    compile_it: bool,
) -> Program:
    """Return the program for a task, with the data of one seed as the model of all.

    Raises what the task raises, and what torch raises where a step cannot be batched.
    """
    task, device = source.task, source.device
    model = source.fresh_model(seed)
    dtype = hyperparameter_dtype(model) or torch.get_default_dtype()
    examples = count_examples(splits.train)
    steps = count_steps(task, examples)
    shapes = Shapes(examples, task.batch_size, steps, task.noise, ())
    sample = _sample(source, splits, shapes.draw(seed, 0), dtype)
    found = probe(source, model, sample, splits.validation, arithmetic)
    shapes = Shapes(examples, task.batch_size, steps, task.noise, found.dropout)
    optimizer = LANE_OPTIMIZERS[task.optimizer]
    state = LaneState(model, lanes, found.trained, optimizer.moments)
    data = LaneData(splits, lanes)
    names = Names(
        parameters=tuple(state.parameters),
        others=tuple(state.others),
        moments=tuple(state.moments),
        batch=tuple(splits.train),
        noise=tuple(task.noise),
        hp=tuple(task.hyperparameters),
        validation=tuple(splits.validation),
    )
    step = LaneStep(task, model, found, names, optimizer, arithmetic, device, steps)
    sums = torch.zeros(lanes, len(found.terms), dtype=torch.float64, device=device)
    inputs = _step_inputs(state, sample, found.dropout, optimizer.size, sums)
    finish = compiled if compile_it else _as_it_is
    train = finish(trace(step.train, inputs), inputs)
    inputs = [*state.models(), *data.validation.values(), sums]
    validated = _lanes_at_once(step, inputs, lanes)
    inputs = [tensor[:validated] for tensor in inputs]
    validate = finish(trace(step.validate, inputs), inputs)
    draws = RandomInputCache(shapes.draw)
    return Program(model, found, state, data, draws, steps, dtype, sums, train, validate, validated)


def _sample(source: TaskAdapter, splits: Splits, draws: RandomInputs, dtype: torch.dtype) -> Sample:
    """Return the inputs of the first step of a run, at the defaults."""
    batch = {}
    if draws.order is not None:
        first = draws.order[0].to(source.device)
        batch = {name: tensor[first] for name, tensor in splits.train.items()}
    hp = {
        name: torch.tensor(value, dtype=dtype, device=source.device)
        for name, value in source.task.hyperparameters.items()
    }
    noise = {name: tensor[0].to(source.device) for name, tensor in draws.noise.items()}
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


def _as_it_is(graph: Callable[..., Any], inputs: Sequence[Tensor]) -> Callable[..., Any]:
    return graph


def _lanes_at_once(step: LaneStep, inputs: Sequence[Tensor], lanes: int) -> int:
    """Return how many lanes are validated at once: a divisor of the lanes, so that none is left.

    One lane's memory is that of the largest result in its graph.
    """
    one = largest(trace(step.validate, [tensor[:1] for tensor in inputs]))
    return max(n for n in range(1, lanes + 1) if n == 1 or (lanes % n == 0 and n * one <= _AT_ONCE))
