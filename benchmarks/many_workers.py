"""A round of many workers on one PostgreSQL server, and what is used up first.

    python -m benchmarks.many_workers [--workers 25 50 100 200] [--seconds 15]

Each worker is a process with one lane whose epoch is a second's sleep: training elsewhere, so to
say. A round is all that a worker does between two epochs: reports, ends, claims, plans. The server
and all workers share this machine; processor time is given in cores.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import resource
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

from benchmarks.coordination import begin_study, worker
from benchmarks.measuring import machine, quiet, table
from benchmarks.overhead import InstantEngine
from schedsearch.engines import EpochResult
from tests.servers import PostgreSQL, empty_database, execute, program

EPOCH = 1.0
_FORK = multiprocessing.get_context("fork")
_TICKS = os.sysconf("SC_CLK_TCK")


class Roomy(PostgreSQL):
    """A server that admits more than PostgreSQL's default of 100 connections."""

    def _command(self) -> list[object]:
        return [*super()._command(), "--max_connections=1000"]

    def processor_seconds(self) -> float:
        """Return the processor time that the server has used so far."""
        assert self._process is not None
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return sum(map(_used, [str(pid), *children]))


def _used(pid: str) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    # Its own, in the program and in the kernel, and that of the children it has waited for.
    return sum(map(int, fields[11:15])) / _TICKS


class SleepingEngine(InstantEngine):
    """Sleeps for an epoch, and notes how long it was not called."""

    def __init__(self) -> None:
        super().__init__(1)
        self.rounds: list[float] = []
        self._left: float | None = None

    def train_epoch(
        self, values: Sequence[Mapping[str, float] | None]
    ) -> list[EpochResult | Exception | None]:
        if self._left is not None:
            self.rounds.append(time.monotonic() - self._left)
        time.sleep(EPOCH)
        self._left = time.monotonic()
        return super().train_epoch(values)


def _worker(url: str, number: int, start: Barrier, seconds: float, found: Queue[object]) -> None:
    quiet()
    engine, end = SleepingEngine(), math.inf
    mine = worker(url, f"worker-{number}", engine, lambda: time.monotonic() > end)
    start.wait()
    time.sleep(EPOCH * (number % 100) / 100)  # epochs elsewhere do not end all at once
    end = time.monotonic() + seconds
    try:
        mine.run()
    finally:
        used = resource.getrusage(resource.RUSAGE_SELF)
        # The first rounds open the connections and read the study.
        found.put((engine.rounds[2:], used.ru_utime + used.ru_stime))


def measure(server: Roomy, workers: int, seconds: float) -> list[str]:
    """Return a row: how long rounds take, and what they use."""
    with empty_database(server.url) as url:
        begin_study(url)
        start, found = _FORK.Barrier(workers + 1), _FORK.Queue()
        processes = [
            _FORK.Process(target=_worker, args=(url, number, start, seconds, found))
            for number in range(workers)
        ]
        for process in processes:
            process.start()
        start.wait()
        began, before = time.monotonic(), server.processor_seconds()
        time.sleep(seconds)
        took, used = time.monotonic() - began, server.processor_seconds() - before
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        [(connections,)] = execute(url, query)
        results = [found.get() for _ in processes]
        for process in processes:
            process.join()
    failed = sum(process.exitcode != 0 for process in processes)
    rounds = sorted(taken for of_worker, _ in results for taken in of_worker)
    p50, p99 = "–", "–"
    if rounds:
        p50 = f"{1e3 * statistics.median(rounds):.0f}"
        p99 = f"{1e3 * rounds[int(0.99 * len(rounds))]:.0f}"
    theirs = sum(cpu for _, cpu in results)
    row = [
        *(str(workers), f"{len(rounds) / took:.0f}", p50, p99),
        *(f"{used / took:.2f}", f"{theirs / took:.2f}", str(connections), str(failed)),
    ]
    print(" ".join(row), file=sys.stderr, flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="*", default=[25, 50, 100, 200])
    parser.add_argument("--seconds", type=float, default=15.0)
    options = parser.parse_args()
    quiet()
    server = Roomy([program("initdb"), program("postgres")])
    try:
        rows = [measure(server, workers, options.seconds) for workers in options.workers]
    finally:
        server.end()
    print(machine())
    heads = ["workers", "rounds /s", "p50, ms", "p99, ms", "server, cores", "workers, cores"]
    print("\n".join(table([*heads, "connections", "workers that failed"], rows)))


if __name__ == "__main__":
    main()
