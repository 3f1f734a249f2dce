"""Successive halving over seeds: which plans get one more seed. It knows no trials."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Halving:
    """The size of a race.

    In each round the plans that are left get one more seed, and then the worse half drops out.

    Attributes:
        top: the number of plans in the first round.
        rounds: the number of rounds.
    """

    top: int
    rounds: int

    @property
    def sizes(self) -> list[int]:
        """The number of plans in each round.

        >>> Halving(top=16, rounds=4).sizes, Halving(top=5, rounds=4).sizes
        ([16, 8, 4, 2], [5, 3, 2, 1])
        """
        return [math.ceil(self.top / 2**r) for r in range(self.rounds)]

    def next_runs(self, plans: Sequence[Sequence[float]], seeds: int = 1) -> list[int]:
        """Return the plans that get one more run now; none if the race is over.

        The first round is that of the best plans by their runs in the search, but of at most half
        of them. Each later round is that of the better half of the round before, by the mean over
        all runs until then. It begins when all plans of the round before have their run. A plan
        whose run diverged drops out.

        Args:
            plans: the values of each plan's runs, lower is better: first those of the search, then
                one for each round that it was in; infinite if a run diverged.
            seeds: the number of each plan's runs in the search.

        Returns:
            Their indices, best first.
        """
        remaining = list(range(len(plans)))
        size = min(self.top, math.ceil(len(plans) / 2))
        for runs in range(seeds, seeds + self.rounds):
            remaining = _best(remaining, plans, runs)[:size]
            if runs > seeds:
                remaining = [plan for plan in remaining if mean(plans[plan][:runs]) < math.inf]
            if missing := [plan for plan in remaining if len(plans[plan]) <= runs]:
                return missing
            size = math.ceil(size / 2)
        return []

    def most_outstanding(self, plans: Sequence[Sequence[float]], seeds: int = 1) -> int:
        """Return how many runs are missing at most until the race is over.

        Plans that the search may still find count as missing.
        """
        size = min(self.top, math.ceil(len(plans) / 2))
        best = _best(range(len(plans)), plans, seeds)[:size]
        with_run = sum(len(plans[plan]) > seeds for plan in best)
        return sum(self.sizes) - with_run


def _best(chosen: Iterable[int], plans: Sequence[Sequence[float]], runs: int) -> list[int]:
    """Return plans by the mean of their first runs, best first."""
    return sorted(chosen, key=lambda plan: (mean(plans[plan][:runs]), plan))


def fit(most: int, rounds: int, limit: int) -> tuple[Halving, Halving] | None:
    """Return the largest race of schedules and of constants that fits into a number of runs.

    A quarter as many constants as schedules race. A race of n plans has no more rounds than n plans
    need until one is left, and one more.

    Args:
        most: the most schedules.
        rounds: the most rounds.
        limit: the most runs of both races.

    Returns:
        The races; None if not even two schedules fit.
    """
    # The first round of a race has a run of each plan.
    for schedules, constants in _races(min(most, limit), rounds):
        if sum(schedules.sizes) + sum(constants.sizes) <= limit:
            return schedules, constants
    return None


def _races(most: int, rounds: int) -> Iterator[tuple[Halving, Halving]]:
    for top in range(most, 1, -1):
        enough = min(rounds, math.ceil(math.log2(top)) + 1)
        yield Halving(top, enough), Halving(math.ceil(top / 4), enough)


def mean(values: Sequence[float]) -> float:
    """Return the mean; infinite if a value is."""
    return math.fsum(value / len(values) for value in values)
