"""What sharing a study costs: workers whose training is free, on each kind of database.

    python -m benchmarks.coordination [--workers 1 2 4 8 16] [--seconds 4] [--backends sqlite …]

Each worker is a process of one lane, with a random sampler and no pruner; a trial is ten epochs.
Beside them, so many processes of plain Optuna do the same in a database of their own. PostgreSQL
and MariaDB are servers of this machine that do not wait for the disk.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Barrier
from pathlib import Path

import optuna

from benchmarks.measuring import machine, quiet, table
from benchmarks.overhead import InstantEngine
from benchmarks.searching import SPACES
from schedsearch.numerics import current_numerics
from schedsearch.preparation import Prepared, load_space, prepare
from schedsearch.storage import TrialQueue, create_study, open_database, open_study
from schedsearch.worker import Reuse, Worker
from tests.servers import SERVERS, Servers

HORIZON = 10
#: More trials than are ever begun.
_ENDLESS = 10_000_000
#: Forked, so that importing torch is paid once.
_FORK = multiprocessing.get_context("fork")


def endless() -> Prepared:
    """Return a search of ten epochs a trial that never runs out of trials."""
    changes = {
        "horizon": HORIZON,
        "search.trials": _ENDLESS,
        "search.seeds": 1,
        "search.sampler.name": "random",
        "search.pruner.name": "none",
    }
    return prepare(load_space(SPACES / "noisy_digits.toml", changes))


def begin_study(url: str) -> None:
    """Create the study that the workers share."""
    create_study(open_database(url, create=True), endless().record(current_numerics("sequential")))


def worker(url: str, name: str, engine: InstantEngine, should_stop: Callable[[], bool]) -> Worker:
    """Return a worker of the study, its connections open."""
    study = open_study(open_database(url), "noisy_digits")
    return Worker(
        study,
        [engine],
        name=name,
        reuse=Reuse(study, None),
        should_stop=should_stop,
        say=lambda line: print(line, file=sys.stderr),
        report=lambda line: None,
    )


def _ours(url: str, number: int, start: Barrier, seconds: float) -> None:
    quiet()
    end = math.inf
    mine = worker(url, f"worker-{number}", InstantEngine(1), lambda: time.monotonic() > end)
    start.wait()
    end = time.monotonic() + seconds
    mine.run()


def _plain(url: str, number: int, start: Barrier, seconds: float) -> None:
    quiet()
    space = endless().space
    sampler = optuna.samplers.RandomSampler(seed=number)
    pruner = optuna.pruners.NopPruner()
    study = optuna.load_study(study_name="plain", storage=url, sampler=sampler, pruner=pruner)

    def objective(trial: optuna.Trial) -> float:
        space.suggest(trial)
        error = 1.0
        for epoch in range(1, HORIZON + 1):
            error *= 0.95
            trial.report(error, epoch)
            trial.should_prune()
        return error

    start.wait()
    study.optimize(objective, timeout=seconds)


def rates(
    url: str, kind: Callable[[str, int, Barrier, float], None], workers: int, seconds: float
) -> tuple[float, float, int]:
    """Return the trials and the reports per second of so many workers, and how many failed."""
    start = _FORK.Barrier(workers + 1)
    processes = [
        _FORK.Process(target=kind, args=(url, number, start, seconds)) for number in range(workers)
    ]
    for process in processes:
        process.start()
    start.wait()
    began = time.perf_counter()
    for process in processes:
        process.join()
    took = time.perf_counter() - began
    database = open_database(url)
    [study] = database.optuna.get_all_studies()
    counts = TrialQueue(database, study._study_id).counts()
    failed = sum(process.exitcode != 0 for process in processes)
    return counts.complete / took, counts.epochs / took, failed


@contextmanager
def empty(servers: Servers, backend: str) -> Iterator[str]:
    """Make an empty database."""
    if backend == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{Path(folder) / 'studies.db'}"
    else:
        with servers.database(backend) as url:
            yield url


def measure(servers: Servers, backend: str, workers: int, seconds: float) -> list[str]:
    """Return a row: ours and plain Optuna's rates, one after the other."""
    with empty(servers, backend) as url:
        begin_study(url)
        trials, reports, failed = rates(url, _ours, workers, seconds)
    with empty(servers, backend) as url:
        optuna.create_study(storage=url, study_name="plain")
        theirs, their_reports, died = rates(url, _plain, workers, seconds)
    row = [
        *(backend, str(workers), f"{trials:.0f}", f"{reports:.0f}", f"{theirs:.1f}"),
        *(f"{their_reports:.0f}", f"{reports / their_reports:.0f}", f"{failed} / {died}"),
    ]
    print(" ".join(row), file=sys.stderr, flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4, 8, 16])
    parser.add_argument("--backends", nargs="*", default=["sqlite", *SERVERS])
    parser.add_argument("--seconds", type=float, default=4.0)
    options = parser.parse_args()
    quiet()
    servers = Servers()
    try:
        rows = [
            measure(servers, backend, workers, options.seconds)
            for backend in options.backends
            for workers in options.workers
        ]
    finally:
        servers.end()
    print(machine())
    heads = ["database", "workers", "trials /s", "reports /s", "plain Optuna, trials /s"]
    print("\n".join(table([*heads, "reports /s", "ratio", "workers that failed"], rows)))


if __name__ == "__main__":
    main()
