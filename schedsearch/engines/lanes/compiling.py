"""Compiling traced graphs, all of an engine together and without needless checks."""

from __future__ import annotations

import contextvars
import copyreg
import functools
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.fx import GraphModule

from schedsearch.engines.lanes.graphs import trace, transpose_narrow_products
from schedsearch.errors import summarize_exception
from schedsearch.garbage import without_collection

#: A function of tensors that is compiled for their shapes.
Compiled: TypeAlias = Callable[..., Any]
#: What torch calls the vector instructions of x86 processors.
_VECTOR_CAPABILITIES = ("AVX512", "AVX2")
#: For these numbers, processors have instructions beside `_VECTOR_CAPABILITIES`.
_SHORT_NUMBERS = (torch.bfloat16, torch.float16, torch.int8, torch.uint8)
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
                return _tried(_compile_traced(graphs, inputs), inputs)
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


def _compile_traced(
    graphs: Sequence[GraphModule], inputs: Sequence[Sequence[Tensor]]
) -> list[Compiled]:
    """Compile graphs without tracing them again, which saves a fifth of the compiler's own time."""
    from torch._inductor import standalone_compile

    functions: dict[int, Compiled] = {}
    with _without_instruction_checks(graphs), _kernels_side_by_side():
        _begin_headers()
        # The kernels of a small graph are compiled while the next one is lowered.
        for number in sorted(
            range(len(graphs)), key=lambda number: len(graphs[number].graph.nodes)
        ):
            examples: list[Any] = [tensor.clone() for tensor in inputs[number]]
            functions[number] = standalone_compile(
                graphs[number], examples, dynamic_shapes="from_example_inputs"
            )
    return [functions[number] for number in range(len(graphs))]


@contextmanager
def _without_instruction_checks(graphs: Sequence[GraphModule]) -> Iterator[None]:
    """Let the compiler use the vector instructions of torch without trying them.

    To try them, it compiles a program for each, which takes as long as the kernels of a small
    network. If the C++ compiler does not know the instructions, the kernels fail to compile. Those
    for numbers of 8 and 16 bits are tried if there are such numbers.
    """
    from torch._inductor import config, cpu_vec_isa

    with ExitStack() as stack:
        if torch.backends.cpu.get_cpu_capability() in _VECTOR_CAPABILITIES:
            stack.enter_context(config.patch({"cpp.vec_isa_ok": True}))
            if not any(map(_has_short_numbers, graphs)):
                found = [
                    name
                    for name in cpu_vec_isa.x86_isa_checker()
                    if name.upper() in _VECTOR_CAPABILITIES
                ]
                for cached in (cpu_vec_isa.valid_vec_isa_list, cpu_vec_isa.VecAVX512.__bool__):
                    cached.cache_clear()
                    stack.callback(cached.cache_clear)
                stack.enter_context(_replaced(cpu_vec_isa, "x86_isa_checker", lambda: found))
                no = _replaced(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
                stack.enter_context(no)
        yield


def _has_short_numbers(graph: GraphModule) -> bool:
    results = [node.meta.get("val") for node in graph.graph.nodes]
    return any(isinstance(t, Tensor) and t.dtype in _SHORT_NUMBERS for t in results)


@contextmanager
def _kernels_side_by_side() -> Iterator[None]:
    """Wait for the C++ compiler at the end of the block, instead of after each graph."""
    from torch._inductor.async_compile import AsyncCompile

    wait, thread = AsyncCompile.wait, threading.get_ident()
    begun: list[tuple[Any, dict[str, Any]]] = []

    def begin(compiler: Any, scope: dict[str, Any]) -> None:
        if threading.get_ident() == thread:
            begun.append((compiler, scope))
        else:
            wait(compiler, scope)

    with _replaced(AsyncCompile, "wait", begin):
        yield
    for compiler, scope in begun:
        wait(compiler, scope)


def _begin_headers() -> None:
    """Begin to precompile the headers of kernels, if this machine has none.

    Meanwhile graphs are lowered. The compiler would begin only before the first kernel.
    """
    from torch._inductor import codecache

    def precompile() -> None:
        with suppress(Exception):  # the first kernel will say it
            codecache.CppPythonBindingsCodeCache.load_pybinding_async(["const float*"], "")

    if not any(Path(codecache._HEADER_DIR).glob("*.gch")):
        # The settings of the compiler belong to a context.
        run = contextvars.copy_context().run
        threading.Thread(target=run, args=(precompile,), daemon=True).start()


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


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
