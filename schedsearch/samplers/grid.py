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
        space: the space; a continuous range counts as `points` values. The baseline, which is
            trial 0, is left out of the grid.
        points: how many values stand for a continuous range.
        seed: shuffles the grid, so that a study shorter than the grid is spread over it.
    """

    def __init__(self, space: Space, points: int, seed: int) -> None:
        self._space = space
        self._points = points
        self._baseline = space.baseline_parameters()
        self._order = _Permutation(int(space.size(points)), seed)
        self._drawn: list[dict[str, Any]] = []

    @property
    def size(self) -> int:
        """The number of points; no `len`, since that ends at 2**63."""
        return self._order.length - self._holds_baseline()

    def point(self, draw: int) -> dict[str, Any]:
        """Return the parameters that a draw stands for, by name."""
        while len(self._drawn) <= draw:
            point = self._space.at(self._points, self._order.next())
            if point != self._baseline:
                self._drawn.append(point)
        return self._drawn[draw]

    def _holds_baseline(self) -> bool:
        for name, families in self._space.searched().items():
            choice, constant = f"{name}.family", f"{name}.constant"
            template = families.options["constant"]
            chosen = {choice: "constant"} if len(families.options) > 1 else {}
            own = {
                key: value
                for key, value in self._baseline.items()
                if key == choice or key.startswith(f"{constant}.")
            }
            draws = range(int(template.size(self._points)))
            if not any(chosen | template.at(constant, self._points, i) == own for i in draws):
                return False
        return True

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
        return self.point(trial.user_attrs["draw"])[param_name]


class _Permutation:
    """The numbers below a length in random order, one by one: memory for those drawn alone.

    Source: Fisher and Yates 1938, with only the swapped places kept.
    """

    def __init__(self, length: int, seed: int) -> None:
        self.length = length
        self._random = random.Random(seed)
        self._swapped: dict[int, int] = {}
        self._next = 0

    def next(self) -> int:
        """Return the next number."""
        place = self._random.randrange(self._next, self.length)
        number = self._swapped.get(place, place)
        self._swapped[place] = self._swapped.pop(self._next, self._next)
        self._next += 1
        return number
