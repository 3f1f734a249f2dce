"""Runs trained side by side: an epoch of all of them, or each to its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from schedsearch.engines import Engine, EpochResult
from schedsearch.errors import SchedSearchError, summarize_exception
from schedsearch.run import Run
from schedsearch.space import Space

Results = dict[Run, EpochResult | Exception]


def train_epoch(runs: Iterable[Run]) -> Results:
    """Train runs for one epoch with the values in force, all lanes of an engine at once.

    Where several lanes raise one error together, only those that raise by themselves keep it.
    """
    by_engine: dict[Engine, list[Run]] = {}
    for run in runs:
        by_engine.setdefault(run.engine, []).append(run)
    results: Results = {}
    for engine, together in by_engine.items():
        results |= _train_together(engine, together)
        raised = [run for run in together if isinstance(results[run], Exception)]
        if len(raised) > 1 and len({id(results[run]) for run in raised}) == 1:
            results |= _train_apart(engine, raised)
    return results


def _train_together(engine: Engine, runs: Iterable[Run]) -> Results:
    lanes = {run.lane: run for run in runs}
    values = [lanes[lane].lane_values if lane in lanes else None for lane in range(engine.lanes)]
    found = engine.train_epoch(values)
    return {lanes[lane]: result for lane, result in enumerate(found) if result is not None}


def _train_apart(engine: Engine, runs: Iterable[Run]) -> Results:
    """Take runs back to where they stood before an epoch was cut off, and train it one by one."""
    results: Results = {}
    goals = {run: run.lane_epoch for run in runs}
    for run in goals:
        try:
            run.restart_from_checkpoint()
        except Exception as error:
            results[run] = error
    while behind := [run for run in goals if run not in results and run.lane_epoch < goals[run]]:
        for run, result in _train_together(engine, behind).items():
            if isinstance(result, Exception):
                results[run] = result
            else:
                run.record_epoch(result)
    for run in goals.keys() - results.keys():
        results |= _train_together(engine, [run])
    return results


def train_to_end(runs: Sequence[Run], on_epoch: Callable[[float, int], None] | None = None) -> None:
    """Train runs side by side, each in the lane of its place, to the horizon or to divergence.

    What is known is not trained again. A run that ends well stands in its lane at its end.
    `each_epoch` is told how many seconds an epoch took, of how many runs.

    Raises:
        SchedSearchError: the user's own code raised.
    """
    for lane, run in enumerate(runs):
        while run.replay_epoch():
            pass
        with wrap_user_errors(run.space, run.seed):
            run.enter_lane(lane)
    while training := [run for run in runs if run.is_catching_up or not run.ended]:
        began = time.monotonic()
        results = train_epoch(training)
        seconds = time.monotonic() - began
        for run, result in results.items():
            with wrap_user_errors(run.space, run.seed):
                if isinstance(result, Exception):
                    raise result
            run.record_epoch(result)
        if on_epoch is not None:
            on_epoch(seconds, len(results))


@contextmanager
def wrap_user_errors(space: Space, seed: int) -> Iterator[None]:
    """Make one line, with the task and the run's seed, of what the user's own code raises."""
    try:
        yield
    except SchedSearchError:
        raise
    except Exception as error:
        raise SchedSearchError(
            f"{space.task} raised {summarize_exception(error)} (seed {seed})"
        ) from error


def search_seeds(space: Space) -> range:
    """Return the seeds of a trial's runs: the same for every trial, so that all meet one noise."""
    first = space.search.seed
    return range(first, first + space.search.seeds)


def fresh_seeds(space: Space, number: int) -> range:
    """Return seeds that no trial of the study has met."""
    first = space.search.seed + 1_000_000
    return range(first, first + number)
