"""Training loops to confirm, and studies of them: what schedules do is known beforehand."""

from __future__ import annotations

import math
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

from schedsearch.confirmation.confirm import prepare_confirmation
from schedsearch.confirmation.study import open_follow_up
from schedsearch.engines.loop import LoopRun
from schedsearch.storage import Purpose, StudyHandle
from tests.engines.toys import Toy
from tests.searches import DEFAULTS, document, make_study, work

FRESH = 1_000_000


def train_with_noise(run: LoopRun) -> None:
    """Approach a target, in steps whose noise a constant rate never gets rid of."""
    draws = random.Random(run.seed)
    distance = 5.0
    for _ in run:
        hp = run.at(0, of=1)
        distance = distance * (1 - hp["lr"]) + hp["lr"] ** 3 * draws.uniform(0.8, 1.2)
        run.report(val_loss=distance)
    run.test(loss=distance)


def train_indifferently(run: LoopRun) -> None:
    """Give what the seed says, whatever the schedules are; measure no test split."""
    for _ in run:
        run.report(val_loss=random.Random(run.seed).random())


def train_and_raise_when_fresh(run: LoopRun) -> None:
    """Fail on every seed that no search has met."""
    for _ in run:
        if run.seed >= FRESH:
            raise ZeroDivisionError("something\nin the user's code")
        run.report(val_loss=1.0)


def train_and_die_when_fresh(run: LoopRun) -> None:
    """Be killed, as by a machine out of memory, on every seed that no search has met."""
    for _ in run:
        if run.seed >= FRESH:
            os.kill(os.getpid(), signal.SIGKILL)
        run.report(val_loss=1.0)


def train_slowly_when_fresh(run: LoopRun) -> None:
    """Take a second on every seed that no search has met, and leave a sign of having begun."""
    for _ in run:
        if run.seed >= FRESH:
            Path("begun").touch()
            time.sleep(0.1)
        run.report(val_loss=1.0)


def train_to_an_infinite_test(run: LoopRun) -> None:
    """Validate well, and test without a finite metric."""
    for _ in run:
        run.report(val_loss=1.0)
    run.test(loss=math.inf)


def train_by_luck(run: LoopRun) -> None:
    """Give what the seed and the values of this very plan happen to draw."""
    values = ""
    for _, hp in run:
        values += f"{hp['lr']}"
        run.report(val_loss=random.Random(f"{run.seed} {values}").random())
    run.test(loss=random.Random(f"{run.seed} {values} tested").random())


def train_to_the_mean(run: LoopRun) -> None:
    """Care for the mean of the rate alone, which a constant can have as well as any schedule."""
    rates: list[float] = []
    for _, hp in run:
        rates.append(hp["lr"])
        run.report(val_loss=off_target(rates, f"{run.seed} {rates}"))
    run.test(loss=off_target(rates, f"{run.seed} {rates} tested"))


def off_target(rates: list[float], noise: str) -> float:
    """Return how far the mean rate is from the best one, with noise that depends on the run."""
    return abs(sum(rates) / len(rates) - 0.3) + random.Random(noise).gauss(0.0, 0.02)


def train_and_log_when_fresh(run: LoopRun) -> None:
    """Leave a line for every run that begins on a seed that no search has met."""
    if run.seed >= FRESH:
        with Path("begun.log").open("a") as log:
            log.write(f"{run.seed}\n")
    draws = random.Random(run.seed)
    distance = 1.0
    for _, hp in run:
        distance = distance * (1 - hp["lr"]) + hp["lr"] ** 3 * draws.uniform(0.8, 1.2)
        time.sleep(0.01)
        run.report(val_loss=distance)
    run.test(loss=distance)


def train_without_end_when_fresh(run: LoopRun) -> None:
    """Leave a sign of having begun, and never come back, on every seed that no search has met."""
    for _ in run:
        while run.seed >= FRESH:
            Path("begun").touch()
            time.sleep(1.0)
        run.report(val_loss=1.0)


class LongEpochs(Toy):
    """A toy whose epochs take too long to count as cheap, in lanes too."""

    steps_per_epoch = 600


for _function in (
    train_without_end_when_fresh,
    train_to_an_infinite_test,
    train_by_luck,
    train_to_the_mean,
    train_and_log_when_fresh,
    train_with_noise,
    train_indifferently,
    train_and_raise_when_fresh,
    train_and_die_when_fresh,
    train_slowly_when_fresh,
):
    _function.hyperparameters = DEFAULTS


def content_of(task: Any = train_with_noise, **search: Any) -> dict[str, Any]:
    """Return a space of constants and decays: of these, all end lower than any constant."""
    content = document(task, **{"trials": 12, "pruner": {"name": "none"}, **search})
    content["task"] = f"{__name__}:{task.__name__}"
    content["hyperparameters"]["lr"]["families"]["exponential"] = {
        "initial": {"low": 0.85, "high": 0.9},
        "decay_rate": {"low": 0.78, "high": 0.82},
    }
    return content


def searched(folder: Path, content: dict[str, Any]) -> StudyHandle:
    """Return a study whose trials have all ended."""
    study = make_study(folder, content)
    work(study)
    return study


def open_confirmation(study: StudyHandle, epoch_timeout: float | None = None) -> StudyHandle:
    """Return the study of the fresh runs of a confirmation."""
    return open_follow_up(study, Purpose.CONFIRM, epoch_timeout)


def confirmed(study: StudyHandle, *, top: int = 2, seeds: int = 8) -> dict[str, Any]:
    """Confirm a study with one worker in this process, and return the result."""
    with prepare_confirmation(study, top=top, seeds=seeds) as confirmation:
        work(confirmation.study)
        return confirmation.judge()
