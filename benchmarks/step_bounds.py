"""What bounds a compiled step of lanes: its matrix products, its optimizer, and its batches alone.

    python -m benchmarks.step_bounds [noisy_digits=48 noisy_mnist=6 vae=6]

Each part does in a loop of its own what a step does, on tensors of the same shapes and strides:
the matrix products of training and validation one after the other, the compiled update of all
parameters and moments, and the gathering of the batches. Nothing else disturbs their caches, so
the sum is a lower bound of a step that consists of them. Milliseconds of an epoch of one run.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from benchmarks.measurement import describe_machine, markdown_table, use_one_thread
from schedsearch.engines.lanes.compiling import compile_graphs
from schedsearch.engines.lanes.engine import LanesEngine
from schedsearch.engines.lanes.graphs import trace, transpose_narrow_products
from schedsearch.engines.lanes.optimizers import LANE_OPTIMIZERS
from schedsearch.engines.lanes.program import Program, build
from schedsearch.engines.precision import PrecisionSettings
from schedsearch.engines.task_adapter import TaskAdapter
from schedsearch.task import Task, count_examples, is_train_function, load_task
from schedsearch.tasks import BUILT_IN

_SECONDS = 1.0
_PRODUCT = torch.ops.aten.bmm.default


def best_seconds(run: Callable[[], object]) -> float:
    """Return the shortest time of a call within about a second."""
    run()
    best, end = float("inf"), time.perf_counter() + _SECONDS
    while (began := time.perf_counter()) < end:
        run()
        best = min(best, time.perf_counter() - began)
    return best


def products(graph: Any) -> tuple[Callable[[], object], float]:
    """Return a function that computes all matrix products of a graph, and their FLOP."""
    assert isinstance(graph, GraphModule)
    transpose_narrow_products(graph)
    pairs = [
        [_like(factor) for factor in node.args[:2]]
        for node in graph.graph.nodes
        if node.target is _PRODUCT
    ]
    flop = sum(2.0 * left.numel() * right.shape[2] for left, right in pairs)
    return lambda: [torch.bmm(left, right) for left, right in pairs], flop


def _like(node: Any) -> Tensor:
    """Return a tensor with the shape and strides of a node's result."""
    assert isinstance(node, Node)
    if "val" not in node.meta:  # a transposition that was put in
        return _like(node.args[0]).transpose(1, 2)
    val = node.meta["val"]
    return torch.randn(val.untyped_storage().nbytes() // 4).as_strided(val.shape, val.stride())


def optimizer(task: Task, program: Program) -> Callable[[], object]:
    """Return a function that updates all parameters and moments, compiled."""
    found, state = LANE_OPTIMIZERS[task.optimizer], program.state
    names = list(state.parameters)
    lanes = state.parameters[names[0]].shape[0]
    moments = [state.moments[f"{key}.{name}"] for name in names for key in found.moments]
    count, each = len(names), len(found.moments)

    def update(*tensors: Tensor) -> tuple[()]:
        *arrays, coefficients = tensors
        rows = coefficients.float().unbind()
        for number in range(count):
            parameter, gradient = arrays[number], arrays[count + number]
            begin = 2 * count + number * each
            mine = arrays[begin : begin + each]
            shape = (-1, *[1] * (parameter.dim() - 1))
            new, after = found.update(parameter, gradient, mine, [row.view(shape) for row in rows])
            for old, value in zip((parameter, *mine), (new, *after), strict=True):
                old.copy_(value)
        return ()

    parameters = [state.parameters[name] for name in names]
    gradients = [torch.randn_like(parameter) for parameter in parameters]
    coefficients = torch.full((found.size, lanes), 1e-3, dtype=torch.float64)
    inputs = [*parameters, *gradients, *moments, coefficients]
    [compiled] = compile_graphs([trace(update, inputs)], [inputs])
    return partial(compiled, *inputs)


def measure(name: str, lanes: int) -> list[str]:
    """Return a row of the table."""
    task = load_task(BUILT_IN[name])
    assert not is_train_function(task)
    precision = PrecisionSettings(threads=1)
    engine = LanesEngine(task, lanes, precision=precision)
    for lane in range(lanes):
        engine.fill(lane, seed=0)
    whole = best_seconds(lambda: engine.train_epoch([{}] * lanes))
    splits = task.data(0)
    adapter = TaskAdapter(task, engine.device, precision, lanes)
    program = build(adapter, splits, seed=0, lanes=lanes, precision=precision, compile_it=False)
    steps = program.steps
    train, train_flop = products(program.train)
    validate, validation_flop = products(program.validate)
    blocks = lanes // program.validation_lanes
    rows = torch.randint(count_examples(splits.train), (lanes * task.batch_size,))
    gather = [partial(torch.index_select, tensor, 0, rows) for tensor in splits.train.values()]
    parts = [
        steps * best_seconds(train) + blocks * best_seconds(validate),
        steps * best_seconds(optimizer(task, program)),
        steps * best_seconds(lambda: [select() for select in gather]),
    ]
    flop = steps * train_flop + blocks * validation_flop
    milliseconds = [1e3 * seconds / lanes for seconds in (whole, *parts, sum(parts))]
    numbers = [f"{number:.2g}" if number < 1 else f"{number:.1f}" for number in milliseconds]
    rate = f"{flop / parts[0] / 1e9:.0f}"
    return [name, str(lanes), *numbers, f"{sum(parts) / whole:.2f}", rate]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default = ["noisy_digits=48", "noisy_mnist=6", "vae=6"]
    parser.add_argument("tasks", nargs="*", metavar="TASK=LANES", default=default)
    use_one_thread()
    given = [text.partition("=") for text in parser.parse_args().tasks]
    table = [measure(name, int(lanes)) for name, _, lanes in given]
    print(describe_machine())
    heads = ["task", "lanes", "epoch", "products", "optimizer", "batches", "sum", "sum / epoch"]
    print("\n".join(markdown_table([*heads, "GFLOP/s of the products"], table)))


if __name__ == "__main__":
    main()
