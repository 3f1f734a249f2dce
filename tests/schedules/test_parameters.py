"""Field types declare parameters; durations are converted to epochs."""

from dataclasses import dataclass
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedsearch.schedules.durations import epochs, to_epochs, to_time
from schedsearch.schedules.parameters import (
    Duration,
    Fraction,
    NonNegativeDuration,
    Number,
    OpenFraction,
    ParameterType,
    Positive,
    PositiveCount,
    PositiveFraction,
    parameters_of,
)


@dataclass(frozen=True)
class Sample:
    """One parameter of each type except schedules."""

    number: Number
    positive: Positive
    fraction: Fraction
    open_fraction: OpenFraction
    positive_fraction: PositiveFraction
    count: PositiveCount
    values: tuple[Number, ...]
    duration: Duration = "100%"
    wait: NonNegativeDuration = 0
    flag: bool = False
    mode: Literal["relative", "absolute"] = "relative"
    name: str = "loss"


described = {parameter.name: parameter for parameter in parameters_of(Sample)}


def test_a_field_declares_type_default_and_choices() -> None:
    types = {name: parameter.type for name, parameter in described.items()}
    assert types == {
        "number": ParameterType.NUMBER,
        "positive": ParameterType.NUMBER,
        "fraction": ParameterType.NUMBER,
        "open_fraction": ParameterType.NUMBER,
        "positive_fraction": ParameterType.NUMBER,
        "count": ParameterType.COUNT,
        "values": ParameterType.NUMBER,
        "duration": ParameterType.DURATION,
        "wait": ParameterType.DURATION,
        "flag": ParameterType.FLAG,
        "mode": ParameterType.CHOICE,
        "name": ParameterType.NAME,
    }
    assert [name for name, parameter in described.items() if parameter.is_list] == ["values"]
    assert described["mode"].choices == ("relative", "absolute")
    assert described["number"].required
    assert not described["flag"].required
    assert described["duration"].default == "100%"


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("number", float("nan"), "a finite number"),
        ("number", 10**400, "a finite number"),
        ("number", True, "a number"),
        ("positive", 0.0, "greater than 0"),
        ("fraction", 1.01, "from 0 to 1"),
        ("open_fraction", 1.0, "greater than 0 and less than 1"),
        ("positive_fraction", 0.0, "greater than 0 and at most 1"),
        ("count", 0, "at least 1"),
        ("count", 2.0, "a whole number"),
        ("duration", 0, "more than 0 epochs"),
        ("duration", "0%", "more than 0 epochs"),
        ("wait", -1, "at least 0 epochs"),
        ("wait", "five", 'a number of epochs, or a share of the horizon such as "20%"'),
        ("flag", 1, "true or false"),
        ("mode", "other", "one of relative, absolute"),
        ("name", 3, "a name"),
        ("values", 3.0, "a list, each item a number"),
        ("values", [3.0], "a tuple, each item a number"),
        ("values", (1.0, float("inf")), "a list, each item a finite number"),
    ],
)
def test_a_violated_constraint_completes_the_sentence_must_be(
    name: str, value: object, rule: str
) -> None:
    assert described[name].violated_constraint(value) == rule


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("number", -3),
        ("positive_fraction", 1.0),
        ("wait", "0%"),
        ("duration", "12.5%"),
        ("values", ()),
    ],
)
def test_a_valid_value_violates_no_constraint(name: str, value: object) -> None:
    assert described[name].violated_constraint(value) is None


def test_shares_round_half_up_to_at_least_one_epoch() -> None:
    assert [to_epochs("50%", horizon) for horizon in (1, 3, 5, 1000)] == [1, 2, 3, 500]
    assert to_epochs("0.01%", 10) == 1
    assert to_epochs("0%", 10) == 0
    assert to_epochs(99, 10) == 99


@given(st.integers(0, 200), st.integers(0, 200), st.integers(1, 1000))
def test_a_larger_share_is_never_fewer_epochs(low: int, high: int, horizon: int) -> None:
    low, high = sorted((low, high))
    assert to_epochs(f"{low}%", horizon) <= to_epochs(f"{high}%", horizon)


def test_an_unresolved_share_is_an_error() -> None:
    assert epochs(5) == 5
    with pytest.raises(TypeError, match="'20%' is a share of a horizon: call resolve"):
        epochs("20%")


def test_a_time_by_the_step_that_rounding_moved_off_a_whole_epoch_is_whole():
    assert 0.07 * 100 != 7
    assert to_time("7%", 100, "step") == 7
    assert to_time("7.5%", 100, "step") == 7.5
