"""Conversion of schedules to and from tables, and the errors for invalid tables."""

from typing import Any

import pytest

from schedsearch.errors import InputError
from schedsearch.schedules import Constant, Coupled, Join, Linear, Piecewise, from_table, to_table


def test_a_nested_schedule_is_a_nested_table() -> None:
    schedule = Join((Coupled(Constant(10.0), to="lr"), Linear(1.0, 0.0)), boundaries=("50%",))
    table = {
        "join": {
            "schedules": [
                {"coupled": {"factor": {"constant": {"value": 10.0}}, "to": "lr"}},
                {"linear": {"initial": 1.0, "final": 0.0, "duration": "100%"}},
            ],
            "boundaries": ["50%"],
        }
    }
    assert to_table(schedule) == table
    assert from_table(table) == schedule


def test_whole_numbers_become_floats_for_parameters_that_are_numbers() -> None:
    schedule = from_table({"piecewise": {"values": [1, 2], "duration": 4}})
    assert schedule == Piecewise((1.0, 2.0), duration=4)
    assert isinstance(schedule, Piecewise)
    assert [type(value) for value in schedule.values] == [float, float]
    assert type(schedule.duration) is int


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "exactly one family, not []"),
        (
            {"constant": {"value": 1}, "linear": {}},
            "exactly one family, not ['constant', 'linear']",
        ),
        ({"exponental": {}}, "there is no family `exponental`: did you mean `exponential`?"),
        ({"constant": 3}, "`parameters` is 3, but must be a table of parameters"),
        ({"constant": {"valeu": 3}}, "constant has no parameter `valeu`: did you mean `value`?"),
        ({"constant": {}}, "constant: `value` is missing, and has no default"),
        ({"constant": {"value": 10**400}}, "but must be a finite number"),
        ({"piecewise": {"values": 3}}, "`values` is 3, but must be a list, each item a number"),
        ({"scale": {"inner": 3, "factor": 1}}, "`inner` is 3, but must be a schedule"),
        ({"scale": {"inner": {"constant": {"value": "x"}}, "factor": 1}}, "`value` is 'x'"),
    ],
)
def test_an_invalid_table_is_refused_with_the_rule(table: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        from_table(table)
    assert message in str(caught.value)


def test_members_are_refused_for_a_family_of_one_hyperparameter() -> None:
    with pytest.raises(InputError, match="`constant` sets one hyperparameter, not a group"):
        from_table({"constant": {"value": 1.0}}, members=("weights.a", "weights.b"))
