"""Warnings of values that the bounds of a hyperparameter replace."""

import pytest

from schedsearch.space import Space
from schedsearch.space.lint import lint_warnings
from tests.space.documents import searching

RISING = {"initial": 0.0, "final": {"low": 0.5, "high": 1.0}, "duration": "100%"}
CONSTANTS = {"constant": {"value": {"low": 0.0, "high": 1.0}}}


def warnings_of(families, bounds):
    content = searching(families)
    content["hyperparameters"]["u"]["bounds"] = bounds
    return lint_warnings(Space.from_document(content, "file.toml"))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"final": 1.5}, "u.linear.final is 1.5"),
        ({"final": {"low": 0.5, "high": 3.0}}, "u.linear.final may be 3"),
        ({"initial": -1.0}, "u.linear.initial is -1"),
        ({"initial": {"levels": [-0.5, 0.0]}}, "u.linear.initial may be -0.5"),
    ],
)
def test_a_value_outside_the_bounds_is_named_with_what_is_used(changed, said):
    [line] = warnings_of({**CONSTANTS, "linear": RISING | changed}, [0.0, 1.0])
    used = 0 if "initial" in said else 1
    rule = f"but the bounds of the hyperparameter are 0 to 1, so {used} is used"
    assert line == f"{said}, {rule}: change it or the bounds"


def test_values_within_the_bounds_and_schedules_that_the_bounds_limit_give_no_warning():
    decay = {"exponential": {"initial": 1.0, "decay_rate": {"low": 0.5, "high": 0.9}}}
    lines = warnings_of({**CONSTANTS, **decay}, [0.1, 1.0])
    assert [line for line in lines if "exponential" in line] == []
    assert warnings_of({**CONSTANTS, "linear": RISING}, [0.0, 1.0]) == []


def test_schedules_that_stay_at_the_bounds_are_not_called_too_short():
    high = RISING | {"initial": {"low": 5.0, "high": 9.0}, "final": 2.0}
    lines = warnings_of({**CONSTANTS, "linear": high}, [0.0, 1.0])
    stays = "u.linear: most random samples keep one value at the bounds"
    assert [line for line in lines if line.startswith(stays)]
    assert not [line for line in lines if "horizon" in line]


def test_a_config_is_checked_too():
    content = searching({"constant": {"value": 2.0}})
    content["hyperparameters"]["u"]["bounds"] = [0.0, 1.0]
    [line] = lint_warnings(Space.from_document(content, "best.toml"))
    assert line.startswith("u.constant.value is 2, but")
