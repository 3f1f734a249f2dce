"""Tracing functions of tensors into graphs of tensor operations."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx

from schedsearch.garbage import without_collection

#: Float32 numbers in an AVX-512 register; a reduction over fewer cannot fill one.
_VECTOR = 16


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
