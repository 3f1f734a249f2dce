"""Compiled graphs compute what graphs compute, and compiling does nothing needless."""

import itertools
import threading
import warnings
from pathlib import Path

import pytest
import torch
from torch._inductor import (
    codecache,
    config,
    cpp_builder,
    cpu_vec_isa,
    sizevars,
    standalone_compile,
)
from torch._inductor.async_compile import AsyncCompile
from torch._inductor.graph import GraphLowering

from schedsearch.engines.lanes import compiling
from schedsearch.engines.lanes.compiling import compile_graphs
from schedsearch.engines.lanes.graphs import trace

COMPILE_ANY = compiling._compile_any


@pytest.fixture(autouse=True)
def _nothing_is_compiled(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def _nothing_fails_silently(monkeypatch):
    """After an error graphs are compiled as by torch.compile, and compute the same."""

    def fail(graphs):
        raise AssertionError("the shorter ways failed")

    monkeypatch.setattr(compiling, "_compile_any", fail)


def normalized(numbers):
    return ((numbers - numbers.mean(1, keepdim=True)).softmax(1).tanh(),)


def summed(numbers):
    return ((numbers * numbers).sigmoid().sum(0),)


_ROWS = itertools.count(5)


def compile_two():
    """Compile two graphs that no test has compiled before, and check what they compute."""
    inputs = [[torch.randn(next(_ROWS), 33)], [torch.randn(7, 19 + next(_ROWS))]]
    graphs = [trace(normalized, inputs[0]), trace(summed, inputs[1])]
    expected = [graph(*tensors)[0] for graph, tensors in zip(graphs, inputs, strict=True)]
    for function, tensors, result in zip(
        compile_graphs(graphs, inputs), inputs, expected, strict=True
    ):
        torch.testing.assert_close(function(*tensors)[0], result)


def test_tracing_and_compiling_do_not_change_the_inputs():
    inputs = [torch.ones(3)]
    graph = trace(lambda tensor: (tensor.add_(1),), inputs)
    (function,) = compile_graphs([graph], [inputs])
    assert inputs[0].tolist() == [1, 1, 1]
    function(*inputs)
    assert inputs[0].tolist() == [2, 2, 2]


def test_the_kernels_of_all_graphs_are_compiled_side_by_side(monkeypatch):
    events = []
    for owner, name in ((GraphLowering, "codegen"), (AsyncCompile, "wait")):
        original = getattr(owner, name)

        def noted(*arguments, name=name, original=original):
            events.append(name)
            return original(*arguments)

        monkeypatch.setattr(owner, name, noted)
    compile_two()
    assert events[:2] == ["codegen", "codegen"]
    assert set(events[2:]) == {"wait"}


@pytest.fixture
def kernels(monkeypatch):
    """The codes of the kernels that are compiled, and "generated" after those of a graph."""
    events = []
    compile_kernel, generate = AsyncCompile.cpp_pybinding, GraphLowering.codegen

    def noted(compiler, types, code):
        events.append(code)
        return compile_kernel(compiler, types, code)

    def generated(graph):
        result = generate(graph)
        events.append("generated")
        return result

    monkeypatch.setattr(AsyncCompile, "cpp_pybinding", noted)
    monkeypatch.setattr(GraphLowering, "codegen", generated)
    return events


def test_kernels_are_compiled_before_the_code_of_the_graph_is_complete(kernels, monkeypatch):
    run, commands = cpp_builder.run_compile_cmd, list[str]()

    def noted(cmd_line, cwd):
        commands.append(cmd_line)
        run(cmd_line, cwd)

    monkeypatch.setattr(cpp_builder, "run_compile_cmd", noted)
    compile_two()
    first = kernels.index("generated")
    assert first > 0
    asked = kernels[:first] + kernels[first + 1 :]
    assert all(asked.count(code) == 2 for code in asked if code != "generated")
    built = [command for command in commands if " -shared " in command]
    assert len(built) == len(set(asked) - {"generated"})


def regrouped(numbers):
    """Compute results whose elements are at sums, quotients and remainders of positions."""
    turned = numbers.repeat(2, 1).view(-1, 6).flip(0)
    softmax, rolled = numbers.T.contiguous().softmax(1), numbers.roll(3, 0)[::2] * 2
    return turned.sum(1), numbers.sum(0), softmax, rolled


def test_the_kernels_are_those_that_the_compiler_makes_alone(kernels):
    inputs = [torch.randn(12, 33)]
    quiet = warnings.catch_warnings(action="ignore")  # about what torch imports
    with quiet, config.patch({"force_disable_caches": True, "cpp.vec_isa_ok": True}):
        standalone_compile(trace(regrouped, inputs), inputs, dynamic_shapes="from_example_inputs")
        alone = set(kernels)
        kernels.clear()
        sizevars.stride_at_vec_range.cache_clear()
        compile_graphs([trace(regrouped, inputs)], [inputs])
    assert set(kernels) == alone
    assert len(alone) > 1


def test_the_vector_instructions_are_not_tried_for_numbers_that_do_not_need_them(monkeypatch):
    def check(*_):
        raise AssertionError("a program was compiled to try an instruction")

    monkeypatch.setattr(cpu_vec_isa.VecISA, "check_build", check)
    compile_two()


@pytest.mark.parametrize(("dtype", "tried"), [(torch.float64, False), (torch.bfloat16, True)])
def test_other_instructions_are_looked_for_only_where_they_help(dtype, tried, monkeypatch):
    original, found = cpu_vec_isa.x86_isa_checker, []

    def noted(*arguments, **options):
        found.append(cpu_vec_isa.x86_isa_checker())
        return standalone_compile(*arguments, **options)

    monkeypatch.setattr("torch._inductor.standalone_compile", noted)
    monkeypatch.setattr(cpu_vec_isa.VecISA, "check_build", lambda *_: False)
    inputs = [torch.ones(4, 32)]  # exact in 16 bits
    graph = trace(lambda numbers: ((numbers.to(dtype) * 2).float(),), inputs)
    (function,) = compile_graphs([graph], [inputs])
    torch.testing.assert_close(function(*inputs)[0], graph(*inputs)[0])
    every = original()
    assert found == [every if tried else [name for name in every if name in ("avx2", "avx512")]]
    assert cpu_vec_isa.x86_isa_checker is original


def test_without_the_internals_of_torch_graphs_are_compiled_as_by_torch_compile(monkeypatch):
    monkeypatch.setattr("torch._inductor.standalone_compile", None)
    monkeypatch.setattr(compiling, "_compile_any", COMPILE_ANY)
    compile_two()


def test_another_thread_waits_for_its_own_kernels(monkeypatch):
    """It would call functions whose kernels are not there yet."""

    def after_another_thread(*arguments, **options):
        results = []

        def other():
            compiled = torch.compile(lambda numbers: numbers.sigmoid() + 1)
            results.append(compiled(torch.zeros(4)).tolist())

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert results == [[1.5] * 4]
        return standalone_compile(*arguments, **options)

    monkeypatch.setattr("torch._inductor.standalone_compile", after_another_thread)
    compile_two()


@pytest.mark.long
def test_missing_headers_are_precompiled_once(tmp_path, monkeypatch):
    folder = tmp_path / "headers"
    monkeypatch.setattr(codecache, "_HEADER_DIR", str(folder))
    monkeypatch.setattr(codecache, "_HEADER_LOCK_DIR", str(folder / "locks"))
    codecache._precompile_header.cache_clear()
    try:
        compile_two()
        assert len(list(Path(folder).glob("*.gch"))) == 1
    finally:
        codecache._precompile_header.cache_clear()
