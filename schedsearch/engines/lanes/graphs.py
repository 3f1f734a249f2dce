"""Tracing functions of tensors into graphs of tensor operations, and compiling the graphs."""

from __future__ import annotations

import copyreg
import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx

from schedsearch.errors import summarize_exception
from schedsearch.garbage import without_collection

#: Float32 numbers in an AVX-512 register; a reduction over fewer cannot fill one.
_VECTOR = 16
#: What torch calls the vector instructions of x86 processors.
_VECTOR_CAPABILITIES = ("AVX512", "AVX2")


def trace(function: Callable[..., Any], inputs: Sequence[Tensor]) -> GraphModule:
    """Return the graph of a function for inputs of these shapes; the inputs are not changed.

    The first time, torch loads much of its compiler.
    """
    with torch.no_grad(), without_collection(), warnings.catch_warnings():
        # An operation without a batching rule runs once per lane. `choose_lanes` measures whether
        # lanes pay.
        warnings.filterwarnings("ignore", "There is a performance drop")
        return make_fx(function)(*(tensor.clone() for tensor in inputs))


def largest_result_bytes(graph: GraphModule) -> int:
    """Return the bytes of the largest result of an operation in a traced graph."""
    results = [node.meta.get("val") for node in graph.graph.nodes if node.op == "call_function"]
    return max(t.numel() * t.element_size() for t in results if isinstance(t, Tensor))


def compile_graph(graph: GraphModule, inputs: Sequence[Tensor]) -> Callable[..., Any]:
    """Return a graph compiled for inputs of exactly these shapes and strides.

    The compiler caches its results on disk, so that the next process starts faster.
    """
    on_cpu = inputs[0].device.type == "cpu"
    if on_cpu:
        transpose_narrow_products(graph)
    quiet = warnings.catch_warnings()
    with torch.no_grad(), without_collection(), _keys_without_import_order(), quiet:
        # Warnings of the compiler are about its internals.
        warnings.simplefilter("ignore")
        try:
            function = _compile_traced(graph, inputs) if on_cpu else _compile_any(graph)
            function(*(tensor.clone() for tensor in inputs))
        except Exception:
            if not on_cpu:
                raise
            function = _compile_any(graph)
            function(*(tensor.clone() for tensor in inputs))
    return function


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


def _compile_traced(graph: GraphModule, inputs: Sequence[Tensor]) -> Callable[..., Any]:
    """Compile a graph without tracing it again, which saves a fifth of the compiler's own time.

    The check whether this processor and the C++ compiler support the vector instructions of torch
    is left out: it compiles three programs, which takes as long as the kernels of a small network.
    If they do not, the kernels fail to compile.
    """
    from torch._inductor import config, standalone_compile

    has_vectors = torch.backends.cpu.get_cpu_capability() in _VECTOR_CAPABILITIES
    with config.patch({"cpp.vec_isa_ok": True} if has_vectors else {}):
        compiled: Callable[..., Any] = standalone_compile(
            graph, [tensor.clone() for tensor in inputs], dynamic_shapes="from_example_inputs"
        )
    return compiled


def _compile_any(graph: GraphModule) -> Callable[..., Any]:
    """Compile a graph in the way that every version of torch supports, on every device."""
    # Only the numbers in the inputs change, so no call needs guards.
    unguarded = getattr(torch.compiler, "skip_all_guards_unsafe", None)
    options = {} if unguarded is None else {"guard_filter_fn": unguarded}
    return torch.compile(graph, dynamic=False, fullgraph=True, options=options)


@functools.cache
def why_not_compiled(device: str) -> str | None:
    """Return in one line why graphs cannot be compiled here; None if they can."""
    inputs = [torch.zeros(2, device=device)]
    try:
        compile_graph(trace(lambda tensor: (tensor + 1,), inputs), inputs)
    except Exception as error:
        return summarize_exception(error)
    return None


def transpose_narrow_products(graph: GraphModule) -> None:
    """Compute batched matrix products with few columns as (B'A')', whose result has long rows.

    A softmax or argmax over ten classes then processes sixteen examples per vector register, while
    a row of ten does not fill one. For a small classifier the loss took half as long as all matrix
    products; this reduces it to a third.
    """
    for node in list(graph.graph.nodes):
        if node.target is torch.ops.aten.bmm.default and _is_narrow(node):
            left, right = node.args
            with graph.graph.inserting_before(node):
                flipped = [
                    graph.graph.call_function(torch.ops.aten.transpose.int, (factor, 1, 2))
                    for factor in (right, left)
                ]
                product = graph.graph.call_function(torch.ops.aten.bmm.default, tuple(flipped))
                result = graph.graph.call_function(torch.ops.aten.transpose.int, (product, 1, 2))
            node.replace_all_uses_with(result)
            graph.graph.erase_node(node)
    graph.recompile()


def _is_narrow(node: Node) -> bool:
    _, rows, columns = node.meta["val"].shape
    return bool(columns < _VECTOR <= rows)
