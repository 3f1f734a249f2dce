"""Suggesters that need no study: random values, and given values."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any


class RandomSuggester:
    """Suggests uniformly random values, log-uniform where `log`."""

    def __init__(self, seed: int | str) -> None:
        self._random = random.Random(seed)

    def share(self) -> float:
        """Return a number uniform in [0, 1)."""
        return self._random.random()

    def normal(self) -> float:
        """Return a number of the standard normal distribution."""
        return self._random.gauss(0, 1)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        if step is not None:
            steps = math.floor((high - low) / step + 1e-9)
            return min(high, low + step * self._random.randint(0, steps))
        if log:
            return min(
                high, max(low, math.exp(self._random.uniform(math.log(low), math.log(high))))
            )
        return self._random.uniform(low, high)

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        if log:
            value = math.exp(self._random.uniform(math.log(low - 0.5), math.log(high + 0.5)))
            return min(high, max(low, round(value)))
        return low + step * self._random.randint(0, (high - low) // step)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._random.choice(choices)


class FixedSuggester:
    """Suggests the values of a mapping by parameter name; raises KeyError if a name is missing."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return float(self._values[name])

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        return int(self._values[name])

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._values[name]
