"""A process that trains the runs of a confirmation, a batch of them side by side."""

from __future__ import annotations

import math
import multiprocessing
import os
import threading
import time
from collections.abc import Mapping, MutableSequence, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from schedsearch.confirmation.runs import Job, Outcome, Recipe, StoppedError, metric_on_test
from schedsearch.errors import SchedSearchError

if TYPE_CHECKING:
    from schedsearch.run import Run
    from schedsearch.space import Space
    from schedsearch.trajectories.cached_runs import CachedRuns


class _Event(Protocol):
    def is_set(self) -> bool: ...


@dataclass(frozen=True)
class Shared:
    """What the processes share with the one that began them.

    Attributes:
        stop: asks to end after the epoch.
        epochs: how many epochs of its runs each batch has behind it; it alone writes its place.
            A run that diverged counts in full.
    """

    stop: _Event
    epochs: MutableSequence[int]


class _Trainer:
    """One engine, used for one batch of jobs after the other."""

    def __init__(self, recipe: Recipe, shared: Shared) -> None:
        from schedsearch.engines import closest_numerics, make_engine
        from schedsearch.engines.precision import start_torch_threads
        from schedsearch.space import Space
        from schedsearch.task import load_task

        start_torch_threads(recipe.numerics["threads"])
        numerics = closest_numerics(recipe.numerics)
        self._space = Space.from_document(recipe.space, "the study's space")
        task = load_task(self._space.task, self._space.document.arguments)
        self._engine = make_engine(task, horizon=self._space.horizon, numerics=numerics)
        self._known = _known_runs(recipe, self._space, numerics)
        self._shared = shared

    def train(self, batch: int, jobs: Sequence[Job]) -> list[Outcome]:
        from schedsearch.training import train_to_end

        began = time.monotonic()
        runs = [self._run(job) for job in jobs]

        def on_epoch(seconds: float, count: int) -> None:
            self._known.record_epoch_time(seconds, count)
            self._known.flush()
            horizon = self._space.horizon
            self._shared.epochs[batch] = sum(horizon if run.ended else run.epochs for run in runs)
            if self._shared.stop.is_set():
                raise StoppedError("asked to stop")

        try:
            train_to_end(runs, on_epoch)
            self._shared.epochs[batch] = len(runs) * self._space.horizon
            return [self._outcome(run, time.monotonic() - began) for run in runs]
        finally:
            for run in runs:
                run.leave_lane()
                self._known.end(run)
            self._known.flush()

    def _run(self, job: Job) -> Run:
        from schedsearch.plan import Plan

        plan = Plan.from_tables(job.plan)
        return self._known.begin(self._engine, plan, job.seed, keep_best=True)

    def _outcome(self, run: Run, seconds: float) -> Outcome:
        from schedsearch.training import wrap_user_errors

        objective = self._space.objective
        epochs = tuple(run.history.objective(objective.metric))
        if math.isnan(run.metric):
            return Outcome(math.nan, math.nan, epochs, seconds)
        with wrap_user_errors(self._space, run.seed):
            tested = run.test().get(metric_on_test(objective.metric))
        if tested is not None and not math.isfinite(tested):
            return Outcome(math.nan, math.nan, epochs, seconds)
        return Outcome(run.value, tested, epochs, seconds)


def _known_runs(recipe: Recipe, space: Space, numerics: Mapping[str, Any]) -> CachedRuns:
    from schedsearch.storage import open_database
    from schedsearch.trajectories import open_store
    from schedsearch.trajectories.cached_runs import CachedRuns

    # What is lost of it is trained again, and there is nobody here to tell.
    store = None
    if recipe.storage is not None:
        store = open_store(open_database(recipe.storage), lambda message: None)
    return CachedRuns(store, space=space, fingerprint=recipe.fingerprint, numerics=numerics)


_trainer: _Trainer | None = None
_given: tuple[Recipe, Shared] | None = None


def set_up(recipe: Recipe, shared: Shared) -> None:
    """Prepare this process, which ends with the one that began it."""
    global _given
    _given = (recipe, shared)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def train(batch: int, jobs: Sequence[Job]) -> list[Outcome]:
    """Train the jobs of a batch, by its place among all, to their ends."""
    global _trainer
    try:
        if _trainer is None:
            assert _given is not None
            _trainer = _Trainer(*_given)
        return _trainer.train(batch, jobs)
    except SchedSearchError as error:
        # An error of several arguments would not survive the way to the parent process.
        raise SchedSearchError(str(error)) from None
