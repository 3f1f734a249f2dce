"""The optimization history in the terminal: the best value so far, and the best constant's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from schedsearch.report.braille import plot, side_by_side
from schedsearch.report.optimization_history import (
    FinishedTrial,
    best_so_far_words,
    improvements,
    optimization_history,
)
from schedsearch.storage import StudyHandle

_SIZE = (58, 8)
#: The vertical axis is that of the later values: the first ones are often so much worse that
#: nothing else could be told apart. This share of each curve is not considered.
_FIRST = 0.1


def optimization_history_lines(study: StudyHandle, width: int) -> Iterator[str]:
    """Yield plots of the best value over the trials that ended: of all trials, and of constants."""
    space = study.space
    history = optimization_history(space, study.rows())
    improving = improvements(history)
    series = {
        best_so_far_words(improving, space.objective): _best_so_far(history, improving),
        "best constant so far": _best_so_far(history, improvements(history, constants=True)),
    }
    found = [v for values in series.values() if (v := [x for x in values if not math.isnan(x)])]
    if not found:
        yield "no trial is complete yet: there is nothing to draw"
        return
    every = [value for values in found for value in values]
    later = [value for values in found for value in values[int(_FIRST * len(values)) :]]
    drawn = later if min(later) < max(later) else every
    low, high = min(drawn), max(drawn)
    log = low > 0 and high > 10 * low
    scale = ", log scale" if log else ""
    if not low <= min(every) <= max(every) <= high:
        scale += ", first values cut"
    plots = [
        plot(
            f"  {space.objective.metric}, {name}{scale}",
            [values],
            _SIZE,
            low,
            high,
            scale=math.log if log else float,
            unit="trials ended:",
        )
        for name, values in series.items()
        if not all(map(math.isnan, values))
    ]
    yield from side_by_side(plots, width)


def _best_so_far(
    history: Sequence[FinishedTrial], improving: Sequence[FinishedTrial]
) -> list[float]:
    """Return the value of the best plan by the number of trials that ended; at first NaN."""
    best = iter(improving)
    following = next(best, None)
    values = [math.nan]
    for trial in history:
        value = values[-1]
        if following is not None and trial.position == following.position:
            assert following.value is not None
            value = following.value
            following = next(best, None)
        values.append(value)
    return values
