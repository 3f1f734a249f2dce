"""Whether a task's runs can train as lanes of one step, and if not, what stands in the way."""

from __future__ import annotations

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
from schedsearch.task import Task, TrainFunction, is_train_function

#: From a phrase of torch's message to ours, which says what to change.
_REASONS: Mapping[str, str] = {
    "random operation": "draws random numbers; what a step draws must be declared as `noise`",
    ".item()": "hands Python a number that differs between the runs",
    "data-dependent control flow": "lets Python branch on a number that differs between the runs",
    "is not possible because": "changes in place a tensor that all runs would share",
}


def why_not_batched(
    task: Task | TrainFunction,
    device: str = "cpu",
    precision: PrecisionSettings = DEFAULT_PRECISION,
) -> str | None:
    """Return in one line why a task's runs cannot share a step; None if they can.

    Two lanes of a step are traced, for two seeds. What a step computes must be the same operations
    for both: a step that counts its calls, or a model that hides a seed's numbers where they are
    neither parameters nor buffers, would train wrongly as lanes.

    Raises what the task raises while it makes its data and its model.
    """
    if is_train_function(task):
        return "a training loop of one's own trains one run at a time"
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
    return None if _same_operations(*programs) else _CHANGING


_CHANGING = (
    "a step is not the same operations for every run: it depends on Python state that changes, "
    "or on tensors of the model that are neither parameters nor buffers"
)


class _FailingCall(TorchFunctionMode):
    """Knows the name of the first function of torch that raised."""

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
    return f"{operation} {next(known, f'raises {text}')}"


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
    """Return the tensors that a graph holds by itself."""
    names = [str(node.target) for node in graph.graph.nodes if node.op == "get_attr"]
    return {name: getattr(graph, name) for name in names}
