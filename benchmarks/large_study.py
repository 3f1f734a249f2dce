"""A study of many trials: its status, the list of studies, and the start of a worker.

    python -m benchmarks.large_study [--trials 10000] [--epochs 60] [--backends sqlite postgresql]

`status` and `list` are whole commands. A worker starts with the study's name and ends with its
first epoch, so it claims a trial and proposes its plan; its process has imported torch before. Its
memory is what the process has then beside what it had before. All times are also given as CPU
time of the process, without the server: other processes share the machine.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.coordination import empty_database, make_worker
from benchmarks.measurement import describe_machine, markdown_table, use_one_thread
from benchmarks.overhead import InstantEngine
from benchmarks.search import SPACES
from benchmarks.stored_trials import store_trials
from schedsearch.engines import EpochResult
from schedsearch.numerics import current_numerics
from schedsearch.preparation import load_space, prepare_space
from schedsearch.storage import BatchedStorage, create_study, open_database
from tests.servers import Servers

#: Samplers with the pruner that is used with them.
SEARCHES = (("random", "none"), ("tpe", "asha"), ("forecast", "forecast"))
_SEEDS = 3
#: A fresh process: a fork would use the memory that its parent has freed.
_SPAWN = multiprocessing.get_context("spawn")


class FirstEpoch(InstantEngine):
    """Notes the state of the process at its first epoch."""

    def __init__(self) -> None:
        super().__init__(_SEEDS)
        self.reached: tuple[float, float, float] | None = None

    def train_epoch(
        self, values: Sequence[Mapping[str, float] | None]
    ) -> list[EpochResult | Exception | None]:
        self.reached = self.reached or _state()
        return super().train_epoch(values)


def _state() -> tuple[float, float, float]:
    """Return the time, the CPU time in seconds, and the memory in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    megabytes = pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    return time.perf_counter(), time.process_time(), megabytes


def create_large_study(url: str, sampler: str, pruner: str, trials: int, epochs: int) -> None:
    """Create a study with complete trials, whose queue is empty."""
    changes: dict[str, Any] = {"search.trials": 2 * trials, "search.seeds": _SEEDS}
    changes |= {"search.sampler.name": sampler, "search.pruner.name": pruner}
    space = prepare_space(load_space(SPACES / "noisy_digits.toml", changes))
    database = open_database(url, create=True)
    study = create_study(database, space.record(current_numerics("sequential")))
    store_trials(study, trials, epochs)
    storage = BatchedStorage(database)
    with storage.batch(study.study_id, "other") as batch:
        batch.claim(1)  # the baseline, so that a worker has to propose
    database.engine.dispose()


def _start_worker(url: str, found: Any) -> None:
    engine = FirstEpoch()
    before = _state()
    make_worker(url, "worker-0", engine, lambda: engine.reached is not None).run()
    assert engine.reached is not None
    found.put([after - then for after, then in zip(engine.reached, before, strict=True)])


def measure_worker(url: str) -> list[float]:
    """Return the seconds, CPU seconds and MB until the first epoch of a worker."""
    found: Any = _SPAWN.Queue()
    worker = _SPAWN.Process(target=_start_worker, args=(url, found))
    worker.start()
    measured: list[float] = found.get()
    worker.join()
    return measured


def measure_command(url: str, *arguments: str) -> list[float]:
    """Return the seconds and CPU seconds of a command."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "schedsearch", *arguments],
        env={**os.environ, "SCHEDSEARCH_STORAGE": url},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return [time.perf_counter() - began, used]


def measure(servers: Servers, backend: str, trials: int, epochs: int) -> list[list[str]]:
    """Return the rows of the table for one kind of database."""
    rows = []
    for sampler, pruner in SEARCHES:
        with empty_database(servers, backend) as url:
            create_large_study(url, sampler, pruner, trials, epochs)
            parts = {f"start of a worker: {sampler}, {pruner}": measure_worker(url)}
            if sampler == "tpe":
                parts |= {"status": measure_command(url, "status", "noisy_digits")}
                parts |= {"list": measure_command(url, "list")}
        for name, (seconds, cpu, *memory) in parts.items():
            shown = f"{memory[0]:.0f}" if memory else ""
            rows.append([backend, name, f"{seconds:.1f}", f"{cpu:.1f}", shown])
            print(rows[-1], file=sys.stderr, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--backends", nargs="*", default=["sqlite", "postgresql"])
    options = parser.parse_args()
    use_one_thread()
    servers, rows = Servers(), list[list[str]]()
    try:
        for backend in options.backends:
            rows += measure(servers, backend, options.trials, options.epochs)
    finally:
        servers.close()
    print(describe_machine())
    heads = ["database", "what", "seconds", "CPU seconds", "memory, MB"]
    print("\n".join(markdown_table(heads, rows)))


if __name__ == "__main__":
    main()
