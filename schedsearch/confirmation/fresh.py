"""Whole trainings in worker processes of this machine: many plans, many seeds, no study."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Mapping, MutableSequence, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from schedsearch.confirmation.runs import Job, Outcome, Recipe, StoppedError
from schedsearch.confirmation.trainer import Shared, set_up, train
from schedsearch.errors import SchedSearchError

#: Seconds between two looks for a request to stop.
_LOOK = 0.2

_Futures = Mapping[Future[list[Outcome]], int]


def train_all(
    recipe: Recipe,
    jobs: Sequence[Job],
    *,
    workers: int,
    ended: Callable[[Mapping[int, Outcome]], None],
    trained: Callable[[int], None],
    should_stop: Callable[[], bool],
) -> None:
    """Train every job in full, in processes of their own.

    A KeyboardInterrupt ends the processes at once.

    Args:
        recipe: what the jobs have in common.
        jobs: what to train.
        workers: how many processes.
        ended: told the outcomes of jobs that have ended, by their places, at once.
        trained: told now and then how many epochs all jobs together have behind them; a job that
            diverged counts in full.
        should_stop: asked now and then; the processes then end after their epoch.

    Raises:
        StoppedError: asked to stop.
        SchedSearchError: the task's own code raised, or a process was killed.
    """
    if not jobs:
        return
    context = multiprocessing.get_context("spawn")
    starts = range(0, len(jobs), recipe.lanes)
    # Without a lock, which a process that is killed would never give back.
    epochs: MutableSequence[int] = context.Array("Q", len(starts), lock=False)
    stop = context.Event()
    with ProcessPoolExecutor(
        min(workers, len(starts)),
        mp_context=context,
        initializer=set_up,
        initargs=(recipe, Shared(stop, epochs)),
    ) as pool:
        try:
            with _blocked(signal.SIGINT):
                futures = {
                    pool.submit(train, batch, jobs[start : start + recipe.lanes]): start
                    for batch, start in enumerate(starts)
                }
            try:
                _wait(futures, ended, lambda: trained(sum(epochs)), should_stop)
            except Exception:
                stop.set()
                pool.shutdown(cancel_futures=True)
                raise
        except BrokenProcessPool:
            raise SchedSearchError(
                "a worker process was killed: is there memory enough for all of them? "
                "Fewer --workers need less"
            ) from None
        except KeyboardInterrupt:
            for child in multiprocessing.active_children():
                child.kill()
            raise


def _wait(
    futures: _Futures,
    ended: Callable[[Mapping[int, Outcome]], None],
    look: Callable[[], None],
    should_stop: Callable[[], bool],
) -> None:
    waiting = set(futures)
    while waiting:
        done, waiting = wait(waiting, timeout=_LOOK, return_when=FIRST_COMPLETED)
        # Those that failed come last, so that nothing that ended beside them is lost.
        for future in sorted(done, key=lambda future: future.exception() is not None):
            ended(dict(enumerate(future.result(), start=futures[future])))
        look()
        if waiting and should_stop():
            raise StoppedError("stopped before all runs were done")


@contextmanager
def _blocked(number: signal.Signals) -> Iterator[None]:
    """Hold a signal back; processes started meanwhile never see it, so Ctrl-C is ours alone."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
