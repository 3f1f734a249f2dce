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
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeAlias, get_args, get_origin, get_type_hints

from schedsearch.schedules.durations import REST, duration_size, parse_share


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
Count: TypeAlias = Annotated[int, Constraint("at least 0", lambda n: n >= 0)]
PositiveCount: TypeAlias = Annotated[int, Constraint("at least 1", lambda n: n >= 1)]
#: A factor of at least 1; a range between two whole numbers holds whole numbers only.
Multiple: TypeAlias = Annotated[int | float, Constraint("at least 1", lambda x: x >= 1)]
NonZero: TypeAlias = Annotated[float, Constraint("other than 0", lambda x: x != 0)]
#: A time: a number of epochs, or a share of the horizon such as "20%".
Duration: TypeAlias = Annotated[
    int | float | str, Constraint("more than 0 epochs", lambda d: duration_size(d) > 0)
]
NonNegativeDuration: TypeAlias = Annotated[
    int | float | str, Constraint("at least 0 epochs", lambda d: duration_size(d) >= 0)
]
#: A phase of a schedule; "rest" is what the other phases leave of the horizon.
Phase: TypeAlias = Annotated[
    int | float | str, Constraint("more than 0 epochs", lambda d: duration_size(d) > 0), REST
]
NonNegativePhase: TypeAlias = Annotated[
    int | float | str, Constraint("at least 0 epochs", lambda d: duration_size(d) >= 0), REST
]
#: A count of epochs, such as a patience: whole at every interval, or a share of the horizon.
EpochCount: TypeAlias = Annotated[
    int | str, Constraint("at least 0 epochs", lambda d: duration_size(d) >= 0)
]


class ParameterType(enum.Enum):
    """The types of a parameter; each value is the name of the type in error messages."""

    NUMBER = "a number"
    COUNT = "a whole number"
    MULTIPLE = "a number, whole or not"
    DURATION = 'a number of epochs, or a share of the horizon such as "20%"'
    EPOCH_COUNT = 'a whole number of epochs, or a share of the horizon such as "20%"'
    FLAG = "true or false"
    CHOICE = "one of the listed words"
    NAME = "a name"
    SCHEDULE = "a schedule of one hyperparameter: a table that holds one family"


#: The types whose values may be any finite number.
NUMBERS = (ParameterType.NUMBER, ParameterType.MULTIPLE)
#: The types whose values are epochs or shares of the horizon.
DURATIONS = (ParameterType.DURATION, ParameterType.EPOCH_COUNT)


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One parameter of a family, read from the type of its field.

    Attributes:
        may_be_rest: whether the value may be the word "rest".
        is_option: whether tables leave it out at its default. It is a keyword-only field, and came
            after the first version: records of that version have no such key.
    """

    name: str
    type: ParameterType
    is_list: bool
    constraints: tuple[Constraint, ...]
    choices: tuple[str, ...]
    required: bool
    default: Any
    may_be_rest: bool = False
    is_option: bool = False

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
        if self.may_be_rest and value == REST:
            return None
        if self.choices and value not in self.choices:
            return "one of " + ", ".join(self.choices)
        if self.type in DURATIONS and _is_negative_share(value):
            return self.constraints[0].text
        if not _has_type(value, self.type):
            return self.type.value + (f', or "{REST}"' if self.may_be_rest else "")
        if self.type in NUMBERS and not is_finite(value):
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


def _is_negative_share(value: Any) -> bool:
    is_negative = isinstance(value, str) and value.startswith("-")
    return is_negative and bool(parse_share(value.removeprefix("-")))


def _has_type(value: Any, expected: ParameterType) -> bool:
    match expected:
        case ParameterType.NUMBER | ParameterType.MULTIPLE:
            return isinstance(value, int | float) and not isinstance(value, bool)
        case ParameterType.COUNT:
            return isinstance(value, int) and not isinstance(value, bool)
        case ParameterType.DURATION | ParameterType.EPOCH_COUNT:
            if isinstance(value, str):
                return parse_share(value) is not None
            if expected is ParameterType.DURATION and isinstance(value, float):
                return math.isfinite(value)
            return isinstance(value, int) and not isinstance(value, bool)
        case ParameterType.FLAG:
            return isinstance(value, bool)
        case ParameterType.CHOICE | ParameterType.NAME:
            return isinstance(value, str)
        case ParameterType.SCHEDULE:
            return hasattr(type(value), "family") and not hasattr(value, "members")


@functools.cache
def parameters_of(family: type) -> tuple[Parameter, ...]:
    """Return the parameters of a family: those with a position, then the options."""
    hints = get_type_hints(family, include_extras=True)
    return tuple(
        _parameter(field, hints[field.name])
        for field in ordered_fields(family)
        if field.init and field.name != "version"
    )


def ordered_fields(family: type) -> list[dataclasses.Field[Any]]:
    """Return the fields of a family, keyword-only ones last, also those of a base class."""
    return sorted(dataclasses.fields(family), key=lambda field: bool(field.kw_only))


def _parameter(field: dataclasses.Field[Any], hint: Any) -> Parameter:
    required = field.default is dataclasses.MISSING
    is_list = get_origin(hint) is tuple
    item = get_args(hint)[0] if is_list else hint
    constraints: tuple[Constraint, ...] = ()
    rest: list[Any] = []
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
        may_be_rest=REST in rest,
        is_option=bool(field.kw_only),
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
    if item == int | float:
        return ParameterType.MULTIPLE
    if item == int | float | str:
        return ParameterType.DURATION
    return ParameterType.EPOCH_COUNT if item == int | str else ParameterType.SCHEDULE
