"""Whether the runs of a task can be batched into one step, and the reason if they cannot."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.overrides import TorchFunctionMode, resolve_name

from schedsearch.engines.lanes.program import Program, build
from schedsearch.engines.precision import DEFAULT_PRECISION, PrecisionSettings
from schedsearch.engines.task_adapter import TaskAdapter
from schedsearch.errors import SchedSearchError, summarize_exception
from schedsearch.exception_lines import innermost_user_line
from schedsearch.task import Task, TrainFunction, is_train_function

#: From a phrase in torch's message to our message.
_REASONS: Mapping[str, str] = {
    "random operation": "draws random numbers; declare those of a step as `noise`",
    ".item()": "converts a tensor that differs between runs to a Python number",
    "Cannot access data pointer": "reads the values of a tensor that differs between runs",
    "data-dependent control flow": "makes Python branch on a value that differs between runs",
    "is not possible because": "changes a tensor in place that all runs would share",
}


def why_not_batched(
    task: Task | TrainFunction,
    device: str = "cpu",
    precision: PrecisionSettings = DEFAULT_PRECISION,
) -> str | None:
    """Return in one line why the runs of a task cannot share a step; None if they can.

    A step of two lanes is traced for each of two seeds. Both traces must have the same operations:
    a step that counts its calls, or a model that depends on the seed in tensors that are neither
    parameters nor buffers, would train wrongly in lanes.

    Raises what the task raises while it makes its data and its model.
    """
    if is_train_function(task):
        return "a training loop trains one run at a time"
    adapter = TaskAdapter(task, torch.device(device), precision, lanes=2)
    splits = [adapter.splits(seed) for seed in (0, 1)]
    adapter.make_model(0)
    failing = _FailingCall()
    try:
        with precision.apply(), torch.no_grad(), failing:
            programs = [
                build(adapter, s, seed=seed, lanes=2, precision=precision, compile_it=False)
                for seed, s in enumerate(splits)
            ]
            programs[0].data.assign_seed(1, 1, splits[1])
    except SchedSearchError as error:
        return str(error)
    except Exception as error:
        return _reason(failing.name or "a step", error)
    return None if _same_operations(*programs) else _OPERATIONS_DIFFER


_OPERATIONS_DIFFER = (
    "a step does not have the same operations in every run: it depends on Python state that "
    "changes, or on tensors of the model that are neither parameters nor buffers"
)


class _FailingCall(TorchFunctionMode):
    """Records the name of the first torch function that raised."""

    name: str | None = None

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        try:
            return func(*args, **(kwargs or {}))
        except Exception:
            self.name = self.name or resolve_name(func)
            raise


def _reason(operation: str, error: Exception) -> str:
    text = summarize_exception(error)
    known = (reason for phrase, reason in _REASONS.items() if phrase in text)
    line = innermost_user_line(traceback.extract_tb(error.__traceback__))
    return f"{operation} {next(known, f'raises {text}')}{line}"


def _same_operations(first: Program, second: Program) -> bool:
    return all(
        _same_graph(a, b)
        for a, b in ((first.train, second.train), (first.validate, second.validate))
        if isinstance(a, GraphModule) and isinstance(b, GraphModule)
    )


def _same_graph(first: GraphModule, second: GraphModule) -> bool:
    constants, others = _constants(first), _constants(second)
    return (
        first.code == second.code
        and constants.keys() == others.keys()
        and all(torch.equal(tensor, others[name]) for name, tensor in constants.items())
    )


def _constants(graph: GraphModule) -> dict[str, Tensor]:
    """Return the tensors that are stored in a graph."""
    names = [str(node.target) for node in graph.graph.nodes if node.op == "get_attr"]
    return {name: getattr(graph, name) for name in names}
