"""From a space file to the record of a study, with all checks before the first training."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schedsearch.compatibility import validate_against_task
from schedsearch.cores import most_threads, thread_counts
from schedsearch.errors import FileError, InputError, Problem
from schedsearch.files import read_document
from schedsearch.numerics import current_numerics
from schedsearch.samplers import limit_trials, make_sampler
from schedsearch.space import Space
from schedsearch.storage import StudyHandle, StudyRecord
from schedsearch.study_task import LoadedTask, load_with_fingerprint, study_task_changes
from schedsearch.task import Task, TrainFunction, is_train_function

if TYPE_CHECKING:
    from schedsearch.engines.autotune import EngineChoice

#: At most this share of a study's trials trains at once: the sampler proposes a trial without the
#: results of those in training. docs/performance.md has the measurements.
MAX_SHARE_IN_TRAINING = 1 / 8


def load_space(
    path: Path,
    overrides: Mapping[str, Any],
    find_stored: Callable[[str], Space | None] = lambda name: None,
) -> Space:
    """Read a space, and replace values of the file by those of flags, given by dotted key.

    Args:
        path: of the file.
        overrides: the values of flags; None: the flag is not given.
        find_stored: returns the space of the study with a name; None if there is none.

    Raises:
        InputError: the file cannot be read or has mistakes; the message lists all of them.
    """
    content = read_document(path)
    content.setdefault("name", path.stem)
    return space_from_content(content, str(path), overrides, find_stored)


def space_from_content(
    content: dict[str, Any],
    file: str,
    overrides: Mapping[str, Any],
    find_stored: Callable[[str], Space | None] = lambda name: None,
) -> Space:
    """Return the space in the content of a file, with other values for some keys.

    Args:
        content: of the file, with a name; it is changed.
        file: names it in messages.
        overrides: the other values by dotted key; None: the value stays.
        find_stored: returns the space of the study with a name; None if there is none.

    Raises:
        InputError: the content has mistakes; the message lists all of them.
    """
    for key, value in overrides.items():
        if value is None:
            continue
        *tables, last = key.split(".")
        table = content
        for name in tables:
            table = table.setdefault(name, {})
            if not isinstance(table, dict):
                break  # Space.from_file reports this mistake of the file
        else:
            table[last] = value
    name = content["name"]
    stored = find_stored(name) if isinstance(name, str) else None
    return Space.from_file(content, file, stored)


@dataclass(frozen=True)
class ComputeOptions:
    """The options of `start` that decide how trials are trained, and on what hardware.

    Attributes:
        device: a device name of torch.
        threads: torch's intra-operation threads of each worker; None measures the best number.
        workers: how many workers share the trials.
        lanes: runs in one batched step of a worker; None measures the best number.
        tf32: let a GPU multiply matrices in TF32.
        autocast: let the models compute in bfloat16.
        processes: that train a trial together.
    """

    device: str = "cpu"
    threads: int | None = 1
    workers: int = 1
    lanes: int | None = 1
    tf32: bool = False
    autocast: bool = False
    processes: int = 1


@dataclass(frozen=True)
class PreparedSpace:
    """A space that fits its task: with numerics, it becomes the record of a study.

    Attributes:
        space: the space, completed by the task's defaults.
        loaded: the task, with its fingerprint.
    """

    space: Space
    loaded: LoadedTask

    @property
    def task(self) -> Task | TrainFunction:
        """The loaded task."""
        return self.loaded.task

    def record(self, numerics: Mapping[str, Any], study: StudyHandle | None = None) -> StudyRecord:
        """Return the record of a study with these numerics.

        Args:
            numerics: of the study.
            study: the existing study that the record is to continue. If it accepts the task as it
                is now, the record has the fingerprint of the study.
        """
        trials = limit_trials(self.space, self.space.search.trials)
        fingerprint = self.loaded.fingerprint
        record = StudyRecord(
            self.space, trials, numerics, fingerprint.digest, parts=fingerprint.parts
        )
        if study is not None and not study_task_changes(study, self.loaded):
            return replace(record, fingerprint=study.record.fingerprint)
        return record


def prepare_space(space: Space, file: str = "the space") -> PreparedSpace:
    """Load the task of a space, and check everything that can be checked before a study begins.

    Raises:
        InputError: the task, the space or the sampler do not fit each other; the message names
            `file`.
    """
    complete = validate_against_task(space, file)
    epochs = space.search.epochs
    if epochs is not None and epochs < space.horizon:
        rule = f"must be at least the horizon ({space.horizon}), since one trial may need so many"
        raise FileError(file, [Problem("search.epochs", rule, epochs)])
    loaded = load_with_fingerprint(complete, is_checked=True)
    make_sampler(complete, "preparation")
    return PreparedSpace(complete, loaded)


def check_compute_options(prepared: PreparedSpace, options: ComputeOptions) -> None:
    """Check the options before anything is measured or written.

    Raises:
        InputError: this machine has no such device, a trial has more seeds than lanes, or a Task
            is to be trained by several processes.
    """
    current_numerics("sequential", device=options.device)
    seeds = prepared.space.search.seeds
    if options.lanes is not None and 1 < options.lanes < seeds:
        raise InputError(
            f"--lanes is {options.lanes}, but must be at least {seeds}: all seeds of a trial train "
            "in parallel"
        )
    if options.processes > 1 and not is_train_function(prepared.task):
        raise InputError(
            f"--processes-per-trial is {options.processes}, but {prepared.space.task} is a Task, "
            "which one process trains: only a training loop can use several"
        )


def choose_numerics(
    prepared: PreparedSpace,
    options: ComputeOptions,
    say: Callable[[str], None],
    compiled_before: Callable[[], Collection[tuple[int, int]]] = tuple,
) -> dict[str, Any]:
    """Return the numerics of a new study, which may take a while to measure.

    Args:
        prepared: the space and its task.
        options: that `check_compute_options` accepts.
        say: receives the numbers of lanes and threads, and the reasons for them.
        compiled_before: returns the lanes and threads of steps that are compiled already. It is
            called only if the number of lanes is measured.
    """
    most = options.threads or most_threads(options.workers * options.processes)
    if is_train_function(prepared.task):
        if options.lanes not in (None, 1):
            say("1 lane: your training loop trains one run at a time")
        if options.threads is None and most > 1:
            say(f"{most} threads: a training loop is not measured; --threads N changes it")
        return current_numerics(
            "loop", device=options.device, threads=most, processes=options.processes
        )
    here = partial(
        current_numerics, device=options.device, tf32=options.tf32, autocast=options.autocast
    )
    counts = thread_counts(most) if options.threads is None else (most,)
    if options.lanes == 1 and len(counts) == 1:
        return here("sequential", threads=most)
    choice = _choose_engine(prepared.space, prepared.task, options, counts, say, compiled_before)
    say(choice.reason)
    if choice.lanes == 1:
        return here("sequential", threads=choice.threads)
    return here("lanes", threads=choice.threads, lanes=choice.lanes, compiled=choice.compiled)


def _share_lanes(
    space: Space, lanes: int | None, trials: int, say: Callable[[str], None]
) -> tuple[int | None, int]:
    """Return the number of lanes, None to measure it, and how many trials may share them.

    Only trials of equal arguments share a step.

    Args:
        space: of the study.
        lanes: that the user asked for, if any.
        trials: of each worker.
        say: receives what follows from the arguments.
    """
    combinations = space.argument_combinations()
    if combinations == 1:
        return lanes, trials
    alike = max(1, math.floor(trials / combinations))
    count = "continuous" if combinations == math.inf else f"{combinations:,.0f} combinations"
    if alike == 1 and lanes is None:
        say(f"trials are trained one by one: few of {trials} have equal arguments ({count})")
        return 1, trials
    if lanes is None:
        say(f"{count} of arguments: about {alike} trials per worker have equal ones, for one step")
        return None, alike
    if lanes > 1 and alike < lanes:
        say(
            f"--lanes {lanes} is more than the trials with equal arguments ({count}): some lanes "
            "stay empty; --lanes auto chooses fewer"
        )
    return lanes, trials


def _choose_engine(
    space: Space,
    task: Task,
    options: ComputeOptions,
    threads: tuple[int, ...],
    say: Callable[[str], None],
    compiled_before: Callable[[], Collection[tuple[int, int]]],
) -> EngineChoice:
    from schedsearch.engines.autotune import SearchSize, choose_engine
    from schedsearch.engines.precision import PrecisionSettings

    trials = math.ceil(limit_trials(space, space.search.trials) / options.workers)
    lanes, worker_trials = _share_lanes(space, options.lanes, trials, say)
    return choose_engine(
        task,
        size=SearchSize(
            horizon=space.horizon,
            trials=worker_trials,
            seeds=space.search.seeds,
            trained=space.search.expected_share,
        ),
        lanes=lanes,
        most_lanes=space.search.seeds * max(1, int(MAX_SHARE_IN_TRAINING * worker_trials)),
        threads=threads,
        precision=PrecisionSettings(threads[0], options.tf32, options.autocast),
        device=options.device,
        say=say,
        compiled_before=compiled_before() if lanes is None else (),
    )
