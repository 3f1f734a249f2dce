"""How long compiling delays the first epoch of a process, the first time and later.

    python -m benchmarks.compile_time [--task noisy_digits] [--lanes 24] [--repeats 5]

A new process makes the engine of a task and trains an epoch in all lanes: without compiling, with
an empty cache, and with the cache of the process before it. What compiling costs is the difference
to the first, each without the time of a second epoch. It includes loading torch's compiler. In
other processes that is loaded before, as in the process whose forks are the workers of `start`.
torch's precompiled headers, which are made once on a machine, are there before.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib import import_module

from benchmarks.measurement import (
    Measurement,
    describe_machine,
    markdown_table,
    time_call,
    use_one_thread,
)
from schedsearch.engines import make_engine
from schedsearch.plan import Plan
from schedsearch.scheduler import Scheduler
from schedsearch.schedules import Constant
from schedsearch.task import load_task
from schedsearch.tasks import BUILT_IN

_HORIZON = 60


@dataclass(frozen=True)
class Process:
    """A new process: does it compile, and is the compiler loaded when the time begins?"""

    compiled: bool
    loaded: bool = False

    def delay(self, task_name: str, lanes: int) -> float:
        """Return the seconds until a new engine begins to train in all lanes.

        They are those of the engine and its first epoch, without those of its second epoch.
        """
        use_one_thread()
        task = load_task(BUILT_IN[task_name])
        plan = Plan({(name,): Constant(value) for name, value in task.hyperparameters.items()})
        numerics = {"engine": "lanes", "lanes": lanes, "compiled": self.compiled}
        if self.loaded:
            import_module("torch._inductor.compile_fx")

        values = [Scheduler(plan, horizon=_HORIZON).epoch_values] * lanes
        began = time.perf_counter()
        engine = make_engine(
            task, horizon=_HORIZON, numerics=numerics | {"device": "cpu", "threads": 1}
        )
        for lane in range(lanes):
            engine.fill(lane, seed=lane)
        engine.train_epoch(values)
        first = time.perf_counter() - began
        return first - time_call(lambda: engine.train_epoch(values))

    def run(self, task: str, lanes: int, cache: str) -> float:
        """Return the delay of a new process, which keeps compiled code there."""
        command = [sys.executable, "-m", "benchmarks.compile_time", "--task", task]
        command += ["--lanes", str(lanes), "--once", *(["--compiled"] if self.compiled else [])]
        command += ["--loaded"] if self.loaded else []
        environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": cache}
        output = subprocess.run(
            command, env=environment, check=True, stdout=subprocess.PIPE, text=True
        ).stdout
        return float(output)


def measure(task: str, lanes: int, loaded: bool, repeats: int) -> list[Measurement]:
    """Return the delays without compiling, with an empty cache, and with that cache again."""
    seconds = []
    eager, compiled = (Process(compiled, loaded) for compiled in (False, True))
    for repeat in range(repeats + 1):
        # The first repeat may also precompile torch's headers, and does not count.
        with tempfile.TemporaryDirectory() as cache:
            seconds.append([which.run(task, lanes, cache) for which in (eager, compiled, compiled)])
        print(f"repeat {repeat} of {repeats}: {seconds[-1]}", file=sys.stderr, flush=True)
    sides = zip(("not compiled", "first", "again"), zip(*seconds[1:], strict=True), strict=True)
    return [Measurement(name, numbers) for name, numbers in sides]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="noisy_digits", choices=BUILT_IN)
    parser.add_argument("--lanes", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=5)
    for name in ("--once", "--compiled", "--loaded"):
        parser.add_argument(name, action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        process = Process(options.compiled, options.loaded)
        print(process.delay(options.task, options.lanes))
        return
    rows = []
    for loaded in (False, True):
        sides = measure(options.task, options.lanes, loaded, options.repeats)
        for side in sides:
            pairs = zip(side.numbers, sides[0].numbers, strict=True)
            added = statistics.median(mine - theirs for mine, theirs in pairs)
            before = "loaded before" if loaded else "not loaded"
            rows.append([options.task, before, side.name, f"{side.median:.2f}", f"{added:.2f}"])
    print(describe_machine())
    heads = ["task", "compiler", "compiled", "delay, s", "by compiling, s"]
    print("\n".join(markdown_table(heads, rows)))


if __name__ == "__main__":
    main()
