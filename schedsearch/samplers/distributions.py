"""The Optuna distributions of a space, without sampling from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)


class DistributionCollector:
    """A suggester that records the distribution of each parameter.

    Args:
        families: the family to choose, by the name of the parameter that chooses it; these
            parameters are not recorded.
    """

    def __init__(self, families: Mapping[str, str]) -> None:
        self._families = families
        self.distributions: dict[str, BaseDistribution] = {}

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        self.distributions[name] = FloatDistribution(low, high, step=step, log=log)
        return low

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        self.distributions[name] = IntDistribution(low, high, step=step, log=log)
        return low

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        if name in self._families:
            return self._families[name]
        self.distributions[name] = CategoricalDistribution(choices)
        return choices[0]
