"""The vertical axis of a hyperparameter's values, in the terminal and in pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from schedsearch.space import Space
from schedsearch.space.domains import ListDomain, Range

#: Values so many times lower than the lowest maximum of a curve are close to 0 for a picture.
_CLOSE_TO_ZERO = 1000
#: Then the axis is logarithmic for so many powers of ten below that maximum, and linear below.
_POWERS_BELOW = 1


@dataclass(frozen=True)
class Axis:
    """A vertical axis.

    Attributes:
        low: the lowest value.
        high: the highest value.
        log: whether the axis is logarithmic.
        linear_below: below this value a logarithmic axis is linear, so that it has a place for 0;
            0 if it is logarithmic throughout.
    """

    low: float
    high: float
    log: bool
    linear_below: float = 0.0

    def position(self, value: float) -> float:
        """Return the height of a value on the axis, in a unit of its scale.

        >>> axis = Axis(0.0, 1.0, log=True, linear_below=0.01)
        >>> [round(axis.position(value), 6) for value in (0.0, 0.005, 0.01, 0.1, 1.0)]
        [0.0, 0.5, 1.0, 2.0, 3.0]
        """
        if not self.log:
            return value
        if not self.linear_below:
            return math.log10(value)
        parts = abs(value) / self.linear_below
        return math.copysign(parts if parts <= 1 else 1 + math.log10(parts), value)

    @property
    def remark(self) -> str:
        """The scale in words for a heading; no text for a linear one."""
        if not self.log:
            return ""
        linear = f", linear below {self.linear_below:.3g}" if self.linear_below else ""
        return f" (log scale{linear})"


def axis_for(curves: Sequence[Sequence[float]], *, log: bool) -> Axis:
    """Return an axis for curves, of which one has a finite value.

    A schedule that ends at 0, or close to it, would leave no room for the other values on a
    logarithmic axis: it is linear near 0.

    Args:
        curves: the values in time; those that are not finite do not count.
        log: whether a logarithmic axis is preferred. It is linear if no value is positive.
    """
    finite = [[value for value in curve if math.isfinite(value)] for curve in curves]
    low, high = min(map(min, filter(None, finite))), max(map(max, filter(None, finite)))
    least = min((max(curve) for curve in finite if curve and max(curve) > 0), default=None)
    if not log or least is None:
        return Axis(low, high, log=False)
    if low >= least / _CLOSE_TO_ZERO:
        return Axis(low, high, log=True)
    return Axis(low, high, log=True, linear_below=least / 10**_POWERS_BELOW)


def is_logarithmic(space: Space, name: str) -> bool:
    """Return whether a hyperparameter's constants are sampled on a logarithmic scale."""
    groups = (g for g, group in space.document.groups.items() if name in group.members)
    families = space.families.get(next(groups, name))
    constant = families.options.get("constant") if families else None
    domain = constant.domains.get("value") if constant else None
    ranges = domain.items if isinstance(domain, ListDomain) else (domain,)
    return any(isinstance(item, Range) and item.log for item in ranges)
