"""The cost of sharing a study: workers without training, on each kind of database.

    python -m benchmarks.coordination [--workers 1 2 4 8 16] [--seconds 4] [--repeats 3]
        [--backends sqlite …]

Each worker is a process with one lane, a random sampler and no pruner; a trial has ten epochs. The
same number of plain Optuna processes do the same in another database, in turn. PostgreSQL and
MariaDB run on this machine, without waiting for the disk. The statements and transactions are those
of a report, with its share of claims and proposals; CPU time includes the server.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, TypeAlias

import optuna
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.engine import make_url

from benchmarks.measurement import describe_machine, markdown_table, use_one_thread
from benchmarks.overhead import InstantEngine
from benchmarks.search import SPACES
from schedsearch.numerics import current_numerics
from schedsearch.preparation import PreparedSpace, load_space, prepare_space
from schedsearch.storage import TrialQueue, create_study, open_database, open_study
from schedsearch.trajectories.cached_runs import CachedRuns
from schedsearch.worker import Messages, ProcessControl, Worker
from tests.servers import SERVERS, Server, Servers

HORIZON = 10
#: More trials than any run begins.
_UNLIMITED = 10_000_000
OURS, PLAIN = "schedsearch", "plain Optuna"
#: A number of workers, and `OURS` or `PLAIN`.
Case: TypeAlias = tuple[int, str]
#: Seconds between two looks at the locks.
_SAMPLING = 0.1
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


@dataclass(frozen=True)
class Rates:
    """What some workers did together, by report: CPU time is in milliseconds."""

    trials: float
    reports: float
    statements: float
    transactions: float
    cpu: float
    waiting: float
    failed: int


class Usage:
    """Counts the statements and transactions of this process, and its CPU time."""

    def __init__(self) -> None:
        self.statements = self.transactions = 0
        event.listen(Engine, "before_cursor_execute", self._add_statement)
        event.listen(Engine, "commit", self._add_transaction)
        self._before = _cpu_seconds()

    def _add_statement(self, *arguments: object) -> None:
        self.statements += 1

    def _add_transaction(self, connection: object) -> None:
        self.transactions += 1

    @property
    def numbers(self) -> tuple[int, int, float]:
        return self.statements, self.transactions, _cpu_seconds() - self._before


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _run_worker(url: str, number: int, start: Barrier, seconds: float, used: Queue[Any]) -> None:
    use_one_thread()
    end = math.inf
    mine = make_worker(url, f"worker-{number}", InstantEngine(1), lambda: time.monotonic() > end)
    start.wait()
    end, usage = time.monotonic() + seconds, Usage()
    try:
        mine.run()
    finally:
        used.put(usage.numbers)


def _run_plain_optuna(
    url: str, number: int, start: Barrier, seconds: float, used: Queue[Any]
) -> None:
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
    usage = Usage()
    try:
        study.optimize(objective, timeout=seconds)
    finally:
        used.put(usage.numbers)


def rates(
    url: str, target: Callable[..., None], workers: int, seconds: float, server: Server | None
) -> Rates:
    """Return what some workers do together in so many seconds."""
    start, used = _FORK.Barrier(workers + 1), _FORK.Queue()
    processes = [
        _FORK.Process(target=target, args=(url, number, start, seconds, used))
        for number in range(workers)
    ]
    for process in processes:
        process.start()
    start.wait()
    began, before = time.perf_counter(), 0.0 if server is None else server.cpu_seconds()
    waiting = mean_lock_waits(server, url, seconds)
    numbers = [used.get() for _ in processes]
    took = time.perf_counter() - began
    cpu = 0.0 if server is None else server.cpu_seconds() - before
    for process in processes:
        process.join()
    database = open_database(url)
    [study] = database.optuna.get_all_studies()
    counts = TrialQueue(database, study._study_id).counts()
    statements, transactions, of_workers = map(sum, zip(*numbers, strict=True))
    epochs = max(counts.epochs, 1)
    failed = sum(process.exitcode != 0 for process in processes)
    return Rates(
        trials=counts.complete / took,
        reports=counts.epochs / took,
        statements=statements / epochs,
        transactions=transactions / epochs,
        cpu=1e3 * (cpu + of_workers) / epochs,
        waiting=waiting,
        failed=failed,
    )


_LOCK_WAITS = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'",
    "mysql": "SELECT count(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'",
}


def mean_lock_waits(server: Server | None, url: str, seconds: float) -> float:
    """Return how many transactions wait for a lock at a time, sampled while workers run."""
    if server is None:
        return math.nan
    query = text(_LOCK_WAITS[make_url(url).get_backend_name()])
    engine, found, end = create_engine(server.url), list[int](), time.monotonic() + seconds
    with engine.connect() as connection:
        while time.monotonic() < end:
            found.append(connection.execute(query).scalar_one())
            connection.rollback()
            time.sleep(_SAMPLING)
    engine.dispose()
    return statistics.fmean(found) if found else math.nan


@contextmanager
def empty_database(servers: Servers, backend: str) -> Iterator[str]:
    """Yield the URL of an empty database."""
    if backend == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{Path(folder) / 'studies.db'}"
    else:
        with servers.database(backend) as url:
            yield url


def measure(
    servers: Servers, backend: str, worker_counts: Sequence[int], seconds: float, repeats: int
) -> dict[Case, list[Rates]]:
    """Return the rates of each number of workers, of us and of plain Optuna, in each repeat.

    All have their turn in each repeat: a machine is not always equally fast.
    """
    server = None if backend == "sqlite" else servers.server(backend)
    cases = [(workers, side) for workers in worker_counts for side in (OURS, PLAIN)]
    found: dict[Case, list[Rates]] = {case: [] for case in cases}
    for repeat in range(repeats):
        for workers, side in cases if repeat % 2 == 0 else reversed(cases):
            with empty_database(servers, backend) as url:
                if side == OURS:
                    create_shared_study(url)
                else:
                    optuna.create_study(study_name="plain", storage=url)
                target = _run_worker if side == OURS else _run_plain_optuna
                found[workers, side].append(rates(url, target, workers, seconds, server))
                print(backend, workers, side, found[workers, side][-1], file=sys.stderr, flush=True)
    return found


def _rows(backend: str, found: Mapping[Case, Sequence[Rates]]) -> Iterator[list[str]]:
    """Yield the rows of the table; ratios are medians of those within a repeat."""
    for (workers, side), repeats in found.items():
        ends = ["", ""]
        if side == OURS:
            ratios = map(_ratio, repeats, found[workers, PLAIN])
            fewer = [found[n, s] for n, s in found if s == OURS and n <= workers]
            best = [max(of_repeat, key=_reports) for of_repeat in zip(*fewer, strict=True)]
            shares = map(_ratio, repeats, best)
            ends = [_shown(statistics.median(ratios)), f"{statistics.median(shares):.0%}"]
        yield [backend, str(workers), side, *_cells(repeats), *ends]


def _reports(rates: Rates) -> float:
    return rates.reports


def _ratio(rates: Rates, to: Rates) -> float:
    return rates.reports / max(to.reports, 1e-9)


def _shown(ratio: float) -> str:
    """Return a ratio with two significant digits."""
    return f"{ratio:.1f}" if 1 <= ratio < 10 else f"{ratio:.2g}"


def _cells(repeats: Sequence[Rates]) -> list[str]:
    def median(of: Callable[[Rates], float]) -> float:
        return statistics.median(map(of, repeats))

    return [
        f"{median(lambda rates: rates.trials):.0f}",
        f"{median(lambda rates: rates.reports):.0f}",
        f"{median(lambda rates: rates.statements):.1f}",
        f"{median(lambda rates: rates.transactions):.1f}",
        f"{median(lambda rates: rates.cpu):.2g}",
        "–" if math.isnan(repeats[0].waiting) else f"{median(lambda rates: rates.waiting):.1f}",
        str(sum(rates.failed for rates in repeats)),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4, 8, 16])
    parser.add_argument("--backends", nargs="*", default=["sqlite", *SERVERS])
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    use_one_thread()
    servers, rows = Servers(), list[list[str]]()
    try:
        for backend in options.backends:
            counts = sorted(set(options.workers))
            rows += _rows(
                backend, measure(servers, backend, counts, options.seconds, options.repeats)
            )
    finally:
        servers.close()
    print(describe_machine())
    heads = ["database", "workers", "", "trials /s", "reports /s", "statements", "transactions"]
    heads += ["CPU, ms", "waiting for locks", "failed", "ratio of reports"]
    heads += ["share of the best so far"]
    print("\n".join(markdown_table(heads, rows)))


if __name__ == "__main__":
    main()
