"""A worker in this process: the engines that the study's numerics ask for, and the loop."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from schedsearch.engines import Engine, closest_numerics
from schedsearch.engines.precision import start_torch_threads
from schedsearch.garbage import keep_all, without_collection
from schedsearch.numerics import changed_numerics, numerics_differences
from schedsearch.ranks.rank_group import RankGroup
from schedsearch.space import Space
from schedsearch.storage import StudyHandle
from schedsearch.study_task import engine_for, load_study_task
from schedsearch.task import Task, TrainFunction
from schedsearch.trajectories import open_store
from schedsearch.trajectories.cached_runs import CachedRuns
from schedsearch.trajectories.compiled_code import kept_compiled_code
from schedsearch.worker import BestTrialCallback, Messages, ProcessControl, Worker

#: A worker has trials in the lanes of at most so many engines, each with its data and its code.
_MOST_POOLS = 8


def run_worker(
    study: StudyHandle,
    *,
    name: str,
    control: ProcessControl,
    messages: Messages,
    threads: int | None = None,
    reuse: bool = True,
    best_trial_callback: BestTrialCallback | None = None,
    group: RankGroup | None = None,
    is_own_process: bool = False,
) -> None:
    """Train trials of a study until none is left to begin, or until it is stopped.

    Args:
        study: the study.
        name: unique among all workers that the study ever had.
        control: when to stop, and how to leave an epoch that hangs.
        messages: lines for the user.
        threads: torch's threads; None: as many as the study records.
        reuse: read and write the cache of epochs.
        best_trial_callback: called for each new best trial.
        group: the processes that train each trial together; None: this one alone.
        is_own_process: whether this process does nothing else.

    Raises:
        InputError: several processes train a trial, but the task is no training loop.
        StudyError: the task differs from the one that the study was created with.
        SchedSearchError: the user's code failed several times in a row.
    """
    recorded = study.record.numerics
    numerics = {**recorded, "threads": threads or recorded["threads"]}
    numerics["processes"] = 1 if group is None else group.size
    start_torch_threads(numerics["threads"])
    if group is not None:
        group.set_up(study.space, numerics)
    with without_collection():
        # The task loads what it imports, and the check torch's compiler.
        task = load_study_task(study)
        with kept_compiled_code(study.database):
            here = closest_numerics(numerics)
    asked = {**numerics, "processes": recorded.get("processes", 1)}
    if other := numerics_differences(asked, here):
        messages.warn(
            f"warning: exact numbers will differ from the study's others: {'; '.join(other)}"
        )
    make_engine = partial(_make_engine, study.space, task, here, group)
    # An engine of one lane trains one seed of a trial.
    number = 1 if here["engine"] == "lanes" else study.space.search.seeds
    worker = Worker(
        study,
        [make_engine() for _ in range(number)],
        name=name,
        cached_runs=CachedRuns.of_study(
            study, open_store(study.database, messages.warn) if reuse else None, here
        ),
        control=control,
        messages=messages,
        numerics=changed_numerics(recorded, here),
        best_trial_callback=best_trial_callback,
        make_engine=make_engine,
        pools=_pools(study.space, here),
    )
    if is_own_process:
        keep_all()
    with kept_compiled_code(study.database):
        worker.run()


def _pools(space: Space, numerics: Mapping[str, Any]) -> int:
    """Return how many engines have work: in lanes, trials wait for others of equal arguments."""
    alike = space.argument_combinations()
    is_shared = numerics["engine"] == "lanes" and alike < math.inf
    return int(min(alike, _MOST_POOLS)) if is_shared else 1


def _make_engine(
    space: Space,
    task: Task | TrainFunction,
    numerics: Mapping[str, Any],
    group: RankGroup | None,
    arguments: Mapping[str, Any] = MappingProxyType({}),
) -> Engine:
    engine = engine_for(space, task, numerics, arguments)
    return engine if group is None else group.lead(engine, arguments)
