"""Lanes and threads are chosen so that a search, measuring included, ends soonest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import pytest
import torch

from schedsearch.engines.autotune import EngineChoice, SearchSize, choose_engine
from schedsearch.engines.base import Engine
from schedsearch.engines.lanes.engine import LanesEngine
from schedsearch.engines.measuring import EngineTimer
from schedsearch.engines.precision import DEFAULT_PRECISION
from schedsearch.engines.sequential import SequentialEngine
from tests.engines.test_batching import Random
from tests.engines.toys import Toy

#: Steps of an epoch of Toy: 43 examples in batches of 8.
STEPS = 5
#: Seconds of a simulated step of one run.
STEP = 0.01


@pytest.fixture(autouse=True)
def one_core(monkeypatch):
    """On one core, compiling is assumed to take 10 seconds."""
    monkeypatch.setattr("schedsearch.engines.autotune.available_cores", lambda: 1)


class SimulatedTimer(EngineTimer):
    """A clock on which nothing is trained: each measurement takes the time that it simulates.

    Args:
        speedups: by number of lanes and whether the step is compiled.
        compiling: seconds that a compilation takes.
        threads: how much faster each number of threads is than one.
    """

    def __init__(
        self,
        speedups: Mapping[tuple[int, bool], float],
        *,
        compiling: float = 20.0,
        threads: Mapping[int, float] = MappingProxyType({1: 1.0}),
    ) -> None:
        self.time = 0.0
        #: Lanes, whether compiled, and threads of each measurement.
        self.engines: list[tuple[int, bool, int]] = []
        self._threads = threads
        self.measured: list[tuple[int, bool]] = []
        self._speedups, self._compiling = speedups, compiling

    def now(self) -> float:
        return self.time

    def seconds_per_run(self, engine: Engine) -> float:
        assert isinstance(engine, SequentialEngine | LanesEngine)
        assert engine.task.steps_per_epoch is not None
        seconds = STEP * engine.task.steps_per_epoch
        if isinstance(engine, LanesEngine):
            key = (engine.lanes, engine.compiled)
            self.measured.append(key)
            self.time += self._compiling * engine.compiled
            seconds /= self._speedups[key]
        threads = engine.precision.threads
        self.engines.append((engine.lanes, getattr(engine, "compiled", False), threads))
        seconds /= self._threads[threads]
        self.time += 4 * seconds * engine.lanes
        return seconds


def choose(
    timer: EngineTimer,
    task: Toy | None = None,
    *,
    lanes: int | None = None,
    most_lanes: int = 16,
    threads: Sequence[int] = (1,),
    compiled_before: Sequence[tuple[int, int]] = (),
    **changes: int,
) -> tuple[EngineChoice, list[str]]:
    said: list[str] = []
    size = {"horizon": 100, "trials": 10_000, "seeds": 1, **changes}
    chosen = choose_engine(
        task or Toy(),
        size=SearchSize(**size, trained=1.0),
        lanes=lanes,
        most_lanes=most_lanes,
        threads=threads,
        precision=DEFAULT_PRECISION,
        device="cpu",
        say=said.append,
        compiled_before=compiled_before,
        timer=timer,
    )
    return chosen, said


def test_a_short_search_measures_no_lanes():
    timer = SimulatedTimer({})
    chosen, said = choose(timer, trials=30, horizon=5)
    assert (chosen.lanes, chosen.compiled) == (1, False)
    seconds = f"{30 * 5 * STEPS * STEP:.0f} s of training, or little more"
    assert chosen.reason == f"1 lane: {seconds}, are too few to measure more lanes"
    assert timer.measured == []
    assert said == []


def test_a_longer_search_uses_lanes_but_does_not_compile_them():
    # 150 s with one lane, 19 s with 16: compiling may gain 8 s in two thirds of them, and costs 14.
    timer = SimulatedTimer({(16, False): 8.0, (8, False): 5.0})
    chosen, said = choose(timer, trials=30)
    assert (chosen.lanes, chosen.compiled) == (16, False)
    assert chosen.reason.startswith("16 lanes, not compiled: 8.0 times the speed of one lane")
    assert timer.measured[0] == (16, False)
    assert not any(compiled for _, compiled in timer.measured)
    assert said == []


def test_a_long_search_compiles_the_lanes():
    timer = SimulatedTimer({(16, False): 2.0, (8, False): 1.5, (16, True): 8.0, (8, True): 7.0})
    chosen, said = choose(timer)
    assert (chosen.lanes, chosen.compiled) == (16, True)
    assert "8.0 times the speed of one lane" in chosen.reason
    assert "compiling a step of 16 lanes" in said[0]


def test_a_step_that_was_compiled_before_is_loaded_also_for_a_shorter_search():
    timer = SimulatedTimer({(16, False): 8.0, (8, False): 5.0, (8, True): 15.0}, compiling=1.5)
    chosen, said = choose(timer, trials=30, compiled_before=[(8, 1), (16, 2)])
    assert (chosen.lanes, chosen.compiled) == (8, True)
    # That of 16 lanes was compiled for two threads, so this one would have to be compiled.
    assert (16, True) not in timer.measured
    assert said == []


class BusyAtFirst(SimulatedTimer):
    """A machine whose other load slows the first measurements of the sequential engine."""

    slow = 2

    def seconds_per_run(self, engine: Engine) -> float:
        seconds = super().seconds_per_run(engine)
        if isinstance(engine, SequentialEngine) and self.slow:
            self.slow -= 1
            return 300 * seconds
        return seconds


def test_load_while_one_lane_is_measured_first_changes_neither_the_choice_nor_the_ratio():
    chosen, _ = choose(BusyAtFirst({(16, False): 4.0, (8, False): 3.0}), trials=30)
    assert (chosen.lanes, chosen.compiled) == (16, False)
    assert "4.0 times the speed of one lane" in chosen.reason
    chosen, _ = choose(BusyAtFirst({(16, False): 1.0, (8, False): 1.0}), trials=30)
    assert chosen.lanes == 1


def test_load_through_all_measurements_of_one_lane_gives_no_ratio_above_the_number_of_lanes():
    timer = BusyAtFirst({(16, False): 4.0, (8, False): 3.0})
    timer.slow = 10
    chosen, _ = choose(timer, trials=30)
    assert f"{chosen.lanes} times the speed of one lane" in chosen.reason


def test_of_lanes_about_as_fast_the_fewest_are_chosen():
    timer = SimulatedTimer({(16, False): 4.0, (8, False): 3.8})
    assert choose(timer, trials=30)[0].lanes == 8
    timer = SimulatedTimer({(16, False): 1.05, (8, False): 1.05})
    chosen, _ = choose(timer, trials=30)
    assert chosen.lanes == 1
    assert "more were not faster" in chosen.reason


def test_compiling_is_tried_again_only_while_it_may_pay():
    # The compiled search takes 10 s more: no gain from fewer lanes pays for a compilation of 20 s.
    timer = SimulatedTimer({(16, False): 2.0, (8, False): 1.5, (16, True): 100.0})
    chosen, _ = choose(timer, trials=200)
    assert (chosen.lanes, chosen.compiled) == (16, True)
    assert [lanes for lanes, compiled in timer.measured if compiled] == [16]


@pytest.mark.parametrize("trials", [10, 20, 40, 80, 160, 1000, 10_000])
def test_measuring_never_costs_more_than_a_twentieth_of_the_search(trials):
    """Even where lanes and compiling gain nothing, and take as long as was assumed."""
    useless = {(lanes, compiled): 1.0 for lanes in (4, 8, 16) for compiled in (False, True)}
    timer = SimulatedTimer(useless, compiling=10.0, threads={1: 1.0, 2: 1.0})
    chosen, _ = choose(timer, trials=trials, threads=(1, 2))
    assert (chosen.lanes, chosen.threads) == (1, 1)
    assert timer.time <= 0.05 * trials * 100 * STEPS * STEP


def test_lanes_are_a_multiple_of_the_seeds():
    timer = SimulatedTimer({(12, False): 2.0, (6, False): 2.0})
    assert choose(timer, trials=10, seeds=3)[0].lanes == 6


@pytest.mark.parametrize("most", [0, 1])
def test_without_room_for_two_runs_there_is_one_lane(most):
    chosen, _ = choose(SimulatedTimer({}), most_lanes=most)
    assert chosen.lanes == 1
    assert "--lanes N does it anyway" in chosen.reason


def test_a_task_that_cannot_be_batched_is_named_with_the_reason():
    chosen, _ = choose(EngineTimer(), Random(), trials=100_000)
    assert chosen.lanes == 1
    assert "cannot be batched: torch.randn_like draws random numbers" in chosen.reason
    fixed, _ = choose(EngineTimer(), Random(), lanes=4)
    assert fixed.reason == chosen.reason


def test_without_a_compiler_lanes_are_not_compiled(monkeypatch):
    def fail(*arguments, **options):
        raise RuntimeError("no compiler")

    class WithoutCompiler(SimulatedTimer):
        """Builds compiled lanes as the real timer does."""

        def seconds_per_run(self, engine: Engine) -> float:
            if isinstance(engine, LanesEngine) and engine.compiled:
                return EngineTimer().seconds_per_run(engine)
            return super().seconds_per_run(engine)

    monkeypatch.setattr(torch, "compile", fail)
    monkeypatch.setattr("torch._inductor.standalone_compile", fail)
    chosen, said = choose(WithoutCompiler({(16, False): 2.0, (8, False): 2.0}))
    assert said
    assert (chosen.lanes, chosen.compiled) == (8, False)
    assert "compiling failed: RuntimeError: no compiler" in chosen.reason


def test_the_timer_measures_epochs_per_run_and_raises_what_the_task_raises():
    class Breaks(Toy):
        def terms(self, model, batch, hp, noise):
            raise ZeroDivisionError("mine")

    class Ticking(EngineTimer):
        """A clock that each look advances by a second."""

        time = 0.0

        def now(self) -> float:
            self.time += 1
            return self.time

    assert Ticking().seconds_per_run(LanesEngine(Toy(), 2, compiled=False)) == 0.5
    with pytest.raises(ZeroDivisionError, match="mine"):
        Ticking().seconds_per_run(SequentialEngine(Breaks()))


def test_fixed_lanes_are_used_and_compiled():
    chosen, _ = choose(SimulatedTimer({}), lanes=5)
    assert chosen == EngineChoice(5, True, 1, "5 lanes, compiled")


UNCOMPILED = {(16, False): 4.0, (8, False): 3.0}


def test_more_threads_are_used_if_they_are_faster_by_a_fifth():
    timer = SimulatedTimer(UNCOMPILED, threads={1: 1.0, 4: 1.1, 8: 1.5})
    chosen, _ = choose(timer, trials=30, threads=(1, 4, 8))
    assert (chosen.lanes, chosen.threads) == (16, 8)
    assert chosen.reason.endswith("; 8 threads: 8 are 1.50 times as fast as 1")


def test_one_thread_is_kept_unless_more_are_faster_by_a_fifth():
    timer = SimulatedTimer(UNCOMPILED, threads={1: 1.0, 2: 1.19})
    chosen, _ = choose(timer, trials=30, threads=(1, 2))
    assert chosen.threads == 1
    assert chosen.reason.endswith("; 1 thread: 2 are 1.19 times as fast, which is too little")


def test_a_step_is_compiled_with_the_threads_that_were_chosen():
    compiled = UNCOMPILED | {(16, True): 8.0, (8, True): 8.0}
    timer = SimulatedTimer(compiled, threads={1: 1.0, 2: 1.5})
    chosen, _ = choose(timer, threads=(1, 2))
    assert (chosen.compiled, chosen.threads) == (True, 2)
    assert timer.engines.index((16, True, 2)) > timer.engines.index((16, False, 2))
    assert (16, True, 1) not in timer.engines


def test_a_search_that_is_too_short_to_measure_threads_has_one():
    timer = SimulatedTimer({}, threads={1: 1.0})
    chosen, _ = choose(timer, trials=2, horizon=5, threads=(1, 2), most_lanes=1)
    assert chosen.threads == 1
    assert {threads for *_, threads in timer.engines} == {1}


@pytest.mark.parametrize("lanes", [1, 16])
def test_threads_are_measured_with_a_given_number_of_lanes(lanes):
    timer = SimulatedTimer({(16, False): 2.0}, threads={1: 1.0, 2: 1.5})
    chosen, _ = choose(timer, trials=200, threads=(1, 2), lanes=lanes)
    assert (chosen.lanes, chosen.threads) == (lanes, 2)
