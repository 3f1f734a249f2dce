"""Whole commands, everything included, against a hand-written Optuna loop on one core.

    python -m benchmarks.whole_command [--space noisy_digits] [--trials 20 400] [--repeats 3]

`schedsearch start SPACE --trials N` with no other option runs twice: where nothing was ever
compiled, and then for another study of the same database. The plain loop has one thread and a
SQLite file, or its study in memory; its rate is that of 60 trials. All trained epochs of all seeds
count. `--cpu` counts the CPU seconds of all processes instead of the time: on a machine with other
load, these repeat far better, but ignore that compilers work side by side.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeAlias

import optuna

from benchmarks import plain_loop
from benchmarks.measurement import (
    Measurement,
    describe_machine,
    markdown_table,
    measure_alternating,
    use_one_thread,
)
from benchmarks.search import SPACES, prepare_search
from schedsearch.task import is_train_function

#: Variables that change what a new user would get.
_VARIABLES = ("OMP_NUM_THREADS", "TORCHINDUCTOR_CACHE_DIR", "SCHEDSEARCH_STORAGE")


Clock: TypeAlias = Callable[[], float]


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of all processes that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


@dataclass
class Commands:
    """Runs of `start` in one folder, which has no compiled code at first.

    Attributes:
        reasons: what the command said about lanes and threads.
        seconds: of each run.
    """

    space: Path
    trials: int
    folder: Path
    clock: Clock
    reasons: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def start(self) -> float:
        """Search, and return the trained epochs per second of all runs."""
        environment = {key: text for key, text in os.environ.items() if key not in _VARIABLES}
        environment["TMPDIR"] = str(self.folder)  # where torch keeps its compiled headers
        name = f"study-{len(self.seconds)}"
        command = [sys.executable, "-m", "schedsearch", "start", str(self.space), "--json"]
        command += ["--trials", str(self.trials), "--study", name]
        command += ["--storage", f"sqlite:///{self.folder}/studies.db"]
        began = self.clock()
        done = subprocess.run(
            command, env=environment, check=True, capture_output=True, text=True, timeout=3600
        )
        self.seconds.append(self.clock() - began)
        self.reasons += [
            line
            for line in done.stderr.splitlines()
            if "times the speed" in line or "1 lane:" in line
        ]
        return float(json.loads(done.stdout)["epochs_trained"]) / self.seconds[-1]


def plain_rate(name: str, trials: int, clock: Clock, *, in_memory: bool) -> float:
    """Return the epochs per second of the hand-written loop."""
    given = prepare_search(name)
    task = given.task
    assert not is_train_function(task)
    with tempfile.TemporaryDirectory() as folder:
        storage = None if in_memory else f"sqlite:///{folder}/studies.db"
        began = clock()
        study: optuna.Study = plain_loop.search(given.space, task, trials, storage)
        seconds = clock() - began
    return sum(len(trial.intermediate_values) for trial in study.trials) / seconds


def measure(
    name: str, trials: int, repeats: int, plain_trials: int, clock: Clock
) -> list[list[str]]:
    """Return the rows of a search: the first start, and the second one."""
    with tempfile.TemporaryDirectory() as parent:
        made: list[Commands] = []

        def first() -> float:
            folder = Path(tempfile.mkdtemp(dir=parent))
            made.append(Commands(SPACES / f"{name}.toml", trials, folder, clock))
            return made[-1].start()

        # In one turn: the second start needs what the first one compiled.
        turns: list[float] = []

        def both() -> float:
            turns.append(first())
            turns.append(made[-1].start())
            return turns[-1]

        runs: dict[str, Callable[[], float]] = {
            "second": both,
            "memory": partial(plain_rate, name, plain_trials, clock, in_memory=True),
            "file": partial(plain_rate, name, plain_trials, clock, in_memory=False),
        }
        second, memory, file = measure_alternating(runs, repeats)
        firsts = Measurement("first", tuple(turns[::2]))
        middle = sorted(range(repeats), key=lambda i: turns[2 * i])[repeats // 2]
    rows = []
    for label, found, at in (("first", firsts, 0), ("second", second, 1)):
        commands = made[middle]
        rows.append(
            [
                f"{name}, {trials} trials",
                label,
                f"{commands.seconds[at]:.1f}",
                *(_rate(measured.median) for measured in (found, memory, file)),
                *(f"{found.ratio_to(plain):.2g}" for plain in (memory, file)),
                commands.reasons[at],
            ]
        )
    return rows


def _rate(per_second: float) -> str:
    return f"{per_second:,.0f}" if per_second >= 100 else f"{per_second:.3g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", default="noisy_digits")
    parser.add_argument("--trials", type=int, nargs="+", default=[20, 400])
    parser.add_argument("--plain-trials", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cpu", action="store_true")
    options = parser.parse_args()
    use_one_thread()
    clock = cpu_seconds if options.cpu else time.perf_counter
    rows = [
        row
        for trials in options.trials
        for row in measure(options.space, trials, options.repeats, options.plain_trials, clock)
    ]
    print(describe_machine())
    heads = ["command", "start", "seconds", "epochs /s", "plain, memory /s", "plain, file /s"]
    heads += ["against memory", "against file", "choice"]
    print("\n".join(markdown_table(heads, rows)))


if __name__ == "__main__":
    main()
