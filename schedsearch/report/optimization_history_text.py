"""The optimization history in the terminal: the best value so far, and the best constant's."""

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
    """Yield plots of the best value over the trials that ended: of all trials, and of constants."""
    space = study.space
    history = optimization_history(space, study.trials())
    constants = [trial for trial in history if trial.is_constant]
    series = {
        "best so far": _best_so_far(space, history, history),
        "best constant so far": _best_so_far(space, history, constants),
    }
    drawn = [value for values in series.values() for value in values]
    if not drawn:
        yield "no trial is complete yet: there is nothing to draw"
        return
    low, high = min(drawn), max(drawn)
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
    space: Space, history: Sequence[FinishedTrial], chosen: Sequence[FinishedTrial]
) -> list[float]:
    """Return the best value of the chosen trials after each trial, from the first chosen one on."""
    best = iter(improvements(chosen, space.objective))
    following = next(best, None)
    values: list[float] = []
    for trial in history:
        if following is not None and trial.position == following.position:
            assert following.value is not None
            values.append(following.value)
            following = next(best, None)
        elif values:
            values.append(values[-1])
    return values
