"""Suggestions near the parameters of a known plan."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from schedsearch.space.suggesters import RandomSuggester

#: The probability that a variant draws a parameter again, and that it moves a number it keeps.
_REDRAW, _MOVE = 0.15, 0.5
#: The standard deviation of such a move, as a share of the range.
_STEP = 0.15


class VariantSuggester:
    """Suggests random values, or for a variant mostly those of its parent, and records them.

    Args:
        random: suggests the values that are drawn.
        fixed: choices that are never drawn.
    """

    def __init__(self, random: RandomSuggester, fixed: Mapping[str, Any]) -> None:
        self.random, self.fixed = random, fixed
        self.parameters: dict[str, Any] = {}
        self._parent: Mapping[str, Any] = {}

    def begin(self, parent: Mapping[str, Any]) -> None:
        """Begin another plan: a variant of one with these parameters; random if there are none."""
        self.parameters, self._parent = {}, parent

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        value = self._near(name, low, high, step=step, log=log)
        if value is None:
            value = self.random.suggest_float(name, low, high, step=step, log=log)
        self.parameters[name] = value
        return value

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        near = self._near(name, low, high, step=step, log=log)
        if near is None:
            value = self.random.suggest_int(name, low, high, step=step, log=log)
        else:
            value = round(near)
        self.parameters[name] = value
        return value

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        if name in self.fixed:
            value = self.fixed[name]
        elif self._keeps(name) and self._parent[name] in choices:
            value = self._parent[name]
        else:
            value = self.random.suggest_categorical(name, choices)
        self.parameters[name] = value
        return value

    def _keeps(self, name: str) -> bool:
        return name in self._parent and self.random.share() >= _REDRAW

    def _near(
        self, name: str, low: float, high: float, *, step: float | None, log: bool
    ) -> float | None:
        """Return a number at or near that of the parent; None: draw it at random."""
        if not self._keeps(name):
            return None
        value = float(min(high, max(low, self._parent[name])))
        if self.random.share() < _MOVE:
            move = self.random.normal() * _STEP
            moved = value * (high / low) ** move if log else value + move * (high - low)
            value = min(high, max(low, moved))
        if step is None:
            return value
        steps = math.floor((high - low) / step + 1e-9)
        return min(high, low + step * min(steps, round((value - low) / step)))
