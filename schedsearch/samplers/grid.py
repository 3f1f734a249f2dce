"""Grid search over the tree of families: workers together try every distinct point once."""

from __future__ import annotations

import random
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial

from schedsearch.samplers.independent import IndependentSampler
from schedsearch.space import Space
from schedsearch.storage.attributes import SAMPLE_INDEX


class FamilyGridSampler(IndependentSampler):
    """Assigns point n of a shuffled grid to sample n of a study.

    Optuna's GridSampler gives every trial every parameter, so it would train a schedule repeatedly
    for each value of a parameter of another family.

    Args:
        space: the search space. The grid leaves out the baseline, which is trial 0.
        points: the number of values of a continuous range.
        seed: shuffles the grid, so that a study with fewer trials covers all of it evenly.
    """

    def __init__(self, space: Space, points: int, seed: int) -> None:
        self._space = space
        self._points = points
        self._baseline = space.baseline_parameters()
        self._order = _LazyShuffle(int(space.size(points)), seed)
        self._generated: list[dict[str, Any]] = []

    @property
    def size(self) -> int:
        """The number of points; `len` could not exceed 2**63."""
        return self._order.length - self._contains_baseline()

    def grid_point(self, sample_index: int) -> dict[str, Any]:
        """Return the parameters of a sample, by name."""
        while len(self._generated) <= sample_index:
            point = self._space.grid_point(self._points, self._order.next())
            if point != self._baseline:
                self._generated.append(point)
        return self._generated[sample_index]

    def _contains_baseline(self) -> bool:
        if not self._contains_baseline_arguments():
            return False
        for name, families in self._space.searched().items():
            family_key, constant_key = f"{name}.family", f"{name}.constant"
            constants = families.options["constant"]
            family = {family_key: "constant"} if len(families.options) > 1 else {}
            baseline = {
                key: value
                for key, value in self._baseline.items()
                if key == family_key or key.startswith(f"{constant_key}.")
            }
            points = (
                constants.grid_point(constant_key, self._points, index)
                for index in range(int(constants.size(self._points)))
            )
            if not any(family | point == baseline for point in points):
                return False
        return True

    def _contains_baseline_arguments(self) -> bool:
        baseline = self._space.baseline_arguments()
        for name, domain in self._space.searched_arguments().items():
            points = (
                domain.grid_point(name, self._points, index)
                for index in range(int(domain.size(self._points)))
            )
            if not any(point.items() <= baseline.items() for point in points):
                return False
        return True

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Return the parameter of the trial's grid point."""
        return self.grid_point(trial.user_attrs[SAMPLE_INDEX])[param_name]


class _LazyShuffle:
    """The numbers below a length in random order, in memory proportional to the numbers taken.

    Source: Fisher and Yates 1938; only swapped positions are stored.
    """

    def __init__(self, length: int, seed: int) -> None:
        self.length = length
        self._random = random.Random(seed)
        self._swapped: dict[int, int] = {}
        self._next = 0

    def next(self) -> int:
        """Return the next number."""
        position = self._random.randrange(self._next, self.length)
        number = self._swapped.get(position, position)
        self._swapped[position] = self._swapped.pop(self._next, self._next)
        self._next += 1
        return number
