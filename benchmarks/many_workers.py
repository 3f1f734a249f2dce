"""The time of a batch with many workers on one PostgreSQL server, and what saturates first.

    python -m benchmarks.many_workers [--workers 25 50 100 200] [--seconds 15]

Each worker is a process with one lane whose epoch is one second of sleep. A batch is everything
that a worker does between two epochs: reports, ends, claims, plans. The server and all workers
share this machine; CPU time is in cores.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue

from benchmarks.coordination import create_shared_study, make_worker
from benchmarks.measurement import describe_machine, markdown_table, use_one_thread
from benchmarks.overhead import InstantEngine
from schedsearch.engines import EpochResult
from tests.servers import PostgreSQL, empty_database, execute, program

EPOCH = 1.0
_FORK = multiprocessing.get_context("fork")


class LargeServer(PostgreSQL):
    """A server that allows more connections than PostgreSQL's default of 100."""

    def _command(self) -> list[object]:
        return [*super()._command(), "--max_connections=1000"]


class MeasurementWindow:
    """The measured time: it begins when every worker has opened its connections."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._warm = _FORK.Value("i", 0)
        self._began = _FORK.Value("d", math.inf)

    def add_warm_worker(self) -> None:
        with self._warm.get_lock():
            self._warm.value += 1

    def open_when_warm(self, workers: Sequence[BaseProcess]) -> None:
        while self._warm.value < sum(worker.is_alive() for worker in workers):
            time.sleep(0.1)
        self._began.value = time.monotonic()

    @property
    def has_begun(self) -> bool:
        return bool(time.monotonic() >= self._began.value)

    @property
    def is_over(self) -> bool:
        return bool(time.monotonic() >= self._began.value + self._seconds)


class SleepingEngine(InstantEngine):
    """Sleeps for an epoch; measures the time and the CPU time between its epochs."""

    def __init__(self, window: MeasurementWindow) -> None:
        super().__init__(1)
        self.batches: list[float] = []
        self._window, self._calls = window, 0
        self._epoch_end, self._cpu_before = math.nan, math.nan

    def train_epoch(
        self, values: Sequence[Mapping[str, float] | None]
    ) -> list[EpochResult | Exception | None]:
        if not math.isnan(self._cpu_before):
            self.batches.append(time.monotonic() - self._epoch_end)
        time.sleep(EPOCH)
        self._calls += 1
        if self._calls == 3:
            self._window.add_warm_worker()
        if math.isnan(self._cpu_before) and self._window.has_begun:
            self._cpu_before = _own_cpu_seconds()
        self._epoch_end = time.monotonic()
        return super().train_epoch(values)

    @property
    def used(self) -> float:
        """Seconds of CPU time since the window began."""
        return _own_cpu_seconds() - self._cpu_before


def _own_cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _run_worker(url: str, number: int, window: MeasurementWindow, found: Queue[object]) -> None:
    use_one_thread()
    engine = SleepingEngine(window)
    mine = make_worker(url, f"worker-{number}", engine, lambda: window.is_over)
    time.sleep(EPOCH * (number % 100) / 100)  # real epochs do not all end at once
    try:
        mine.run()
    finally:
        found.put((engine.batches, engine.used))


def measure(server: LargeServer, workers: int, seconds: float) -> list[str]:
    """Return a row of the table: the time of batches, and what they use."""
    with empty_database(server.url) as url:
        create_shared_study(url)
        window, found = MeasurementWindow(seconds), _FORK.Queue()
        processes = [
            _FORK.Process(target=_run_worker, args=(url, number, window, found))
            for number in range(workers)
        ]
        for process in processes:
            process.start()
        window.open_when_warm(processes)
        began, before = time.monotonic(), server.cpu_seconds()
        time.sleep(seconds)
        took, used = time.monotonic() - began, server.cpu_seconds() - before
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        [(connections,)] = execute(url, query)
        results = [found.get() for _ in processes]
        for process in processes:
            process.join()
    failed = sum(process.exitcode != 0 for process in processes)
    batches = sorted(taken for of_worker, _ in results for taken in of_worker)
    p50, p99 = "–", "–"
    if batches:
        p50 = f"{1e3 * statistics.median(batches):.0f}"
        p99 = f"{1e3 * batches[int(0.99 * len(batches))]:.0f}"
    workers_cpu = sum(cpu for _, cpu in results)
    row = [
        *(str(workers), f"{len(batches) / took:.0f}", p50, p99),
        *(f"{used / took:.2f}", f"{workers_cpu / took:.2f}", str(connections), str(failed)),
    ]
    print(" ".join(row), file=sys.stderr, flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="*", default=[25, 50, 100, 200])
    parser.add_argument("--seconds", type=float, default=15.0)
    options = parser.parse_args()
    use_one_thread()
    server = LargeServer([program("initdb"), program("postgres")])
    try:
        rows = [measure(server, workers, options.seconds) for workers in options.workers]
    finally:
        server.close()
    print(describe_machine())
    heads = ["workers", "batches /s", "p50, ms", "p99, ms", "server, cores", "workers, cores"]
    print("\n".join(markdown_table([*heads, "connections", "workers that failed"], rows)))


if __name__ == "__main__":
    main()
