"""What a number of trials is planned to be used for: races, and new constants."""

from __future__ import annotations

import math

from schedsearch.race.halving import Halving, fit
from schedsearch.space import Space
from schedsearch.space.shares import trials_in_share


def planned_races(space: Space, trials: int) -> tuple[Halving, Halving] | None:
    """Return the races of the schedules and of the constants; None: there is none."""
    search = space.search
    if search.race is None or not search.race.top:
        return None
    limit = trials_in_share(search.race.share, trials, search.epochs, space.horizon)
    return fit(search.race.top, search.race.rounds, limit)


def planned_constants(space: Space, trials: int) -> int:
    """Return about how many constants so many trials try: a share of those that are no race."""
    runs = sum(sum(race.sizes) for race in planned_races(space, trials) or ())
    return 1 + math.floor(space.search.sampler.constants * (trials - runs))


def trials_for_constants(space: Space, constants: int) -> int | None:
    """Return the least number of trials that try so many constants; None: no number does."""
    share = space.search.sampler.constants
    if not share:
        return None
    trials = max(1, math.floor((constants - 1) / share))
    while (missing := constants - planned_constants(space, trials)) > 0:
        # With more trials a race is no smaller, so at least so many more are needed.
        trials += max(1, math.floor((missing - 1) / share))
    return trials
