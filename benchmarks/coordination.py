"""The cost of sharing a study: workers without training, on each kind of database.

    python -m benchmarks.coordination [--workers 1 2 4 8 16] [--seconds 4] [--backends sqlite …]

Each worker is a process with one lane, a random sampler and no pruner; a trial has ten epochs. The
same number of plain Optuna processes do the same in another database. PostgreSQL and MariaDB run on
this machine, without waiting for the disk.
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

from benchmarks.measurement import describe_machine, markdown_table, use_one_thread
from benchmarks.overhead import InstantEngine
from benchmarks.search import SPACES
from schedsearch.numerics import current_numerics
from schedsearch.preparation import PreparedSpace, load_space, prepare_space
from schedsearch.storage import TrialQueue, create_study, open_database, open_study
from schedsearch.trajectories.cached_runs import CachedRuns
from schedsearch.worker import Messages, ProcessControl, Worker
from tests.servers import SERVERS, Servers

HORIZON = 10
#: More trials than any run begins.
_UNLIMITED = 10_000_000
#: Forked processes, so that torch is imported once.
_FORK = multiprocessing.get_context("fork")


def unlimited_search() -> PreparedSpace:
    """Return a search with ten epochs per trial that never runs out of trials."""
    changes = {
        "horizon": HORIZON,
        "search.trials": _UNLIMITED,
        "search.seeds": 1,
        "search.sampler.name": "random",
        "search.pruner.name": "none",
    }
    return prepare_space(load_space(SPACES / "noisy_digits.toml", changes))


def create_shared_study(url: str) -> None:
    """Create the study that the workers share."""
    create_study(
        open_database(url, create=True), unlimited_search().record(current_numerics("sequential"))
    )


def make_worker(
    url: str, name: str, engine: InstantEngine, should_stop: Callable[[], bool]
) -> Worker:
    """Return a worker of the study, with open connections."""
    study = open_study(open_database(url), "noisy_digits")
    return Worker(
        study,
        [engine],
        name=name,
        cached_runs=CachedRuns.of_study(study, None),
        control=ProcessControl(should_stop),
        messages=Messages(lambda line: print(line, file=sys.stderr), lambda line: None),
    )


def _run_worker(url: str, number: int, start: Barrier, seconds: float) -> None:
    use_one_thread()
    end = math.inf
    mine = make_worker(url, f"worker-{number}", InstantEngine(1), lambda: time.monotonic() > end)
    start.wait()
    end = time.monotonic() + seconds
    mine.run()


def _run_plain_optuna(url: str, number: int, start: Barrier, seconds: float) -> None:
    use_one_thread()
    space = unlimited_search().space
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
    url: str, target: Callable[[str, int, Barrier, float], None], workers: int, seconds: float
) -> tuple[float, float, int]:
    """Return the trials and reports per second of some workers, and how many of them failed."""
    start = _FORK.Barrier(workers + 1)
    processes = [
        _FORK.Process(target=target, args=(url, number, start, seconds))
        for number in range(workers)
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
def empty_database(servers: Servers, backend: str) -> Iterator[str]:
    """Yield the URL of an empty database."""
    if backend == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{Path(folder) / 'studies.db'}"
    else:
        with servers.database(backend) as url:
            yield url


def measure(servers: Servers, backend: str, workers: int, seconds: float) -> list[str]:
    """Return a row of the table: our rates, and those of plain Optuna, measured in turn."""
    with empty_database(servers, backend) as url:
        create_shared_study(url)
        trials, reports, failed = rates(url, _run_worker, workers, seconds)
    with empty_database(servers, backend) as url:
        optuna.create_study(storage=url, study_name="plain")
        plain_trials, plain_reports, plain_failed = rates(url, _run_plain_optuna, workers, seconds)
    row = [
        *(backend, str(workers), f"{trials:.0f}", f"{reports:.0f}", f"{plain_trials:.1f}"),
        *(f"{plain_reports:.0f}", f"{reports / plain_reports:.0f}", f"{failed} / {plain_failed}"),
    ]
    print(" ".join(row), file=sys.stderr, flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4, 8, 16])
    parser.add_argument("--backends", nargs="*", default=["sqlite", *SERVERS])
    parser.add_argument("--seconds", type=float, default=4.0)
    options = parser.parse_args()
    use_one_thread()
    servers = Servers()
    try:
        rows = [
            measure(servers, backend, workers, options.seconds)
            for backend in options.backends
            for workers in options.workers
        ]
    finally:
        servers.close()
    print(describe_machine())
    heads = ["database", "workers", "trials /s", "reports /s", "plain Optuna, trials /s"]
    print("\n".join(markdown_table([*heads, "reports /s", "ratio", "workers that failed"], rows)))


if __name__ == "__main__":
    main()
