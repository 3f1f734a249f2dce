"""What a family's parameter may be: said once, as the type of its field.

A family is a frozen dataclass whose field types carry their rules:

    decay_rate: Positive
    duration: Duration = "100%"

The same description checks a parameter at construction, a range in a space file, and a value in a
config, and it writes the families page of the documentation.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import math
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeAlias, get_args, get_origin, get_type_hints


@dataclasses.dataclass(frozen=True)
class Rule:
    """A condition on one value; `text` completes the sentence "must be …"."""

    text: str
    holds: Callable[[Any], bool]


Number: TypeAlias = Annotated[float, Rule("a finite number", math.isfinite)]
Positive: TypeAlias = Annotated[float, Rule("greater than 0", lambda x: x > 0)]
NonNegative: TypeAlias = Annotated[float, Rule("at least 0", lambda x: x >= 0)]
Fraction: TypeAlias = Annotated[float, Rule("from 0 to 1", lambda x: 0 <= x <= 1)]
OpenFraction: TypeAlias = Annotated[
    float, Rule("greater than 0 and less than 1", lambda x: 0 < x < 1)
]
PositiveFraction: TypeAlias = Annotated[
    float, Rule("greater than 0 and at most 1", lambda x: 0 < x <= 1)
]
Count: TypeAlias = Annotated[int, Rule("at least 0", lambda n: n >= 0)]
PositiveCount: TypeAlias = Annotated[int, Rule("at least 1", lambda n: n >= 1)]
#: A number of epochs, or a share of the horizon such as "20%". A `Wait` may be nothing at all.
Duration: TypeAlias = Annotated[int | str, Rule("at least 1 epoch", lambda d: amount(d) > 0)]
Wait: TypeAlias = Annotated[int | str, Rule("at least 0 epochs", lambda d: amount(d) >= 0)]

_SHARE = re.compile(r"(\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)%")
#: Beyond any schedule, and small enough to be counted in epochs.
_LARGEST_SHARE = 1e9


def share(text: str) -> float | None:
    """Return the fraction that a share of the horizon stands for, or None if it is not one.

    >>> share("20%"), share("20")
    (0.2, None)
    """
    found = _SHARE.fullmatch(text)
    fraction = float(found[1]) / 100 if found else math.inf
    return fraction if fraction <= _LARGEST_SHARE else None


def amount(duration: int | str) -> float:
    """Return a duration's size in its own unit (epochs, or the fraction): to compare with 0."""
    if isinstance(duration, int):
        return duration
    fraction = share(duration)
    return -1.0 if fraction is None else fraction


def to_epochs(duration: int | str, horizon: int) -> int:
    """Return a duration in epochs; shares round half up, and all but "0%" to at least one epoch.

    >>> to_epochs("20%", 60), to_epochs("2.5%", 60), to_epochs("1%", 10), to_epochs(7, 10)
    (12, 2, 1, 7)
    """
    if isinstance(duration, int):
        return duration
    fraction = amount(duration)
    return max(1, math.floor(fraction * horizon + 0.5)) if fraction else 0


def epochs(duration: int | str) -> int:
    """Return a resolved duration: how a family reads its own field."""
    if isinstance(duration, str):
        raise TypeError(f"{duration!r} is a share of a horizon: call resolve(horizon, seed) first")
    return duration


class Kind(enum.Enum):
    """The kinds of parameter; the value is what error messages call one."""

    NUMBER = "a number"
    COUNT = "a whole number"
    DURATION = 'a whole number of epochs, or a share of the horizon such as "20%"'
    FLAG = "true or false"
    CHOICE = "one of the listed words"
    NAME = "a name"
    SCHEDULE = "a schedule of one hyperparameter: a table that holds one family"


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One parameter of a family, as its field's type describes it."""

    name: str
    kind: Kind
    many: bool
    rules: tuple[Rule, ...]
    choices: tuple[str, ...]
    required: bool
    default: Any

    def broken_rule(self, value: Any) -> str | None:
        """Return the rule that the value breaks, as it completes "must be …"; None if all hold."""
        if not self.many:
            return self._broken_by_one(value)
        if not isinstance(value, tuple):
            # A config's list arrives as a tuple; a Python list could not be hashed.
            return (
                f"a {'tuple' if isinstance(value, list) else 'list'}, each item {self.kind.value}"
            )
        return next(
            (f"a list, each item {rule}" for rule in map(self._broken_by_one, value) if rule), None
        )

    def _broken_by_one(self, value: Any) -> str | None:
        if self.choices and value not in self.choices:
            return "one of " + ", ".join(self.choices)
        if not _is_of(self.kind, value):
            return self.kind.value
        if self.kind is Kind.NUMBER and not is_finite(value):
            return "a finite number"
        return next((rule.text for rule in self.rules if not rule.holds(value)), None)


def is_finite(value: float) -> bool:
    """Tell whether a number is finite as a float: a whole number may be too large for one."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _is_of(kind: Kind, value: Any) -> bool:
    match kind:
        case Kind.NUMBER:
            return isinstance(value, int | float) and not isinstance(value, bool)
        case Kind.COUNT:
            return isinstance(value, int) and not isinstance(value, bool)
        case Kind.DURATION:
            if isinstance(value, str):
                return share(value) is not None
            return isinstance(value, int) and not isinstance(value, bool)
        case Kind.FLAG:
            return isinstance(value, bool)
        case Kind.CHOICE | Kind.NAME:
            return isinstance(value, str)
        case Kind.SCHEDULE:
            return hasattr(type(value), "family") and not hasattr(value, "members")


@functools.cache
def parameters_of(family: type) -> tuple[Parameter, ...]:
    """Return the parameters of a family, in the order of its fields."""
    hints = get_type_hints(family, include_extras=True)
    return tuple(
        _parameter(field, hints[field.name]) for field in dataclasses.fields(family) if field.init
    )


def _parameter(field: dataclasses.Field[Any], hint: Any) -> Parameter:
    required = field.default is dataclasses.MISSING
    many = get_origin(hint) is tuple
    item = get_args(hint)[0] if many else hint
    rules: tuple[Rule, ...] = ()
    if get_origin(item) is Annotated:
        item, *rest = get_args(item)
        rules = tuple(rule for rule in rest if isinstance(rule, Rule))
    return Parameter(
        name=field.name,
        kind=_kind(item),
        many=many,
        rules=rules,
        choices=get_args(item) if get_origin(item) is Literal else (),
        required=required,
        default=None if required else field.default,
    )


def _kind(item: Any) -> Kind:
    if get_origin(item) is Literal:
        return Kind.CHOICE
    simple = {float: Kind.NUMBER, int: Kind.COUNT, bool: Kind.FLAG, str: Kind.NAME}
    if item in simple:
        return simple[item]
    return Kind.DURATION if item == int | str else Kind.SCHEDULE
