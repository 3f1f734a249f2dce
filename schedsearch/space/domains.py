"""The domain of each value in a space: one fixed value, or the values that the search may choose.

A domain is to a parameter what a space is to a config. Suggesting from one gives plain data, so a
suggested space is a config, and `Plan.from_tables` reads both.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


class Suggester(Protocol):
    """Optuna's `suggest_*` methods: an Optuna trial of any kind, or another object with them."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float: ...

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int: ...

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...


class Domain(ABC):
    """The values that one place of a space file may take."""

    @abstractmethod
    def suggest(self, suggester: Suggester, name: str) -> Any:
        """Return one value as plain data; `name` is the full name of the Optuna parameter."""

    @abstractmethod
    def size(self, points: float = math.inf) -> float:
        """Return the number of distinct values, where a continuous range counts as `points`."""

    @abstractmethod
    def grid_point(self, name: str, points: int, index: int) -> dict[str, Any]:
        """Return grid point `index` of `size(points)`, as Optuna parameters by name.

        A continuous range has `points` evenly spaced values, in the logarithm where `log`.
        """

    @property
    def is_fixed(self) -> bool:
        """Whether there is only one value."""
        return self.size() == 1


@dataclass(frozen=True)
class Fixed(Domain):
    """A value that the file gives."""

    value: Any

    def suggest(self, suggester: Suggester, name: str) -> Any:
        return self.value

    def size(self, points: float = math.inf) -> float:
        return 1

    def grid_point(self, name: str, points: int, index: int) -> dict[str, Any]:
        return {}

    def __str__(self) -> str:
        return _as_in_a_file(self.value)


@dataclass(frozen=True)
class Range(Domain):
    """Numbers from `low` to `high` inclusive: floats, integers (`whole`), or shares in percent.

    `low` is less than `high`, and `high - low` is a multiple of `step`.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None
    whole: bool = False
    percent: bool = False

    def suggest(self, suggester: Suggester, name: str) -> Any:
        if self.whole:
            low, high, step = int(self.low), int(self.high), int(self.step or 1)
            return suggester.suggest_int(name, low, high, step=step, log=self.log)
        value = suggester.suggest_float(name, self.low, self.high, step=self.step, log=self.log)
        return f"{value!r}%" if self.percent else value

    def size(self, points: float = math.inf) -> float:
        step = self.step or (1 if self.whole else None)
        return points if step is None else round((self.high - self.low) / step) + 1

    def grid_point(self, name: str, points: int, index: int) -> dict[str, Any]:
        step = self.step or (1 if self.whole else None)
        fraction = index / max(1, points - 1)
        if step is not None:
            value = self.low + step * index
        elif self.log:
            value = self.low ** (1 - fraction) * self.high**fraction
        else:
            value = self.low + fraction * (self.high - self.low)
        # Rounding must not move a value out of the range.
        value = min(max(value, self.low), self.high)
        return {name: int(value) if self.whole else value}

    def __str__(self) -> str:
        unit = "%" if self.percent else ""
        scale = "log" if self.log else "whole numbers" if self.whole else "linear"
        if self.step:
            scale = f"in steps of {self.step:.12g}{unit}"
        return f"{self.low:.12g}{unit} to {self.high:.12g}{unit}, {scale}"


@dataclass(frozen=True)
class Levels(Domain):
    """Two or more ordered values: samplers see the index of a level."""

    values: tuple[Any, ...]

    def suggest(self, suggester: Suggester, name: str) -> Any:
        return self.values[suggester.suggest_int(f"{name}.level", 0, len(self.values) - 1)]

    def size(self, points: float = math.inf) -> float:
        return len(self.values)

    def grid_point(self, name: str, points: int, index: int) -> dict[str, Any]:
        return {f"{name}.level": index}

    def __str__(self) -> str:
        return "one of " + ", ".join(map(_as_in_a_file, self.values))


@dataclass(frozen=True)
class Choices(Domain):
    """Two or more values without an order: texts for instance."""

    values: tuple[Any, ...]

    def suggest(self, suggester: Suggester, name: str) -> Any:
        return suggester.suggest_categorical(name, self.values)

    def size(self, points: float = math.inf) -> float:
        return len(self.values)

    def grid_point(self, name: str, points: int, index: int) -> dict[str, Any]:
        return {name: self.values[index]}

    def __str__(self) -> str:
        return "one of " + ", ".join(map(_as_in_a_file, self.values))


@dataclass(frozen=True)
class ListDomain(Domain):
    """A list whose items are chosen independently."""

    items: tuple[Domain, ...]

    def suggest(self, suggester: Suggester, name: str) -> Any:
        return [item.suggest(suggester, f"{name}.{i}") for i, item in enumerate(self.items)]

    def size(self, points: float = math.inf) -> float:
        return product_size(item.size(points) for item in self.items)

    def grid_point(self, name: str, points: int, index: int) -> dict[str, Any]:
        parts = {f"{name}.{i}": item for i, item in enumerate(self.items)}
        return product_grid_point(parts, points, index)

    def __str__(self) -> str:
        shown = [str(item) for item in self.items]
        if len(set(shown)) == 1:
            return f"{len(shown)} x ({shown[0]})"
        return "[" + ", ".join(shown) + "]"


@dataclass(frozen=True)
class FamilyParameters(Domain):
    """The parameters of one family, each with its domain."""

    domains: Mapping[str, Domain]

    def suggest(self, suggester: Suggester, name: str) -> dict[str, Any]:
        return {
            key: domain.suggest(suggester, f"{name}.{key}") for key, domain in self.domains.items()
        }

    def size(self, points: float = math.inf) -> float:
        return product_size(domain.size(points) for domain in self.domains.values())

    def grid_point(self, name: str, points: int, index: int) -> dict[str, Any]:
        parts = {f"{name}.{key}": domain for key, domain in self.domains.items()}
        return product_grid_point(parts, points, index)


@dataclass(frozen=True)
class Families(Domain):
    """A choice of one family, then of its parameters."""

    options: Mapping[str, FamilyParameters]

    def suggest(self, suggester: Suggester, name: str) -> dict[str, Any]:
        options = list(self.options)
        family = self._only or suggester.suggest_categorical(f"{name}.family", options)
        return {family: self.options[family].suggest(suggester, f"{name}.{family}")}

    @property
    def _only(self) -> str | None:
        return next(iter(self.options)) if len(self.options) == 1 else None

    def size(self, points: float = math.inf) -> float:
        sizes = [option.size(points) for option in self.options.values()]
        return math.inf if math.inf in sizes else sum(sizes)

    def grid_point(self, name: str, points: int, index: int) -> dict[str, Any]:
        for family, option in self.options.items():
            size = int(option.size(points))
            if index < size:
                family_choice = {} if self._only else {f"{name}.family": family}
                return family_choice | option.grid_point(f"{name}.{family}", points, index)
            index -= size
        raise IndexError(name)

    def __str__(self) -> str:
        return "one of " + ", ".join(self.options)


def _as_in_a_file(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def product_size(sizes: Iterable[float]) -> float:
    """Return the number of combinations; integers too large for a float stay exact."""
    factors = list(sizes)
    return math.inf if math.inf in factors else math.prod(factors)


def product_grid_point(domains: Mapping[str, Domain], points: int, index: int) -> dict[str, Any]:
    """Return grid point `index` of a Cartesian product; the last domain varies fastest."""
    parameters: dict[str, Any] = {}
    for name in reversed(list(domains)):
        index, position = divmod(index, int(domains[name].size(points)))
        parameters |= domains[name].grid_point(name, points, position)
    return parameters


def extreme_values(domain: Domain) -> tuple[Any, ...]:
    """Return every level of an argument, or the ends of its range."""
    match domain:
        case Range(low, high, whole=whole):
            return (int(low), int(high)) if whole else (low, high)
        case Levels(values) | Choices(values):
            return values
        case Fixed(value):
            return (value,)
    return ()


def referenced_names(domain: Domain, parameter: str) -> Iterator[str]:
    """Yield the names that a parameter (`to` for instance) may take in any family of a domain."""
    return (name for _, name in references(domain, parameter, ""))


def references(domain: Domain, parameter: str, key: str) -> Iterator[tuple[str, str]]:
    """Yield `referenced_names`, each with its key; `key` is that of the domain."""
    match domain:
        case Families(options):
            for family, option in options.items():
                yield from references(option, parameter, f"{key}.{family}")
        case FamilyParameters(domains):
            for name, item in domains.items():
                if name == parameter:
                    yield from ((f"{key}.{name}", text) for text in _text_values(item))
                yield from references(item, parameter, f"{key}.{name}")
        case ListDomain(items):
            for i, item in enumerate(items):
                yield from references(item, parameter, f"{key}.{i}")


def _text_values(domain: Domain) -> Iterator[str]:
    levels = domain.values if isinstance(domain, Levels) else ()
    for value in (domain.value,) if isinstance(domain, Fixed) else levels:
        if isinstance(value, str) and value:
            yield value
