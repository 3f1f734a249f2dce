"""Shorter ways through Inductor, the compiler of torch, for graphs on the CPU.

They replace internals of torch while graphs are compiled, and change no generated code.
`compile_graphs` does without them if another version of torch has other internals.
"""

from __future__ import annotations

import ast
import contextvars
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.fx import GraphModule

#: A function of tensors that is compiled for their shapes.
Compiled: TypeAlias = Callable[..., Any]
#: What torch calls the vector instructions of x86 processors.
_VECTOR_CAPABILITIES = ("AVX512", "AVX2")
#: For these numbers, processors have instructions beside `_VECTOR_CAPABILITIES`.
_SHORT_NUMBERS = (torch.bfloat16, torch.float16, torch.int8, torch.uint8)


def compile_traced(
    graphs: Sequence[GraphModule], inputs: Sequence[Sequence[Tensor]]
) -> list[Compiled]:
    """Compile graphs without tracing them again, which saves a fifth of the compiler's own time."""
    from torch._inductor import standalone_compile

    functions: dict[int, Compiled] = {}
    with ExitStack() as stack:
        stack.enter_context(_without_instruction_checks(graphs))
        stack.enter_context(_without_simplified_strides())
        stack.enter_context(_kernels_begin_early(_begin_headers()))
        stack.enter_context(_kernels_side_by_side())
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
def _without_simplified_strides() -> Iterator[None]:
    """Let the compiler read the strides of a sum of multiples of variables off its coefficients.

    To choose which loop to vectorize, it simplifies the difference of two neighbouring indices with
    sympy, for each tensor and loop.
    """
    import sympy
    from torch._inductor import sizevars

    simplify, difference = sizevars.simplify_index_in_vec_range, sizevars.stride_at

    def simplified(index: Any, variable: Any, length: int) -> Any:
        return index if _coefficients(index) else simplify(index, variable, length)

    def stride(index: Any, variable: Any) -> Any:
        known = _coefficients(index)
        return known.get(variable, sympy.S.Zero) if known else difference(index, variable)

    with (
        _replaced(sizevars, "simplify_index_in_vec_range", simplified),
        _replaced(sizevars, "stride_at", stride),
    ):
        yield


def _coefficients(index: Any) -> dict[Any, Any]:
    """Return the coefficients of an affine index by its variables; of other indices, nothing.

    >>> import sympy
    >>> x, y = sympy.symbols("x y")
    >>> _coefficients(64 * x + y + 3) == {x: 64, y: 1}
    True
    >>> _coefficients(x * y), _coefficients(sympy.floor(x / 2) + x)
    ({}, {})
    """
    import sympy

    terms = sympy.Add.make_args(index) if isinstance(index, sympy.Expr) else ()
    found: dict[Any, Any] = {}
    for term in terms:
        coefficient, variable = term.as_coeff_Mul()
        if variable.is_Symbol:
            found[variable] = found.get(variable, 0) + coefficient
        elif variable != 1:
            return {}
    return found


@contextmanager
def _kernels_begin_early(headers: threading.Thread | None) -> Iterator[None]:
    """Begin to compile a kernel as soon as its code exists, instead of that of the whole graph.

    The compiler asks for it again later, finds what has begun by the hash of the code, and reports
    what fails. While the headers are not there, a kernel would wait for them in this thread.
    """
    from torch._inductor.async_compile import AsyncCompile
    from torch._inductor.codegen.wrapper import PythonWrapperCodegen

    define, thread = PythonWrapperCodegen.define_kernel, threading.get_ident()

    def begin(wrapper: Any, name: str, body: str, *arguments: Any, **options: Any) -> None:
        define(wrapper, name, body, *arguments, **options)
        is_python = body.lstrip().startswith("async_compile.cpp_pybinding(")
        waits = headers is not None and headers.is_alive()
        if is_python and not waits and threading.get_ident() == thread:
            with suppress(Exception):
                call = ast.parse(body.strip(), mode="eval").body
                assert isinstance(call, ast.Call)
                AsyncCompile().cpp_pybinding(*map(ast.literal_eval, call.args))

    with _replaced(PythonWrapperCodegen, "define_kernel", begin):
        yield


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


def _begin_headers() -> threading.Thread | None:
    """Begin to precompile the headers of kernels, and return the thread; None if they are there.

    Meanwhile graphs are lowered. The compiler would begin only before the first kernel.
    """
    from torch._inductor import codecache

    def precompile() -> None:
        with suppress(Exception):  # the first kernel will say it
            codecache.CppPythonBindingsCodeCache.load_pybinding_async(["const float*"], "")

    if any(Path(codecache._HEADER_DIR).glob("*.gch")):
        return None
    # The settings of the compiler belong to a context.
    run = contextvars.copy_context().run
    thread = threading.Thread(target=run, args=(precompile,), daemon=True)
    thread.start()
    return thread


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)
