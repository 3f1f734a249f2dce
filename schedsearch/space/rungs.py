"""The epochs after which successive halving decides."""

from __future__ import annotations

from collections.abc import Iterator

from schedsearch.schedules.durations import to_epochs
from schedsearch.space.space import Space


def rungs(space: Space) -> tuple[int, ...]:
    """Return the epochs below the horizon at which asha and hyperband decide, in order.

    They are those of `search.pruner.rungs`, or without it the geometric ones.
    """
    pruner, horizon = space.search.pruner, space.horizon
    if pruner.rungs is None or pruner.name != "asha":
        return tuple(geometric_rungs(pruner.min_epochs, pruner.reduction_factor, horizon))
    given = {max(1, to_epochs(rung, horizon, space.schedule_version)) for rung in pruner.rungs}
    return tuple(sorted(rung for rung in given if rung < horizon))


def geometric_rungs(min_epochs: int, reduction_factor: int, horizon: int) -> Iterator[int]:
    """Yield the rungs below the horizon.

    rung_k = min_epochs * reduction_factor^k

    >>> list(geometric_rungs(5, 3, 60))
    [5, 15, 45]
    """
    rung = min_epochs
    while rung < horizon:
        yield rung
        rung *= reduction_factor
