"""Small searches: a task that trains in microseconds, studies of it, and the command line."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tomli_w
from optuna.trial import FrozenTrial

from schedsearch.engines.loop import LoopEngine, LoopRun
from schedsearch.preparation import ComputeOptions, choose_numerics, prepare_space
from schedsearch.space import Space
from schedsearch.storage import StudyHandle, create_study, open_database
from schedsearch.task import load_task
from schedsearch.trajectories.cached_runs import CachedRuns
from schedsearch.worker import BestTrialCallback, Messages, ProcessControl, Worker

ROOT = Path(__file__).parent.parent
DEFAULTS = {"lr": 0.1, "reg": 0.0}


def train(run: LoopRun) -> None:
    """Halve a distance, more or less; a penalty keeps every plan's value apart."""
    distance = 5.0 + run.seed
    for _ in run:
        hp = run.at(0, of=1)
        distance *= 1.0 - hp["lr"]
        run.report(val_loss=abs(distance) + hp["lr"] + hp["reg"], terms={"fit": distance**2})
    run.test(loss=abs(distance))


def train_slowly(run: LoopRun) -> None:
    """Never end by itself, an epoch at a time."""
    for epoch, hp in run:
        time.sleep(0.01)
        run.report(val_loss=hp["lr"] / (1 + epoch))


def train_to_nan(run: LoopRun) -> None:
    """Diverge where lr is above a half."""
    for _, hp in run:
        run.report(val_loss=math.nan if hp["lr"] > 0.5 else hp["lr"])


def train_to_infinity(run: LoopRun) -> None:
    """Diverge the other way: a metric to be minimised that falls without end."""
    for _, hp in run:
        run.report(val_loss=-math.inf * hp["lr"])


def train_and_raise(run: LoopRun) -> None:
    """Fail in the third epoch."""
    for epoch, hp in run:
        if epoch == 2:
            raise ZeroDivisionError("the third epoch\nis one too many")
        run.report(val_loss=hp["lr"])


def train_and_raise_afterwards(run: LoopRun) -> None:
    """Fail after the last epoch."""
    for _, hp in run:
        run.report(val_loss=hp["lr"])
    raise ZeroDivisionError("no test data")


def train_or_raise_by_rate(run: LoopRun) -> None:
    """Fail if the learning rate is above 0.5."""
    for _, hp in run:
        if hp["lr"] > 0.5:
            raise ValueError("the rate is too high")
        run.report(val_loss=hp["lr"])


def train_and_exit(run: LoopRun) -> None:
    """Leave by sys.exit, as scripts do."""
    for _ in run:
        sys.exit(0)


def train_or_hang(run: LoopRun) -> None:
    """Hang in the third epoch where lr is large."""
    for epoch, hp in run:
        while epoch == 2 and hp["lr"] > 0.8:
            time.sleep(0.01)
        run.report(val_loss=hp["lr"])


def train_until_near(run: LoopRun) -> None:
    """Like `train`, but end once the distance is below 1, and at seed 1 before the report."""
    distance = 5.0 + run.seed % 1000  # fresh seeds begin at a million
    for _, hp in run:
        distance *= 1.0 - hp["lr"]
        if run.seed == 1 and abs(distance) < 1.0:
            break
        run.report(val_loss=abs(distance) + hp["lr"] + hp["reg"], terms={"fit": distance**2})
        if abs(distance) < 1.0:
            break
    run.test(loss=abs(distance))


def train_gently(run: LoopRun) -> None:
    """Take a moment for each epoch, so that a test can see the middle of a trial."""
    for epoch, hp in run:
        time.sleep(0.02)
        run.report(val_loss=hp["lr"] / (1 + epoch))


def train_gently_to_a_distance(run: LoopRun) -> None:
    """Like `train`, but take a moment for each epoch: the value depends on all epochs before."""
    distance = 5.0 + run.seed
    for _, hp in run:
        time.sleep(0.02)
        distance *= 1.0 - hp["lr"]
        run.report(val_loss=abs(distance) + hp["lr"] + hp["reg"])


def train_when_let(run: LoopRun) -> None:
    """Wait in the third epoch until the current folder has a file `go`."""
    for epoch, hp in run:
        while epoch == 2 and not Path("go").exists():
            time.sleep(0.01)
        run.report(val_loss=hp["lr"])


def train_on(run: LoopRun) -> None:
    """Count epochs, and continue from the last checkpoint."""
    done = run.restored or 0
    for epoch, hp in run:
        assert epoch == done
        time.sleep(0.02)
        done += 1
        run.report(val_loss=hp["lr"] / done)
        run.checkpoint(done)


for _function in (
    train_gently,
    train_gently_to_a_distance,
    train_when_let,
    train_on,
    train_or_hang,
    train,
    train_until_near,
    train_slowly,
    train_to_nan,
    train_to_infinity,
    train_and_raise,
    train_and_raise_afterwards,
    train_or_raise_by_rate,
    train_and_exit,
):
    _function.hyperparameters = DEFAULTS


def document(task: Callable[..., Any] = train, **search: Any) -> dict[str, Any]:
    """Return the content of a space file: one learning rate, constant or decaying."""
    lr = {"low": 0.01, "high": 0.9, "log": True}
    search = {"sampler": {}, "pruner": {"min_epochs": 2}, **search}
    search["sampler"] = {"name": "tpe", **search["sampler"]}
    search["pruner"] = {"name": "asha", **search["pruner"]}
    return {
        "name": "small",
        "task": f"tests.searches:{task.__name__}",
        "horizon": 9,
        "objective": {"metric": "val_loss"},
        "search": {"trials": 10, **search},
        "hyperparameters": {
            "lr": {
                "families": {
                    "constant": {"value": lr},
                    "exponential": {"initial": lr, "decay_rate": {"low": 0.5, "high": 1.0}},
                }
            }
        },
    }


def url_of(folder: Path) -> str:
    return f"sqlite:///{folder / 'studies.db'}"


def make_study(folder: Path, content: Mapping[str, Any] | None = None) -> StudyHandle:
    return make_study_at(url_of(folder), content)


def make_study_at(url: str, content: Mapping[str, Any] | None = None) -> StudyHandle:
    space = Space.from_document(content or document(), "small.toml")
    prepared = prepare_space(space)
    numerics = choose_numerics(prepared, ComputeOptions(), say=print)
    return create_study(open_database(url, create=True), prepared.record(numerics))


class Ears:
    """Keeps what a worker says: what went wrong, and what went well."""

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self.well: list[str] = []


def work(
    study: StudyHandle,
    name: str = "ann",
    should_stop: Callable[[], bool] = lambda: False,
    best_trial_callback: BestTrialCallback | None = None,
) -> Ears:
    """Run one worker in this process until it ends."""
    ears = Ears()
    make_worker(study, name, should_stop, ears, best_trial_callback=best_trial_callback).run()
    return ears


def make_worker(
    study: StudyHandle,
    name: str,
    should_stop: Callable[[], bool],
    ears: Ears,
    trials: int = 1,
    **settings: Any,
) -> Worker:
    """Return a worker with lanes for so many trials."""
    task, horizon = load_task(study.space.task), study.space.horizon
    return Worker(
        study,
        [LoopEngine(task, horizon=horizon) for _ in range(trials * study.space.search.seeds)],
        name=name,
        control=ProcessControl(should_stop),
        messages=Messages(ears.wrong.append, ears.well.append),
        **{"cached_runs": CachedRuns.of_study(study, None), **settings},
    )


def wait_until(
    condition: Callable[[], bool], seconds: float = 180.0, *, pause: float = 0.02
) -> None:
    """Wait for a condition, and fail if it does not come true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(pause)


def write_space(folder: Path, content: Mapping[str, Any]) -> Path:
    path = folder / "small.toml"
    path.write_text(tomli_w.dumps(content))
    return path


BEGUN: list[subprocess.Popen[str]] = []
"""What `begin` started, for a test or for a fixture of several tests."""


def begin(*arguments: object, folder: Path, **environment: str) -> subprocess.Popen[str]:
    """Start `schedsearch ARGUMENTS` as a process in a folder, which the end of the test ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "schedsearch", *map(str, arguments)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "SCHEDSEARCH_STORAGE": ""} | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    BEGUN.append(process)
    return process


@contextmanager
def end_begun() -> Iterator[None]:
    """At the end, kill the processes of `begin` that still run, and print their unread stderr."""
    earlier = len(BEGUN)
    yield
    for process in BEGUN[earlier:]:
        process.kill()
        if process.stderr is not None and not process.stderr.closed:
            # Workers that it started hold its pipe until they see that it is gone.
            _, err = process.communicate(timeout=60)
            print(*process.args[1:], f"ended with {process.returncode}:", err)
    del BEGUN[earlier:]


def is_constant(study: StudyHandle, trial: FrozenTrial) -> bool:
    """Tell whether a trial's plan holds everything constant that the study searches."""
    return study.space.is_constant_plan(trial.user_attrs["plan"])
