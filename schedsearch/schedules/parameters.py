"""Parameter types of schedule families: each field of a family declares its constraints.

A family is a frozen dataclass. The type of a field holds the constraints on its value:

    decay_rate: Positive
    duration: Duration = "100%"

The same declaration validates the constructor, ranges in a space file and values in a config, and
it generates the families page of the documentation.
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
class Constraint:
    """A condition on one value; `text` completes the sentence "must be ..."."""

    text: str
    is_satisfied_by: Callable[[Any], bool]


Number: TypeAlias = Annotated[float, Constraint("a finite number", math.isfinite)]
Positive: TypeAlias = Annotated[float, Constraint("greater than 0", lambda x: x > 0)]
NonNegative: TypeAlias = Annotated[float, Constraint("at least 0", lambda x: x >= 0)]
Fraction: TypeAlias = Annotated[float, Constraint("from 0 to 1", lambda x: 0 <= x <= 1)]
OpenFraction: TypeAlias = Annotated[
    float, Constraint("greater than 0 and less than 1", lambda x: 0 < x < 1)
]
PositiveFraction: TypeAlias = Annotated[
    float, Constraint("greater than 0 and at most 1", lambda x: 0 < x <= 1)
]
PositiveCount: TypeAlias = Annotated[int, Constraint("at least 1", lambda n: n >= 1)]
#: A number of epochs, or a share of the horizon such as "20%".
Duration: TypeAlias = Annotated[
    int | str, Constraint("at least 1 epoch", lambda d: duration_size(d) > 0)
]
NonNegativeDuration: TypeAlias = Annotated[
    int | str, Constraint("at least 0 epochs", lambda d: duration_size(d) >= 0)
]

_SHARE = re.compile(r"(\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)%")
#: A limit above every useful duration, so that a share times the horizon stays a whole number.
_LARGEST_SHARE = 1e9


def parse_share(text: str) -> float | None:
    """Return a share of the horizon as a fraction, or None if the text is not a share.

    >>> parse_share("20%"), parse_share("20")
    (0.2, None)
    """
    found = _SHARE.fullmatch(text)
    fraction = float(found[1]) / 100 if found else math.inf
    return fraction if fraction <= _LARGEST_SHARE else None


def duration_size(duration: int | str) -> float:
    """Return a duration in epochs or as a fraction; -1 if it is neither, which no rule allows."""
    if isinstance(duration, int):
        return duration
    fraction = parse_share(duration)
    return -1.0 if fraction is None else fraction


def to_epochs(duration: int | str, horizon: int) -> int:
    """Return a duration in epochs: shares round half up, and to at least 1 except for "0%".

    >>> to_epochs("20%", 60), to_epochs("2.5%", 60), to_epochs("1%", 10), to_epochs(7, 10)
    (12, 2, 1, 7)
    """
    if isinstance(duration, int):
        return duration
    fraction = duration_size(duration)
    return max(1, math.floor(fraction * horizon + 0.5)) if fraction else 0


def epochs(duration: int | str) -> int:
    """Return a resolved duration in epochs.

    Raises:
        TypeError: the schedule has not been resolved.
    """
    if isinstance(duration, str):
        raise TypeError(f"{duration!r} is a share of a horizon: call resolve(horizon, seed) first")
    return duration


class ParameterType(enum.Enum):
    """The types of a parameter; each value is the name of the type in error messages."""

    NUMBER = "a number"
    COUNT = "a whole number"
    DURATION = 'a whole number of epochs, or a share of the horizon such as "20%"'
    FLAG = "true or false"
    CHOICE = "one of the listed words"
    NAME = "a name"
    SCHEDULE = "a schedule of one hyperparameter: a table that holds one family"


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One parameter of a family, read from the type of its field."""

    name: str
    type: ParameterType
    is_list: bool
    constraints: tuple[Constraint, ...]
    choices: tuple[str, ...]
    required: bool
    default: Any

    def violated_constraint(self, value: Any) -> str | None:
        """Return the constraint that the value violates, to follow "must be", or None."""
        if not self.is_list:
            return self._violated_by_item(value)
        if not isinstance(value, tuple):
            # Lists of a config are converted to tuples, because a list cannot be hashed.
            return (
                f"a {'tuple' if isinstance(value, list) else 'list'}, each item {self.type.value}"
            )
        return next(
            (f"a list, each item {rule}" for rule in map(self._violated_by_item, value) if rule),
            None,
        )

    def _violated_by_item(self, value: Any) -> str | None:
        if self.choices and value not in self.choices:
            return "one of " + ", ".join(self.choices)
        if not _has_type(value, self.type):
            return self.type.value
        if self.type is ParameterType.NUMBER and not is_finite(value):
            return "a finite number"
        return next(
            (
                constraint.text
                for constraint in self.constraints
                if not constraint.is_satisfied_by(value)
            ),
            None,
        )


def is_finite(value: float) -> bool:
    """Return whether a number is finite as a float; a whole number may be too large for one."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _has_type(value: Any, expected: ParameterType) -> bool:
    match expected:
        case ParameterType.NUMBER:
            return isinstance(value, int | float) and not isinstance(value, bool)
        case ParameterType.COUNT:
            return isinstance(value, int) and not isinstance(value, bool)
        case ParameterType.DURATION:
            if isinstance(value, str):
                return parse_share(value) is not None
            return isinstance(value, int) and not isinstance(value, bool)
        case ParameterType.FLAG:
            return isinstance(value, bool)
        case ParameterType.CHOICE | ParameterType.NAME:
            return isinstance(value, str)
        case ParameterType.SCHEDULE:
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
    is_list = get_origin(hint) is tuple
    item = get_args(hint)[0] if is_list else hint
    constraints: tuple[Constraint, ...] = ()
    if get_origin(item) is Annotated:
        item, *rest = get_args(item)
        constraints = tuple(each for each in rest if isinstance(each, Constraint))
    return Parameter(
        name=field.name,
        type=_type_of(item),
        is_list=is_list,
        constraints=constraints,
        choices=get_args(item) if get_origin(item) is Literal else (),
        required=required,
        default=None if required else field.default,
    )


def _type_of(item: Any) -> ParameterType:
    if get_origin(item) is Literal:
        return ParameterType.CHOICE
    simple = {
        float: ParameterType.NUMBER,
        int: ParameterType.COUNT,
        bool: ParameterType.FLAG,
        str: ParameterType.NAME,
    }
    if item in simple:
        return simple[item]
    return ParameterType.DURATION if item == int | str else ParameterType.SCHEDULE
