"""Two workers against one, and against two plain Optuna processes on one SQLite file.

    python -m benchmarks.workers [--trials 3000] [--lanes 32] [--repeats 3]

Each worker is a process with one thread. The measurement begins when the lanes have reported 60
epochs each on average, so that it includes neither imports nor compilation. It is read twice: when
the last trial was claimed, and when the last process has ended, which includes the time in which
lanes run out of trials.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
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
from benchmarks.search import choose_search_numerics, prepare_search
from schedsearch.storage import Counts, TrialQueue, create_study, open_database
from schedsearch.task import is_train_function

#: Epochs that each lane reports before the clock starts.
_WARM = 60


@dataclass(frozen=True)
class Rates:
    """Trial-epochs per second until the last trial was claimed, and until the last one ended."""

    handing_out: float
    whole: float


def measure_workers(folder: Path, trials: int, lanes: int, workers: int) -> Rates:
    """Measure a number of workers."""
    given = prepare_search("noisy_digits", trials=trials)
    numerics, _ = choose_search_numerics(given, lanes)
    url = f"sqlite:///{tempfile.mkdtemp(dir=folder)}/studies.db"
    study = create_study(open_database(url, create=True), given.record(numerics))
    command = ["-m", "schedsearch", "worker", study.name, "--storage", url, "-q"]
    return _rates([command] * workers, study.queue, trials, _WARM * lanes * workers)


def measure_optuna(folder: Path, trials: int, workers: int) -> Rates:
    """Measure a number of plain Optuna processes."""
    url = f"sqlite:///{tempfile.mkdtemp(dir=folder)}/studies.db"
    study = optuna.create_study(storage=url, study_name="plain")
    command = ["-m", "benchmarks.workers", "--plain", url, str(trials // workers)]
    queue = TrialQueue(open_database(url), study._study_id)
    return _rates([command] * workers, queue, trials, _WARM * workers)


def _rates(commands: list[list[str]], queue: TrialQueue, trials: int, warm: int) -> Rates:
    processes = [subprocess.Popen([sys.executable, *command]) for command in commands]

    def wait(reached: Callable[[Counts], bool]) -> tuple[int, float]:
        while not reached(counts := queue.counts()):
            if any(process.poll() for process in processes):
                raise SystemExit("a process failed")
            time.sleep(2.0)  # counting takes CPU time from the workers
        return counts.epochs, time.perf_counter()

    begun, began = wait(lambda counts: counts.epochs >= warm)
    shared, handed_out = wait(lambda counts: counts.trials >= trials)
    for process in processes:
        if process.wait():
            raise SystemExit("a process failed")
    ended, end = queue.counts().epochs, time.perf_counter()
    return Rates((shared - begun) / (handed_out - began), (ended - begun) / (end - began))


def _search_plainly(url: str, trials: int) -> None:
    given = prepare_search("noisy_digits")
    assert not is_train_function(given.task)
    plain_loop.search(given.space, given.task, trials, url, "plain")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=3000)
    parser.add_argument("--plain-trials", type=int, default=60)
    parser.add_argument("--lanes", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--plain", nargs=2, metavar=("URL", "TRIALS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    use_one_thread()
    if options.plain:
        _search_plainly(options.plain[0], int(options.plain[1]))
        return
    wholes = defaultdict[str, list[float]](list)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def handing_out(name: str, measure: Callable[[], Rates]) -> Callable[[], float]:
            def run() -> float:
                rates = measure()
                wholes[name].append(rates.whole)
                return rates.handing_out

            return run

        found = {
            "one worker": lambda: measure_workers(folder, options.trials, options.lanes, 1),
            "two workers": lambda: measure_workers(folder, options.trials, options.lanes, 2),
            "one plain process": lambda: measure_optuna(folder, options.plain_trials, 1),
            "two plain processes": lambda: measure_optuna(folder, options.plain_trials, 2),
        }
        one, two, plain_one, plain_two = measure_alternating(
            {name: handing_out(name, measure) for name, measure in found.items()}, options.repeats
        )
    rows = []
    for measured, single in (
        (one, one),
        (two, one),
        (plain_one, plain_one),
        (plain_two, plain_one),
    ):
        whole, alone = (
            Measurement(one.name, tuple(wholes[one.name])) for one in (measured, single)
        )
        ratios = f"{measured.ratio_to(single):.2f}", f"{whole.ratio_to(alone):.2f}"
        rows.append([measured.name, f"{measured.median:.0f}", f"{whole.median:.0f}", *ratios])
    print(describe_machine())
    print(
        "\n".join(
            markdown_table(
                ["", "handing out /s", "whole /s", "handing out, against one", "whole"], rows
            )
        )
    )
    print(f"\ntwo workers against two plain processes: {two.ratio_to(plain_two):.1f}")


if __name__ == "__main__":
    main()
