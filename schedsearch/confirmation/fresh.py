"""Whole trainings in worker processes of this machine: many plans, many seeds, no study."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from schedsearch.errors import SchedSearchError

if TYPE_CHECKING:
    from schedsearch.run import Run
    from schedsearch.space import Space
    from schedsearch.worker.known import KnownRuns

#: Seconds between two looks for a request to stop.
_LOOK = 0.2


@dataclass(frozen=True)
class Recipe:
    """What all trainings have in common, as plain data that a new process can be given."""

    space: Mapping[str, Any]
    numerics: Mapping[str, Any]
    fingerprint: str
    #: A database of trajectories; None: every run trains every epoch, and nothing of it is kept.
    storage: str | None

    @property
    def lanes(self) -> int:
        """How many jobs a process trains side by side."""
        return int(self.numerics["lanes"])


@dataclass(frozen=True)
class Job:
    """One training: a plan as a config's tables, and a seed."""

    plan: Mapping[str, Any]
    seed: int


@dataclass(frozen=True)
class Outcome:
    """What a training gave; both metrics are NaN if it diverged.

    Attributes:
        validation: the objective's value.
        test: the objective's metric on the test split; None if the task gives none.
        epochs: the objective's metric by epoch.
        seconds: how long the runs took that trained side by side with it.
    """

    validation: float
    test: float | None
    epochs: tuple[float, ...] = field(default=(), compare=False)
    seconds: float = field(default=0.0, compare=False)


class StoppedError(SchedSearchError):
    """The trainings were asked to stop before all were done."""


class _Event(Protocol):
    def is_set(self) -> bool: ...


def train_all(
    recipe: Recipe,
    jobs: Sequence[Job],
    *,
    workers: int,
    ended: Callable[[Mapping[int, Outcome]], None],
    should_stop: Callable[[], bool],
) -> None:
    """Train every job in full, in processes of their own.

    Args:
        recipe: what the jobs have in common.
        jobs: what to train.
        workers: how many processes.
        ended: told the outcomes of jobs that have ended, by their places, at once.
        should_stop: asked now and then; the processes then end after their epoch.

    Raises:
        StoppedError: asked to stop.
        SchedSearchError: the task's own code raised, or a process was killed.
    """
    if not jobs:
        return
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    batches = {i: jobs[i : i + recipe.lanes] for i in range(0, len(jobs), recipe.lanes)}
    with ProcessPoolExecutor(
        min(workers, len(batches)), mp_context=context, initializer=_set_up, initargs=(recipe, stop)
    ) as pool:
        try:
            with _blocked(signal.SIGINT):
                futures = {pool.submit(_train, batch): i for i, batch in batches.items()}
            _wait(futures, ended, should_stop)
        except BrokenProcessPool:
            raise SchedSearchError(
                "a worker process was killed: is there memory enough for all of them? "
                "Fewer --workers need less"
            ) from None
        except BaseException:
            stop.set()
            _shut_down(pool)
            raise


def _wait(
    futures: Mapping[Future[list[Outcome]], int],
    ended: Callable[[Mapping[int, Outcome]], None],
    should_stop: Callable[[], bool],
) -> None:
    waiting = set(futures)
    while waiting:
        done, waiting = wait(waiting, timeout=_LOOK, return_when=FIRST_COMPLETED)
        # Those that failed come last, so that nothing that ended beside them is lost.
        for future in sorted(done, key=lambda future: future.exception() is not None):
            ended(dict(enumerate(future.result(), start=futures[future])))
        if waiting and should_stop():
            raise StoppedError("stopped before all runs were done")


def _shut_down(pool: ProcessPoolExecutor) -> None:
    """Let the processes end; a second Ctrl-C while they do ends them at once."""
    try:
        pool.shutdown(cancel_futures=True)
    except KeyboardInterrupt:
        for child in multiprocessing.active_children():
            child.kill()
        raise


@contextmanager
def _blocked(number: signal.Signals) -> Iterator[None]:
    """Hold a signal back; processes started meanwhile never see it, so Ctrl-C is ours alone."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# --- in the worker process -----------------------------------------------------------------------


class _Trainer:
    """One engine, used for one batch of jobs after the other."""

    def __init__(self, recipe: Recipe, stop: _Event) -> None:
        from schedsearch.engines import make_engine, numerics_like
        from schedsearch.engines.arithmetic import begin_threads
        from schedsearch.space import Space
        from schedsearch.task import load_task

        begin_threads(recipe.numerics["threads"])
        numerics = numerics_like(recipe.numerics)

        self._space = Space.from_document(recipe.space, "the study's space")
        task = load_task(self._space.task, self._space.document.arguments)
        self._engine = make_engine(task, horizon=self._space.horizon, numerics=numerics)
        self._known = _known_runs(recipe, self._space, numerics)
        self._stop = stop

    def train(self, jobs: Sequence[Job]) -> list[Outcome]:
        from schedsearch.training import train_whole

        began = time.monotonic()
        runs = [self._run(job) for job in jobs]
        try:
            train_whole(runs, self._check)
            return [self._outcome(run, time.monotonic() - began) for run in runs]
        finally:
            for run in runs:
                run.leave()
                self._known.end(run)
            self._known.flush()

    def _run(self, job: Job) -> Run:
        from schedsearch.plan import Plan

        plan = Plan.from_tables(job.plan)
        return self._known.begin(self._engine, plan, job.seed, keep_best=True)

    def _outcome(self, run: Run, seconds: float) -> Outcome:
        from schedsearch.training import user_code

        objective = self._space.objective
        epochs = tuple(run.history.objective(objective.metric))
        if math.isnan(run.metric):
            return Outcome(math.nan, math.nan, epochs, seconds)
        with user_code(self._space, run.seed):
            tested = run.test().get(metric_on_test(objective.metric))
        if tested is not None and not math.isfinite(tested):
            return Outcome(math.nan, math.nan, epochs, seconds)
        return Outcome(run.value, tested, epochs, seconds)

    def _check(self, seconds: float, runs: int) -> None:
        self._known.weigh(seconds, runs)
        self._known.flush()
        if self._stop.is_set():
            raise StoppedError("asked to stop")


def _known_runs(recipe: Recipe, space: Space, numerics: Mapping[str, Any]) -> KnownRuns:
    from schedsearch.storage import open_database
    from schedsearch.trajectories import open_store
    from schedsearch.worker.known import KnownRuns

    # What is lost of it is trained again, and there is nobody here to tell.
    store = open_store(open_database(recipe.storage), _silent) if recipe.storage else None
    return KnownRuns(store, space=space, fingerprint=recipe.fingerprint, numerics=numerics)


def _silent(message: str) -> None:
    pass


def metric_on_test(metric: str) -> str:
    """Return the name under which a validation metric is measured on the test split.

    >>> metric_on_test("val_error"), metric_on_test("loss")
    ('test_error', 'test_loss')
    """
    return f"test_{metric.removeprefix('val_')}"


_trainer: _Trainer | None = None
_given: tuple[Recipe, _Event] | None = None


def _set_up(recipe: Recipe, stop: _Event) -> None:
    global _given
    _given = (recipe, stop)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _train(jobs: Sequence[Job]) -> list[Outcome]:
    global _trainer
    try:
        if _trainer is None:
            assert _given is not None
            _trainer = _Trainer(*_given)
        return _trainer.train(jobs)
    except SchedSearchError as error:
        # An error of several arguments would not survive the way to the parent process.
        raise SchedSearchError(str(error)) from None
