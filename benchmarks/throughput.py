"""Trial-epochs per second of one worker, and of a hand-written Optuna loop for the same search.

    python -m benchmarks.throughput [--task NAME ...] [--trials 400] [--lanes 32] [--repeats 3]

The worker writes to a SQLite file. The plain loop has its study in memory, and then in a SQLite
file with Optuna's default settings. One thread each, TPE and successive halving, one seed per
trial.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import optuna

from benchmarks import plain_loop
from benchmarks.measurement import (
    Measurement,
    describe_machine,
    markdown_table,
    measure_alternating,
    use_one_thread,
)
from benchmarks.search import SEARCHES, prepare_search, start_search
from schedsearch.engines import Engine
from schedsearch.task import is_train_function


@dataclass
class Search:
    """One search, measured in several ways."""

    name: str
    trials: int
    plain_trials: int
    lanes: int | None
    folder: Path
    #: Seconds to compile and to warm up, for each search of the worker.
    warm_up_times: list[float] = field(default_factory=list)
    reason: str = ""

    def ours(self) -> float:
        """Return the trial-epochs per second of one worker with a warm engine."""
        with start_search(prepare_search(self.name, trials=self.trials), self.lanes) as search:
            self.reason = search.reason
            self.warm_up_times.append(_warm_up(search.engine))
            return _rate(search.run, lambda: search.study.queue.counts().epochs)

    def plain(self, *, in_memory: bool) -> float:
        """Return the trial-epochs per second of the hand-written loop."""
        given = prepare_search(self.name)
        assert not is_train_function(given.task)
        task = given.task
        file = Path(tempfile.mkdtemp(dir=self.folder)) / "studies.db"
        storage = None if in_memory else f"sqlite:///{file}"
        found: list[optuna.Study] = []
        return _rate(
            lambda: found.append(plain_loop.search(given.space, task, self.plain_trials, storage)),
            lambda: sum(len(trial.intermediate_values) for trial in found[0].trials),
        )


def _warm_up(engine: Engine) -> float:
    """Train an epoch in every lane; return the seconds, mostly of compilation."""
    began = time.perf_counter()
    for lane in range(engine.lanes):
        engine.fill(lane, 0)
    engine.train_epoch([{}] * engine.lanes)
    for lane in range(engine.lanes):
        engine.release(lane)
    return time.perf_counter() - began


def _rate(run: Callable[[], object], epochs: Callable[[], int]) -> float:
    began = time.perf_counter()
    run()
    return epochs() / (time.perf_counter() - began)


def measure(search: Search, repeats: int) -> Mapping[str, Measurement]:
    """Measure a search in all three ways, in alternating repeats."""
    runs = {
        "ours": search.ours,
        "in memory": lambda: search.plain(in_memory=True),
        "on SQLite": lambda: search.plain(in_memory=False),
    }
    return {found.name: found for found in measure_alternating(runs, repeats)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", choices=SEARCHES, nargs="*", default=list(SEARCHES))
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--plain-trials", type=int, default=60)
    parser.add_argument("--lanes", type=int, default=None, help="default: auto")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    use_one_thread()
    rows = []
    for name in options.task:
        with tempfile.TemporaryDirectory() as folder:
            search = Search(name, options.trials, options.plain_trials, options.lanes, Path(folder))
            found = measure(search, options.repeats)
        ours, memory, file = found["ours"], found["in memory"], found["on SQLite"]
        rows.append(
            [
                name,
                search.reason,
                f"{max(search.warm_up_times):.1f}",
                *(f"{measured.median:.0f}" for measured in (ours, memory, file)),
                f"{ours.ratio_to(memory):.1f}",
                f"{ours.ratio_to(file):.1f}",
            ]
        )
    print(describe_machine())
    heads = ["search", "lanes", "compile, s", "ours /s", "plain, memory /s", "plain, file /s"]
    print("\n".join(markdown_table([*heads, "against memory", "against file"], rows)))


if __name__ == "__main__":
    main()
