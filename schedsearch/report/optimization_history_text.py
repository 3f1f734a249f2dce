"""The course of a search in the terminal: the best so far beside the best constant so far."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from schedsearch.report.braille import plot, side_by_side
from schedsearch.report.optimization_history import (
    FinishedTrial,
    improvements,
    optimization_history,
)
from schedsearch.space import Space
from schedsearch.storage import StudyHandle

_SIZE = (58, 8)


def optimization_history_lines(study: StudyHandle, width: int) -> Iterator[str]:
    """Yield plots of the best value over the trials that ended: of all, and of constants alone."""
    space = study.space
    ends = optimization_history(space, study.trials())
    series = {
        "best so far": _best_so_far(space, ends, ends),
        "best constant so far": _best_so_far(space, ends, [end for end in ends if end.constant]),
    }
    known = [value for values in series.values() for value in values]
    if not known:
        yield "no trial is complete yet: there is nothing to draw"
        return
    low, high = min(known), max(known)
    log = low > 0 and high > 10 * low
    scale = ", log scale" if log else ""
    plots = [
        plot(
            f"  {space.objective.metric}, {name}{scale}",
            [values],
            _SIZE,
            low,
            high,
            log=log,
            unit="trial",
        )
        for name, values in series.items()
        if values
    ]
    yield from side_by_side(plots, width)


def _best_so_far(
    space: Space, ends: Sequence[FinishedTrial], chosen: Sequence[FinishedTrial]
) -> list[float]:
    """Return the best of the chosen after each trial that ended, from the first of them on."""
    best = iter(improvements(chosen, space.objective))
    following = next(best, None)
    values: list[float] = []
    for end in ends:
        if following is not None and end.ended == following.ended:
            assert following.value is not None
            values.append(following.value)
            following = next(best, None)
        elif values:
            values.append(values[-1])
    return values
