"""Warnings where a schedule is given values that the bounds of its hyperparameter replace."""

from __future__ import annotations

from collections.abc import Iterator

from schedsearch.space.domains import Domain, Fixed, Levels, Range
from schedsearch.space.space import Space

#: The parameters of families that are values of the hyperparameter at a given time.
_VALUES = ("value", "initial", "peak", "final")


def beyond_bounds_warnings(space: Space) -> Iterator[str]:
    """Yield a line for each such parameter whose values may lie outside the bounds.

    Bounds may limit a schedule on purpose, as the lowest rate of a decay does. A value that is
    given and never reached is a mistake.
    """
    for name, families in space.hyperparameters.items():
        bounds = space.document.hyperparameters[name].bounds
        if bounds is None:
            continue
        for family, option in families.options.items():
            for key in _VALUES:
                domain = option.domains.get(key)
                if domain is not None and (ends := _ends(domain)) is not None:
                    yield from _beyond(f"{name}.{family}.{key}", domain, ends, bounds)


def _beyond(
    key: str, domain: Domain, ends: tuple[float, float], bounds: tuple[float, float]
) -> Iterator[str]:
    low, high = bounds
    if low <= ends[0] and ends[1] <= high:
        return
    is_below = ends[0] < low
    verb = "is" if domain.is_fixed else "may be"
    yield (
        f"{key} {verb} {ends[0] if is_below else ends[1]:.12g}, but the bounds of the "
        f"hyperparameter are {low:.12g} to {high:.12g}, so {low if is_below else high:.12g} is "
        "used: change it or the bounds"
    )


def _ends(domain: Domain) -> tuple[float, float] | None:
    """Return the lowest and the highest number of a domain; None if it has other values."""
    match domain:
        case Fixed(value):
            values = [value]
        case Range(low, high):
            values = [low, high]
        case Levels(levels):
            values = list(levels)
        case _:
            return None
    numbers = [value for value in values if isinstance(value, int | float)]
    return (min(numbers), max(numbers)) if len(numbers) == len(values) else None
