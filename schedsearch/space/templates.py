"""What stands for a value in a space: the value itself, or what it may be drawn from.

A template is to a parameter what a space is to a config. Drawing one yields plain data, so a drawn
space is a config, and `Plan.from_tables` reads both.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    def at(self, name: str, points: int, index: int) -> dict[str, Any]:
        """Return one of the `size(points)` distinct draws, as the choices that lead to it, by name.

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

    def at(self, name: str, points: int, index: int) -> dict[str, Any]:
        return {}

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

    def at(self, name: str, points: int, index: int) -> dict[str, Any]:
        step = self.step or (1 if self.whole else None)
        part = index / max(1, points - 1)
        if step is not None:
            value = self.low + step * index
        elif self.log:
            value = self.low ** (1 - part) * self.high**part
        else:
            value = self.low + part * (self.high - self.low)
        # Rounding must not carry a value out of the range.
        value = min(max(value, self.low), self.high)
        return {name: int(value) if self.whole else value}

    def __str__(self) -> str:
        unit = "%" if self.percent else ""
        scale = "log" if self.log else "whole numbers" if self.whole else "linear"
        if self.step:
            scale = f"in steps of {self.step:.12g}{unit}"
        return f"{self.low:.12g}{unit} to {self.high:.12g}{unit}, {scale}"


@dataclass(frozen=True)
class Levels(Template):
    """One of at least two values: samplers see the position, so their order counts."""

    values: tuple[Any, ...]

    def draw(self, chooser: Chooser, name: str) -> Any:
        return self.values[chooser.suggest_int(f"{name}.level", 0, len(self.values) - 1)]

    def size(self, points: float = math.inf) -> float:
        return len(self.values)

    def at(self, name: str, points: int, index: int) -> dict[str, Any]:
        return {f"{name}.level": index}

    def __str__(self) -> str:
        return "one of " + ", ".join(map(str, self.values))


@dataclass(frozen=True)
class Several(Template):
    """A list, each item drawn on its own."""

    items: tuple[Template, ...]

    def draw(self, chooser: Chooser, name: str) -> Any:
        return [item.draw(chooser, f"{name}.{i}") for i, item in enumerate(self.items)]

    def size(self, points: float = math.inf) -> float:
        return size_of_all(item.size(points) for item in self.items)

    def at(self, name: str, points: int, index: int) -> dict[str, Any]:
        parts = {f"{name}.{i}": item for i, item in enumerate(self.items)}
        return combination(parts, points, index)

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
        return size_of_all(item.size(points) for item in self.of.values())

    def at(self, name: str, points: int, index: int) -> dict[str, Any]:
        parts = {f"{name}.{key}": item for key, item in self.of.items()}
        return combination(parts, points, index)


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
        sizes = [option.size(points) for option in self.options.values()]
        return math.inf if math.inf in sizes else sum(sizes)

    def at(self, name: str, points: int, index: int) -> dict[str, Any]:
        for family, option in self.options.items():
            size = int(option.size(points))
            if index < size:
                chosen = {} if self._only else {f"{name}.family": family}
                return chosen | option.at(f"{name}.{family}", points, index)
            index -= size
        raise IndexError(name)

    def __str__(self) -> str:
        return "one of " + ", ".join(self.options)


def size_of_all(sizes: Iterable[float]) -> float:
    """Return the number of combinations; whole numbers too large for a float stay exact."""
    counted = list(sizes)
    return math.inf if math.inf in counted else math.prod(counted)


def combination(parts: Mapping[str, Template], points: int, index: int) -> dict[str, Any]:
    """Return one of all combinations of a draw from each part, merged; the last part runs first."""
    chosen: dict[str, Any] = {}
    for name in reversed(list(parts)):
        index, own = divmod(index, int(parts[name].size(points)))
        chosen |= parts[name].at(name, points, own)
    return chosen


def texts_of(template: Template, parameter: str) -> Iterator[str]:
    """Yield what any family below a template may name by a parameter, `to` for instance."""
    match template:
        case Families(options):
            for option in options.values():
                yield from texts_of(option, parameter)
        case Parameters(of):
            for name, item in of.items():
                if name == parameter:
                    yield from _texts(item)
                yield from texts_of(item, parameter)
        case Several(items):
            for item in items:
                yield from texts_of(item, parameter)


def _texts(template: Template) -> Iterator[str]:
    given = template.values if isinstance(template, Levels) else ()
    for value in (template.value,) if isinstance(template, Fixed) else given:
        if isinstance(value, str) and value:
            yield value
