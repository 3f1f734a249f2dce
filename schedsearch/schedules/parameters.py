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
from decimal import ROUND_FLOOR, Context, Decimal
from typing import Annotated, Any, Literal, TypeAlias, get_args, get_origin, get_type_hints


@dataclasses.dataclass(frozen=True)
class Constraint:
    """A condition on one value; `text` completes the sentence "must be ..."."""

    text: str
    is_satisfied_by: Callable[[Any], bool]


#: A phase that takes the epochs which the other phases leave.
REST = "rest"

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
#: When the value of a hyperparameter changes: at each epoch, or at each optimizer step.
Interval: TypeAlias = Literal["epoch", "step"]

#: The newest version of the rules that turn shares into epochs and compute end points. Version 1
#: is that of studies and configs that record no version; they keep its values, bit for bit.
CURRENT_VERSION = 2
VERSIONS = range(1, CURRENT_VERSION + 1)

_SHARE = re.compile(r"(\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)%")
#: A limit above every useful duration, so that a share times the horizon stays a whole number.
_LARGEST_SHARE = 1e9
#: Two times that differ by less, in epochs, are equal; a step of an optimizer is much longer.
_TIME_TOLERANCE = 1e-9
#: Enough digits for an exact product of a share and a horizon.
_EXACT = Context(prec=60)


def parse_share(text: str) -> float | None:
    """Return a share of the horizon as a fraction, or None if the text is not a share.

    >>> parse_share("20%"), parse_share("20")
    (0.2, None)
    """
    found = _SHARE.fullmatch(text)
    fraction = float(found[1]) / 100 if found else math.inf
    return fraction if fraction <= _LARGEST_SHARE else None


def duration_size(duration: float | str) -> float:
    """Return a duration in epochs or as a fraction; -1 if it is neither, which no rule allows."""
    if not isinstance(duration, str):
        return duration
    fraction = parse_share(duration)
    return -1.0 if fraction is None else fraction


def exact_size(duration: float | str, horizon: float) -> Decimal:
    """Return a duration in epochs as an exact decimal number: a share of a horizon, or a number.

    >>> exact_size("29%", 50), exact_size(7, 50)
    (Decimal('14.50'), Decimal('7'))
    """
    if not isinstance(duration, str):
        return Decimal(str(duration))
    share = Decimal(duration.removesuffix("%"))
    return _EXACT.multiply(share, Decimal(str(horizon))).scaleb(-2, _EXACT)


def round_half_up(size: Decimal) -> int:
    """Return the nearest whole number, and of two equally near ones the larger.

    >>> round_half_up(Decimal("14.5")), round_half_up(Decimal("14.4"))
    (15, 14)
    """
    return int(_EXACT.add(size, Decimal("0.5")).to_integral_value(ROUND_FLOOR))


def to_epochs(duration: float | str, horizon: float, version: int = CURRENT_VERSION) -> int:
    """Return a duration in whole epochs: shares round half up, to at least 1 except for "0%".

    Args:
        duration: epochs, or a share.
        horizon: that shares refer to, in epochs.
        version: of the rules; version 1 rounds in binary, which misses some halves.

    >>> to_epochs("20%", 60), to_epochs("2.5%", 60), to_epochs("1%", 10), to_epochs(7, 10)
    (12, 2, 1, 7)
    >>> to_epochs("29%", 50), to_epochs("29%", 50, version=1)
    (15, 14)

    Raises:
        ValueError: the duration is a number of epochs that is not whole.
    """
    if isinstance(duration, str):
        fraction = duration_size(duration)
        if not fraction:
            return 0
        if version == 1:
            return max(1, math.floor(fraction * horizon + 0.5))
        return max(1, round_half_up(exact_size(duration, horizon)))
    if duration != math.floor(duration):
        raise ValueError(f"{duration} epochs are not a whole number")
    return int(duration)


def to_time(
    duration: float | str, horizon: float, interval: Interval, version: int = CURRENT_VERSION
) -> float:
    """Return a duration in epochs: whole at the interval "epoch", and not rounded at "step".

    The type says which: an int at "epoch", a float at "step". A float within 1e-9 of a whole
    number is that number, so that rounding does not move a boundary into another epoch.

    >>> to_time("2.5%", 60, "epoch"), to_time("2.5%", 60, "step"), to_time("30%", 10, "step")
    (2, 1.5, 3.0)

    Raises:
        ValueError: the interval is "epoch", and the duration a number of epochs that is not whole.
    """
    if interval == "epoch":
        return to_epochs(duration, horizon, version)
    if isinstance(duration, str) and version == 1:
        return _snapped(duration_size(duration) * horizon)
    return _snapped(float(exact_size(duration, horizon)))


def _snapped(time: float) -> float:
    """Return a time as a float, and as a whole number if it is one apart from rounding."""
    return float(round(time)) if is_same_time(time, round(time)) else float(time)


def is_same_time(first: float, second: float) -> bool:
    """Return whether two times in epochs are equal, apart from rounding."""
    return abs(first - second) < _TIME_TOLERANCE


def has_passed(boundary: float, time: float) -> bool:
    """Return whether a boundary has been reached at a time, both in epochs.

    >>> has_passed(3, 3), has_passed(0.1 + 0.2, 0.3), has_passed(0.31, 0.3)
    (True, True, False)
    """
    return boundary <= time or is_same_time(boundary, time)


def completed_periods(time: float, period: float) -> int:
    """Return how many periods are complete at a time; exact for whole numbers.

    >>> completed_periods(7, 3), completed_periods(0.3, 0.1)
    (2, 3)
    """
    count = int(time // period)
    if isinstance(time, int) and isinstance(period, int):
        return count
    return count + has_passed((count + 1) * period, time)


def epochs(duration: float | str) -> float:
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
    """Return the parameters of a family, in the order of its fields."""
    hints = get_type_hints(family, include_extras=True)
    return tuple(
        _parameter(field, hints[field.name])
        for field in dataclasses.fields(family)
        if field.init and field.name != "version"
    )


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
