"""Functions of tensors as graphs of tensor operations: traced once, and compiled."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx

from schedsearch.errors import summarize_exception

#: Float32 numbers in a vector register of AVX-512. A reduction over fewer cannot fill one.
_VECTOR = 16


def trace(function: Callable[..., Any], inputs: Sequence[Tensor]) -> GraphModule:
    """Return a function's operations on inputs like these, which are left as they are."""
    with torch.no_grad(), warnings.catch_warnings():
        # An operation without a rule for batches runs once per lane. Whether that pays is measured.
        warnings.filterwarnings("ignore", "There is a performance drop")
        return make_fx(function)(*(tensor.clone() for tensor in inputs))


def largest_result_bytes(graph: GraphModule) -> int:
    """Return the bytes of the largest result of an operation of a traced graph."""
    results = [node.meta.get("val") for node in graph.graph.nodes if node.op == "call_function"]
    return max(t.numel() * t.element_size() for t in results if isinstance(t, Tensor))


def compiled(graph: GraphModule, inputs: Sequence[Tensor]) -> Callable[..., Any]:
    """Return a graph compiled for inputs of exactly these shapes and strides, here and now.

    The compiler keeps its results on disk, so that the next process is ready sooner.
    """
    if inputs[0].device.type == "cpu":
        transpose_narrow_products(graph)
    # The inputs never change but in their numbers: there is nothing to guard at each call.
    unguarded = getattr(torch.compiler, "skip_all_guards_unsafe", None)
    options = {} if unguarded is None else {"guard_filter_fn": unguarded}
    with torch.no_grad(), warnings.catch_warnings():
        # The compiler warns of itself.
        warnings.simplefilter("ignore")
        function = torch.compile(graph, dynamic=False, fullgraph=True, options=options)
        function(*(tensor.clone() for tensor in inputs))
    return function


@functools.cache
def why_not_compiled(device: str) -> str | None:
    """Return in one line why nothing can be compiled here; None if it can."""
    inputs = [torch.zeros(2, device=device)]
    try:
        compiled(trace(lambda tensor: (tensor + 1,), inputs), inputs)
    except Exception as error:
        return summarize_exception(error)
    return None


def transpose_narrow_products(graph: GraphModule) -> None:
    """Compute batched matrix products with few columns as (B'A')', whose memory has long rows.

    A softmax or argmax over ten classes then runs along a stride, sixteen examples to a vector,
    instead of along a row that does not fill one; the loss of a small classifier took as long as
    half of its matrix products, and takes a third of that so.
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
