"""Two workers against one, and against two plain Optuna processes on one SQLite file.

    python -m benchmarks.workers [--trials 400] [--lanes 32] [--repeats 3]

Each worker is a process with one thread. The clock runs from when every lane has reported its first
epoch, so that neither imports nor compiling count, until the last process has ended.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import optuna

from benchmarks import plain
from benchmarks.measuring import alternate, machine, quiet, table
from benchmarks.searching import numerics_of, prepared
from schedsearch.storage import TrialQueue, create_study, open_database
from schedsearch.task import is_train_function


def ours(folder: Path, trials: int, lanes: int, workers: int) -> float:
    """Return the trial-epochs per second of so many workers."""
    given = prepared("noisy_digits", trials=trials)
    numerics, _ = numerics_of(given, lanes)
    url = f"sqlite:///{tempfile.mkdtemp(dir=folder)}/studies.db"
    study = create_study(open_database(url, create=True), given.record(numerics))
    command = ["-m", "schedsearch", "worker", study.name, "--storage", url, "-q"]
    return _rate([command] * workers, study.queue, lanes * workers)


def optunas(folder: Path, trials: int, workers: int) -> float:
    """Return the trial-epochs per second of so many plain Optuna processes."""
    url = f"sqlite:///{tempfile.mkdtemp(dir=folder)}/studies.db"
    study = optuna.create_study(storage=url, study_name="plain")
    command = ["-m", "benchmarks.workers", "--plain", url, str(trials // workers)]
    return _rate([command] * workers, TrialQueue(open_database(url), study._study_id), workers)


def _rate(commands: list[list[str]], queue: TrialQueue, warm: int) -> float:
    """Return the trial-epochs per second from when so many are reported until all have ended."""
    processes = [subprocess.Popen([sys.executable, *command]) for command in commands]
    while (first := queue.counts().epochs) < warm:
        if any(process.poll() for process in processes):
            raise SystemExit("a process failed")
        time.sleep(0.05)
    began = time.perf_counter()
    for process in processes:
        if process.wait():
            raise SystemExit("a process failed")
    return (queue.counts().epochs - first) / (time.perf_counter() - began)


def _search_plainly(url: str, trials: int) -> None:
    given = prepared("noisy_digits")
    assert not is_train_function(given.task)
    plain.search(given.space, given.task, trials, url, "plain")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--plain-trials", type=int, default=60)
    parser.add_argument("--lanes", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--plain", nargs=2, metavar=("URL", "TRIALS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    quiet()
    if options.plain:
        _search_plainly(options.plain[0], int(options.plain[1]))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        one, two, plain_one, plain_two = alternate(
            {
                "one worker": lambda: ours(folder, options.trials, options.lanes, 1),
                "two workers": lambda: ours(folder, options.trials, options.lanes, 2),
                "one plain process": lambda: optunas(folder, options.plain_trials, 1),
                "two plain processes": lambda: optunas(folder, options.plain_trials, 2),
            },
            options.repeats,
        )
    rows = [
        [measured.name, f"{measured.median:.0f}", f"{measured.ratio_to(single):.2f}"]
        for measured, single in (
            (one, one),
            (two, one),
            (plain_one, plain_one),
            (plain_two, plain_one),
        )
    ]
    print(machine())
    print("\n".join(table(["", "trial-epochs /s", "against one"], rows)))
    print(f"\ntwo workers against two plain processes: {two.ratio_to(plain_two):.1f}")


if __name__ == "__main__":
    main()
