"""Compiling traced graphs, all of an engine together."""

from __future__ import annotations

import copyreg
import functools
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule

from schedsearch.engines.lanes.graphs import trace, transpose_narrow_products
from schedsearch.engines.lanes.inductor import Compiled, compile_traced
from schedsearch.errors import summarize_exception
from schedsearch.garbage import without_collection

#: Settings of torch that belong to the whole process are replaced while graphs are compiled.
_LOCK = threading.Lock()


def compile_graphs(
    graphs: Sequence[GraphModule], inputs: Sequence[Sequence[Tensor]]
) -> list[Compiled]:
    """Return graphs compiled for inputs of exactly these shapes and strides.

    The kernels of all graphs are compiled side by side. The compiler caches its results on disk, so
    that the next process starts faster.
    """
    on_cpu = inputs[0][0].device.type == "cpu"
    if on_cpu:
        for graph in graphs:
            transpose_narrow_products(graph)
    quiet = warnings.catch_warnings()
    with _LOCK, torch.no_grad(), without_collection(), _keys_without_import_order(), quiet:
        # Warnings of the compiler are about its internals.
        warnings.simplefilter("ignore")
        if on_cpu:
            try:
                return _tried(compile_traced(graphs, inputs), inputs)
            except Exception:
                pass  # it uses internals of torch, which another version may not have
        return _tried(_compile_any(graphs), inputs)


def _tried(functions: list[Compiled], inputs: Sequence[Sequence[Tensor]]) -> list[Compiled]:
    """Return functions that were called once."""
    for function, tensors in zip(functions, inputs, strict=True):
        function(*(tensor.clone() for tensor in tensors))
    return functions


@contextmanager
def _keys_without_import_order() -> Iterator[None]:
    """Let the compiler's cache find a graph again, whatever a process has imported first.

    Its keys are pickled, and pickle names a memory format by the first of all loaded modules that
    has an attribute `torch`.
    """
    before = copyreg.dispatch_table.get(torch.memory_format)
    copyreg.dispatch_table[torch.memory_format] = _reduce_memory_format
    try:
        yield
    finally:
        if before is None:
            copyreg.dispatch_table.pop(torch.memory_format, None)
        else:
            copyreg.dispatch_table[torch.memory_format] = before


def _reduce_memory_format(value: torch.memory_format) -> tuple[Callable[..., Any], tuple[str]]:
    return _memory_format, (str(value).removeprefix("torch."),)


def _memory_format(name: str) -> torch.memory_format:
    found: torch.memory_format = getattr(torch, name)
    return found


def _compile_any(graphs: Sequence[GraphModule]) -> list[Compiled]:
    """Compile graphs in the way that every version of torch supports, on every device."""
    # Only the numbers in the inputs change, so no call needs guards.
    unguarded = getattr(torch.compiler, "skip_all_guards_unsafe", None)
    options = {} if unguarded is None else {"guard_filter_fn": unguarded}
    return [
        torch.compile(graph, dynamic=False, fullgraph=True, options=options) for graph in graphs
    ]


@functools.cache
def why_not_compiled(device: str) -> str | None:
    """Return in one line why graphs cannot be compiled here; None if they can."""
    inputs = [torch.zeros(2, device=device)]
    try:
        compile_graphs([trace(lambda tensor: (tensor + 1,), inputs)], [inputs])
    except Exception as error:
        return summarize_exception(error)
    return None
