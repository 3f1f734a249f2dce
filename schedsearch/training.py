"""Training runs side by side: one epoch of all of them, or all epochs of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from schedsearch.engines import Engine, EpochResult, Resumed
from schedsearch.errors import SchedSearchError, summarize_exception
from schedsearch.run import Run
from schedsearch.space import Space

Results = dict[Run, EpochResult | Resumed | Exception]


def train_epoch(runs: Iterable[Run]) -> Results:
    """Train runs for one epoch with their scheduled values, all lanes of an engine at once.

    If several lanes raise an error in their common step, they are trained again one by one, and
    only the runs that raise when trained alone have the error as their result.
    """
    by_engine: dict[Engine, list[Run]] = {}
    for run in runs:
        by_engine.setdefault(run.engine, []).append(run)
    results: Results = {}
    for engine, group in by_engine.items():
        results |= _train_together(engine, group)
        raised = [run for run in group if isinstance(results[run], Exception)]
        if len(raised) > 1 and len({id(results[run]) for run in raised}) == 1:
            results |= _train_one_by_one(engine, raised)
    return results


def _train_together(engine: Engine, runs: Iterable[Run]) -> Results:
    lanes = {run.lane: run for run in runs}
    values = [lanes[lane].lane_values if lane in lanes else None for lane in range(engine.lanes)]
    found = engine.train_epoch(values)
    return {lanes[lane]: result for lane, result in enumerate(found) if result is not None}


def _train_one_by_one(engine: Engine, runs: Iterable[Run]) -> Results:
    """Restart runs from their checkpoints, up to the failed epoch, and train that one by one."""
    results: Results = {}
    targets = {run: run.lane_epoch for run in runs}
    for run in targets:
        try:
            run.restart_from_checkpoint()
        except Exception as error:
            results[run] = error
    while unfinished := [
        run for run in targets if run not in results and run.lane_epoch < targets[run]
    ]:
        for run, result in _train_together(engine, unfinished).items():
            if isinstance(result, Exception):
                results[run] = result
            else:
                run.record_epoch(result)
    for run in targets.keys() - results.keys():
        results |= _train_together(engine, [run])
    return results


def train_to_end(runs: Sequence[Run], on_epoch: Callable[[float, int], None] | None = None) -> None:
    """Train runs side by side to the horizon, or until they diverge.

    Cached epochs are not trained again. At the end each run is in its lane.

    Args:
        runs: the first one trains in lane 0, and so on.
        on_epoch: called after each epoch with its seconds and its number of runs.

    Raises:
        SchedSearchError: the user's code raised.
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
            while run.is_behind_lane:
                run.replay_epoch()
        if on_epoch is not None:
            on_epoch(seconds, len(results))


@contextmanager
def wrap_user_errors(space: Space, seed: int) -> Iterator[None]:
    """Convert an exception of the user's code to one line with the task and the seed of the run."""
    try:
        yield
    except SchedSearchError:
        raise
    except Exception as error:
        raise SchedSearchError(
            f"{space.task} raised {summarize_exception(error)} (seed {seed})"
        ) from error


def search_seeds(space: Space) -> range:
    """Return the seeds of a trial's runs: the same for all trials, so that they can be compared."""
    first = space.search.seed
    return range(first, first + space.search.seeds)


def fresh_seeds(space: Space, number: int) -> range:
    """Return seeds that no trial of the study uses."""
    first = space.search.seed + 1_000_000
    return range(first, first + number)
