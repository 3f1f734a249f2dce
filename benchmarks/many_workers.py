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
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
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
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:  # a connection that has just ended
        return 0.0
    # Its own, in the program and in the kernel, and that of the children it has waited for.
    return sum(map(int, fields[11:15])) / _TICKS


class Window:
    """The time that is measured: from when every worker has opened its connections."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._warm = _FORK.Value("i", 0)
        self._began = _FORK.Value("d", math.inf)

    def one_more_is_warm(self) -> None:
        with self._warm.get_lock():
            self._warm.value += 1

    def begin_when_warm(self, workers: Sequence[BaseProcess]) -> None:
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
    """Sleeps for an epoch, and notes how long it was not called, and what was computed then."""

    def __init__(self, window: Window) -> None:
        super().__init__(1)
        self.rounds: list[float] = []
        self._window, self._calls = window, 0
        self._left, self._before = math.nan, math.nan

    def train_epoch(
        self, values: Sequence[Mapping[str, float] | None]
    ) -> list[EpochResult | Exception | None]:
        if not math.isnan(self._before):
            self.rounds.append(time.monotonic() - self._left)
        time.sleep(EPOCH)
        self._calls += 1
        if self._calls == 3:
            self._window.one_more_is_warm()
        if math.isnan(self._before) and self._window.has_begun:
            self._before = _used_here()
        self._left = time.monotonic()
        return super().train_epoch(values)

    @property
    def used(self) -> float:
        """Seconds of processor time since the window began."""
        return _used_here() - self._before


def _used_here() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _worker(url: str, number: int, window: Window, found: Queue[object]) -> None:
    quiet()
    engine = SleepingEngine(window)
    mine = worker(url, f"worker-{number}", engine, lambda: window.is_over)
    time.sleep(EPOCH * (number % 100) / 100)  # epochs elsewhere do not end all at once
    try:
        mine.run()
    finally:
        found.put((engine.rounds, engine.used))


def measure(server: Roomy, workers: int, seconds: float) -> list[str]:
    """Return a row: how long rounds take, and what they use."""
    with empty_database(server.url) as url:
        begin_study(url)
        window, found = Window(seconds), _FORK.Queue()
        processes = [
            _FORK.Process(target=_worker, args=(url, number, window, found))
            for number in range(workers)
        ]
        for process in processes:
            process.start()
        window.begin_when_warm(processes)
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
