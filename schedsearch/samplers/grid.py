"""Grid search over the family tree: every distinct point once, however many workers share it."""

from __future__ import annotations

import random
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from schedsearch.space import Space


class FamilyGridSampler(BaseSampler):
    """Gives the n-th draw of a study the n-th point of a shuffled grid.

    Optuna's own grid needs every trial to have every parameter, so it trains one schedule many
    times when a parameter belongs to a family that was not chosen.

    Args:
        space: the space; a continuous range counts as `points` values.
        points: how many values stand for a continuous range.
        seed: shuffles the grid, so that a study shorter than the grid is spread over it.
    """

    def __init__(self, space: Space, points: int, seed: int) -> None:
        baseline = space.baseline_parameters()
        self._points = [point for point in space.draws(points) if point != baseline]
        random.Random(seed).shuffle(self._points)

    def __len__(self) -> int:
        return len(self._points)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return nothing: every parameter is looked up by itself."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return nothing: every parameter is looked up by itself."""
        return {}

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Look the parameter up in the point that the trial's draw stands for."""
        return self._points[trial.user_attrs["draw"]][param_name]
