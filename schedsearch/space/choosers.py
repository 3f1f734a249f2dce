"""Choosers that need no study: a random one, and one that is told what to choose."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any


class RandomChooser:
    """Draws every parameter uniformly, in the logarithm where asked."""

    def __init__(self, seed: int | str) -> None:
        self._random = random.Random(seed)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        if step is not None:
            return low + step * self._random.randint(0, math.floor((high - low) / step + 1e-9))
        if log:
            return min(
                high, max(low, math.exp(self._random.uniform(math.log(low), math.log(high))))
            )
        return self._random.uniform(low, high)

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        if log:
            drawn = math.exp(self._random.uniform(math.log(low - 0.5), math.log(high + 0.5)))
            return min(high, max(low, round(drawn)))
        return low + step * self._random.randint(0, (high - low) // step)

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> Any:
        return self._random.choice(choices)


class FixedChooser:
    """Chooses what a mapping from parameter names says; raises KeyError where it says nothing."""

    def __init__(self, chosen: Mapping[str, Any]) -> None:
        self._chosen = chosen

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return float(self._chosen[name])

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        return int(self._chosen[name])

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> Any:
        return self._chosen[name]
