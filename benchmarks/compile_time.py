"""How long compiling delays the first epoch of a new process, the first time and later.

    python -m benchmarks.compile_time [--task noisy_digits] [--lanes 24] [--repeats 5]

A process makes the engine of a task and trains an epoch in all lanes: without a compiler, with an
empty cache, and with the cache of the process before it. The difference to the first is what
compiling costs, loading the compiler included. torch's precompiled headers, which are made once on
a machine, are there before.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial

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


def first_epoch(task_name: str, lanes: int, compiled: bool) -> float:
    """Return the seconds until a new engine has trained an epoch in all lanes."""
    use_one_thread()
    task = load_task(BUILT_IN[task_name])
    plan = Plan({(name,): Constant(value) for name, value in task.hyperparameters.items()})
    numerics = {"engine": "lanes", "lanes": lanes, "compiled": compiled, "device": "cpu"}

    def run() -> None:
        engine = make_engine(task, horizon=_HORIZON, numerics={**numerics, "threads": 1})
        for lane in range(lanes):
            engine.fill(lane, seed=lane)
        engine.train_epoch([Scheduler(plan, horizon=_HORIZON).epoch_values] * lanes)

    return time_call(run)


def in_new_process(task: str, lanes: int, cache: str | None) -> float:
    """Return the seconds that `first_epoch` takes in a new process; without a cache, eager."""
    command = [sys.executable, "-m", "benchmarks.compile_time", "--task", task]
    command += ["--lanes", str(lanes), "--once", "eager" if cache is None else "compiled"]
    environment = os.environ | ({} if cache is None else {"TORCHINDUCTOR_CACHE_DIR": cache})
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout)


def measure(new_process: Callable[[str | None], float], repeats: int) -> list[Measurement]:
    """Return the seconds without compiling, with an empty cache, and with that cache again."""
    seconds = []
    for repeat in range(repeats + 1):
        with tempfile.TemporaryDirectory() as cache:
            # The first repeat may also precompile torch's headers, and does not count.
            seconds.append([new_process(None), new_process(cache), new_process(cache)])
        print(f"repeat {repeat} of {repeats}: {seconds[-1]}", file=sys.stderr, flush=True)
    names = ("not compiled", "compiled, first", "compiled, again")
    sides = zip(names, zip(*seconds[1:], strict=True), strict=True)
    return [Measurement(name, numbers) for name, numbers in sides]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="noisy_digits", choices=BUILT_IN)
    parser.add_argument("--lanes", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--once", choices=("eager", "compiled"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        print(first_epoch(options.task, options.lanes, options.once == "compiled"))
        return
    eager, *compiled = measure(
        partial(in_new_process, options.task, options.lanes), options.repeats
    )
    rows = [[options.task, eager.name, f"{eager.median:.2f}", ""]]
    for side in compiled:
        pairs = zip(side.numbers, eager.numbers, strict=True)
        added = statistics.median(mine - theirs for mine, theirs in pairs)
        rows.append([options.task, side.name, f"{side.median:.2f}", f"{added:.2f}"])
    print(describe_machine())
    print("\n".join(markdown_table(["task", "step", "first epoch, s", "compiling, s"], rows)))


if __name__ == "__main__":
    main()
