"""What stands for a value in a space: the value itself, or what it may be drawn from.

A template is to a parameter what a space is to a config. Drawing one yields plain data, so a drawn
space is a config, and `Plan.from_tables` reads both.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


class Chooser(Protocol):
    """What draws: an Optuna trial of any kind, or anything else with its three methods."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float: ...

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int: ...

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> Any: ...


class Template(ABC):
    """A value, or what it may be drawn from."""

    @abstractmethod
    def draw(self, chooser: Chooser, name: str) -> Any:
        """Return plain data; `name` is the parameter's full name in the study."""

    @abstractmethod
    def size(self, points: float = math.inf) -> float:
        """Return the number of distinct draws, where a continuous range counts as `points`."""

    @abstractmethod
    def draws(self, name: str, points: int) -> Iterator[Mapping[str, Any]]:
        """Yield every distinct draw as the choices that lead to it, by name.

        A continuous range counts as `points` values, evenly spaced (in the logarithm where `log`).
        """

    @property
    def is_fixed(self) -> bool:
        """Whether there is nothing to choose."""
        return self.size() == 1


@dataclass(frozen=True)
class Fixed(Template):
    """A value that is given."""

    value: Any

    def draw(self, chooser: Chooser, name: str) -> Any:
        return self.value

    def size(self, points: float = math.inf) -> float:
        return 1

    def draws(self, name: str, points: int) -> Iterator[Mapping[str, Any]]:
        yield {}

    def __str__(self) -> str:
        return str(self.value)


@dataclass(frozen=True)
class Range(Template):
    """Numbers from `low` to `high`, both included: floats, whole numbers, or shares in percent.

    `low` is less than `high`, and steps lead exactly from one to the other.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None
    whole: bool = False
    percent: bool = False

    def draw(self, chooser: Chooser, name: str) -> Any:
        if self.whole:
            low, high, step = int(self.low), int(self.high), int(self.step or 1)
            return chooser.suggest_int(name, low, high, step=step, log=self.log)
        value = chooser.suggest_float(name, self.low, self.high, step=self.step, log=self.log)
        return f"{value!r}%" if self.percent else value

    def size(self, points: float = math.inf) -> float:
        step = self.step or (1 if self.whole else None)
        return points if step is None else round((self.high - self.low) / step) + 1

    def draws(self, name: str, points: int) -> Iterator[Mapping[str, Any]]:
        for value in self._values(points):
            yield {name: value}

    def _values(self, points: int) -> list[float]:
        step = self.step or (1 if self.whole else None)
        if step is not None:
            spaced = [self.low + step * i for i in range(int(self.size()))]
            if self.whole:
                return [int(value) for value in spaced]
        else:
            parts = [i / (points - 1) for i in range(points)]
            if self.log:
                spaced = [self.low ** (1 - part) * self.high**part for part in parts]
            else:
                spaced = [self.low + part * (self.high - self.low) for part in parts]
        # Rounding must not carry a value out of the range.
        return [min(max(value, self.low), self.high) for value in spaced]

    def __str__(self) -> str:
        unit = "%" if self.percent else ""
        low, high = f"{self.low:.12g}{unit}", f"{self.high:.12g}{unit}"
        step = f", step {self.step:.12g}{unit}" if self.step else ""
        return f"{low} to {high}{', log' if self.log else ''}{step}"


@dataclass(frozen=True)
class Levels(Template):
    """One of at least two values: samplers see the position, so their order counts."""

    values: tuple[Any, ...]

    def draw(self, chooser: Chooser, name: str) -> Any:
        return self.values[chooser.suggest_int(f"{name}.level", 0, len(self.values) - 1)]

    def size(self, points: float = math.inf) -> float:
        return len(self.values)

    def draws(self, name: str, points: int) -> Iterator[Mapping[str, Any]]:
        for level in range(len(self.values)):
            yield {f"{name}.level": level}

    def __str__(self) -> str:
        return "one of " + ", ".join(map(str, self.values))


@dataclass(frozen=True)
class Several(Template):
    """A list, each item drawn on its own."""

    items: tuple[Template, ...]

    def draw(self, chooser: Chooser, name: str) -> Any:
        return [item.draw(chooser, f"{name}.{i}") for i, item in enumerate(self.items)]

    def size(self, points: float = math.inf) -> float:
        return math.prod(item.size(points) for item in self.items)

    def draws(self, name: str, points: int) -> Iterator[Mapping[str, Any]]:
        return product([item.draws(f"{name}.{i}", points) for i, item in enumerate(self.items)])

    def __str__(self) -> str:
        shown = [str(item) for item in self.items]
        if len(set(shown)) == 1:
            return f"{len(shown)} x ({shown[0]})"
        return "[" + ", ".join(shown) + "]"


@dataclass(frozen=True)
class Parameters(Template):
    """A family's parameters, each with its template."""

    of: Mapping[str, Template]

    def draw(self, chooser: Chooser, name: str) -> dict[str, Any]:
        return {key: item.draw(chooser, f"{name}.{key}") for key, item in self.of.items()}

    def size(self, points: float = math.inf) -> float:
        return math.prod(item.size(points) for item in self.of.values())

    def draws(self, name: str, points: int) -> Iterator[Mapping[str, Any]]:
        return product([item.draws(f"{name}.{key}", points) for key, item in self.of.items()])


@dataclass(frozen=True)
class Families(Template):
    """One of several families, then its parameters."""

    options: Mapping[str, Parameters]

    def draw(self, chooser: Chooser, name: str) -> dict[str, Any]:
        family = self._only or chooser.suggest_categorical(f"{name}.family", list(self.options))
        return {family: self.options[family].draw(chooser, f"{name}.{family}")}

    @property
    def _only(self) -> str | None:
        return next(iter(self.options)) if len(self.options) == 1 else None

    def size(self, points: float = math.inf) -> float:
        return sum(option.size(points) for option in self.options.values())

    def draws(self, name: str, points: int) -> Iterator[Mapping[str, Any]]:
        for family, option in self.options.items():
            chosen = {} if self._only else {f"{name}.family": family}
            for rest in option.draws(f"{name}.{family}", points):
                yield {**chosen, **rest}

    def __str__(self) -> str:
        return "one of " + ", ".join(self.options)


def product(parts: Sequence[Iterator[Mapping[str, Any]]]) -> Iterator[Mapping[str, Any]]:
    """Yield every combination of one item from each part, merged into one mapping."""
    if not parts:
        yield {}
        return
    first, *others = parts
    rest = list(product(others))
    for item in first:
        for other in rest:
            yield {**item, **other}
