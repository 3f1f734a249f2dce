"""How soon a killed worker's trial is queued again, and how soon another worker trains it.

    python -m benchmarks.requeueing [--kills 10]

A worker process of this machine is killed while it trains. A supervisor checks it as often as
`start` does, and replaces it. The study is in a SQLite file.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.measurement import describe_machine, markdown_table, use_one_thread
from schedsearch.launchers.fork_server import can_fork
from schedsearch.launchers.local import LocalLauncher
from schedsearch.launchers.supervisor import Supervisor
from schedsearch.preparation import ComputeOptions, choose_numerics, prepare_space
from schedsearch.space import Space
from schedsearch.storage import StudyHandle, create_study, open_database
from tests.processes import workers_of

#: What is timed.
_MOMENTS = ("its trial is queued again", "another worker has it", "its next epoch is trained")
#: Seconds between two checks, as in `start`.
_CHECK_INTERVAL = 0.2


def discard(line: str) -> None:
    """Ignore a message."""


def create_long_study(folder: Path) -> StudyHandle:
    """Create a study whose trials take about a minute."""
    lr = {"families": {"constant": {"value": {"low": 0.01, "high": 0.9}}}}
    content = {
        "name": "small",
        "task": "tests.searches:train_slowly",
        "horizon": 5_000,
        "objective": {"metric": "val_loss"},
        "search": {"trials": 10, "pruner": {"name": "none"}},
        "hyperparameters": {"lr": lr},
    }
    prepared = prepare_space(Space.from_document(content, "small.toml"))
    record = prepared.record(choose_numerics(prepared, ComputeOptions(), discard))
    return create_study(open_database(f"sqlite:///{folder / 'studies.db'}", create=True), record)


def _is_training(study: StudyHandle) -> bool:
    return study.queue.counts().running == 1


def _last_epoch(study: StudyHandle) -> int:
    return max(max(trial.intermediate_values, default=0) for trial in study.trials())


def measure_kill(folder: Path) -> tuple[float, float, float]:
    """Return the seconds from a kill until its trial is queued, taken, and trained further."""
    study = create_long_study(folder)
    launcher = LocalLauncher(forks=can_fork())
    supervisor = Supervisor(study, 1, launcher, discard)
    try:
        supervisor.start()
        while not _is_training(study):
            supervisor.watch()
            time.sleep(_CHECK_INTERVAL)
        [pid] = workers_of(study.database.url)
        time.sleep(_CHECK_INTERVAL * (pid % 10) / 10)  # at a random time between two checks
        os.kill(pid, signal.SIGKILL)
        killed = time.monotonic()
        time.sleep(_CHECK_INTERVAL * (1 - pid % 10 / 10))
        supervisor.watch()
        while study.queue.counts().waiting == 0:
            time.sleep(_CHECK_INTERVAL)
            supervisor.watch()
        waits = time.monotonic() - killed
        trained = _last_epoch(study)
        while study.queue.counts().running == 0:
            time.sleep(0.01)
        takes = time.monotonic() - killed
        while _last_epoch(study) <= trained:
            time.sleep(0.01)
        return waits, takes, time.monotonic() - killed
    finally:
        supervisor.kill()
        launcher.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    options = parser.parse_args()
    use_one_thread()
    found = []
    for _ in range(options.kills):
        with tempfile.TemporaryDirectory() as folder:
            found.append(measure_kill(Path(folder)))
    rows = [
        [what, f"{statistics.median(seconds):.2f}", f"{max(seconds):.2f}"]
        for what, seconds in zip(_MOMENTS, zip(*found, strict=True), strict=True)
    ]
    print(describe_machine())
    print("\n".join(markdown_table(["from the kill until", "median, s", "maximum, s"], rows)))


if __name__ == "__main__":
    main()
