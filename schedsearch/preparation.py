"""From a space file to the record of a study: everything that `start` checks before it begins."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schedsearch.compatibility import validate_against_task
from schedsearch.errors import FileError, InputError, Problem
from schedsearch.files import read_document
from schedsearch.numerics import current_numerics
from schedsearch.samplers import limit_trials, make_sampler
from schedsearch.space import Space
from schedsearch.storage import StudyRecord
from schedsearch.task import Task, TrainFunction, fingerprint, is_train_function, load_task

if TYPE_CHECKING:
    from schedsearch.engines.autotune import LaneChoice

#: The share of a study's trials that may be in training at once: the more, the less each proposal
#: knows of the others. See docs/performance.md for what was measured.
IN_FLIGHT = 1 / 8
#: Of the epochs that trials ask for, the share that is trained where a pruner ends many early.
_TRAINED_OF_PRUNED = 1 / 3


def load_space(path: Path, overrides: Mapping[str, Any]) -> Space:
    """Read a space, with values that flags put in the place of the file's, by dotted key.

    Raises:
        InputError: as Space.load.
    """
    content = read_document(path)
    content.setdefault("name", path.stem)
    for key, value in overrides.items():
        if value is None:
            continue
        *tables, last = key.split(".")
        table = content
        for name in tables:
            table = table.setdefault(name, {})
            if not isinstance(table, dict):
                break  # a mistake of the file, which is told below
        else:
            table[last] = value
    return Space.from_document(content, str(path))


@dataclass(frozen=True)
class Setup:
    """How the trials of a study are to be trained, as a person asks for it.

    Attributes:
        device: where, as torch names it.
        threads: torch's intra-operation threads of each worker.
        workers: how many workers will share the trials.
        lanes: runs in one batched step of a worker; None: as many as measuring finds best.
        tf32: let a GPU round the factors of matrix products to 10 bits of fraction.
        autocast: let the models compute in bfloat16.
    """

    device: str = "cpu"
    threads: int = 1
    workers: int = 1
    lanes: int | None = 1
    tf32: bool = False
    autocast: bool = False


@dataclass(frozen=True)
class Prepared:
    """A space that fits its task: all that a study fixes, but for the numerics.

    Attributes:
        space: the space, completed by the task's defaults.
        task: what it trains.
        fingerprint: of the task's source, arguments and data.
    """

    space: Space
    task: Task | TrainFunction
    fingerprint: str

    def record(self, numerics: Mapping[str, Any]) -> StudyRecord:
        """Return what a study with these numerics fixes."""
        trials = limit_trials(self.space, self.space.search.trials)
        return StudyRecord(self.space, trials, numerics, self.fingerprint)


def prepare(space: Space, file: str = "the space") -> Prepared:
    """Check all that can be checked before a study of this space begins.

    Raises:
        InputError: the task, the space or the sampler do not fit each other; `file` names the space
            in the message.
    """
    complete = validate_against_task(space, file)
    epochs = space.search.epochs
    if epochs is not None and epochs < space.horizon:
        rule = f"must be at least the horizon ({space.horizon}): one trial may take as many"
        raise FileError(file, [Problem("search.epochs", rule, epochs)])
    task = load_task(space.task, space.document.arguments)
    make_sampler(complete, "preparation")
    return Prepared(complete, task, fingerprint(task, space.task, space.document.arguments))


def check_setup(prepared: Prepared, setup: Setup) -> None:
    """Check what was asked for, before anything is measured or written.

    Raises:
        InputError: this machine has no such device, or a trial's seeds do not fit the lanes.
    """
    current_numerics("sequential", device=setup.device)
    seeds = prepared.space.search.seeds
    if setup.lanes is not None and 1 < setup.lanes < seeds:
        raise InputError(
            f"--lanes is {setup.lanes}, but must be at least {seeds}: the seeds of a trial train "
            "side by side"
        )


def choose_numerics(prepared: Prepared, setup: Setup, say: Callable[[str], None]) -> dict[str, Any]:
    """Return the numerics of a study that is trained as a person asks for it; see `check_setup`.

    `say` is told how many runs share a step, and why. Measuring that may take a while.
    """
    here = partial(current_numerics, device=setup.device, threads=setup.threads)
    if is_train_function(prepared.task):
        if setup.lanes not in (None, 1):
            say("1 lane: a training loop of your own trains one run at a time")
        return here("loop")
    here = partial(here, tf32=setup.tf32, autocast=setup.autocast)
    plain = here("sequential")
    if setup.lanes == 1:
        return plain
    choice = _choose_lanes(prepared.space, prepared.task, setup, say)
    say(choice.reason)
    if choice.lanes == 1:
        return plain
    return here("lanes", lanes=choice.lanes, compiled=choice.compiled)


def _choose_lanes(space: Space, task: Task, setup: Setup, say: Callable[[str], None]) -> LaneChoice:
    from schedsearch.engines.autotune import choose_lanes, fixed_lanes
    from schedsearch.engines.precision import PrecisionSettings

    seeds, trials = space.search.seeds, limit_trials(space, space.search.trials)
    precision = PrecisionSettings(setup.threads, setup.tf32, setup.autocast)
    if setup.lanes is not None:
        return fixed_lanes(task, setup.lanes, precision=precision, device=setup.device)
    own_trials = math.ceil(trials / setup.workers)
    return choose_lanes(
        task,
        horizon=space.horizon,
        trials=own_trials,
        seeds=seeds,
        trained=1.0 if space.search.pruner.name == "none" else _TRAINED_OF_PRUNED,
        most_lanes=seeds * max(1, int(IN_FLIGHT * own_trials)),
        precision=precision,
        device=setup.device,
        say=say,
    )


def threads_for(workers: int) -> int:
    """Return the threads of each worker, such that workers x threads fit the machine."""
    return max(1, cores() // max(1, workers))


def cores() -> int:
    """Return how many cores this process may use."""
    # macOS does not say which those are.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
