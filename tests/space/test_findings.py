"""What is legal and yet worth knowing is remarked, and nothing else is."""

import pytest

from schedsearch.space import Space
from schedsearch.space.findings import findings
from tests.space.documents import LINEAR, searching, small

PENALTY = "hyperparameters__weights.penalty"


def found(content):
    return findings(Space.from_document(content, "file.toml"))


def test_a_space_with_nothing_to_remark_has_no_findings():
    assert found(small()) == []


@pytest.mark.parametrize(
    ("duration", "longest"),
    [(21, 21), ({"low": 5, "high": 30}, 30), ({"levels": [5, "150%"]}, 30), ("101%", None)],
)
def test_a_duration_beyond_the_horizon_is_remarked(duration, longest):
    lines = found(small(**{f"{PENALTY}__families__linear": {**LINEAR, "duration": duration}}))
    expected = f"weights.penalty.linear.duration may be {longest} epochs, but the horizon is 20"
    assert [line.split(":")[0] for line in lines] == ([expected] if longest else [])


def test_durations_of_inner_schedules_are_looked_at_too():
    inner = {"linear": {"initial": 0.0, "final": 1.0, "duration": 99}}
    [line] = found(searching({"scale": {"inner": inner, "factor": 2.0}}))
    assert line.startswith("u.scale.inner.linear.duration may be 99 epochs")


def test_draws_that_break_a_rule_between_parameters_are_counted():
    ends = {"low": 0.0, "high": 1.0}
    clamp = {"low": ends, "high": ends, "inner": {"constant": {"value": 0.5}}}
    [line] = found(searching({"clamp": clamp}))
    count = int(line.split(": ")[1].split(" of 200")[0])
    assert 60 < count < 140
    assert "must be at most `high`" in line


def with_constants(value, **families):
    return searching({"constant": {"value": value}, **families})


RISING = {"linear": {"initial": 0.0, "final": {"low": 0.5, "high": 1.0}, "duration": "100%"}}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.5, "one value"),
        ({"levels": [0.1, 0.5, 0.9]}, "3 values"),
        ({"low": 0.0, "high": 0.8, "step": 0.1}, "9 values"),
        ({"low": 0.0, "high": 0.9, "step": 0.1}, None),
        ({"low": 0.0, "high": 1.0}, None),
    ],
)
def test_few_constants_are_remarked_where_a_schedule_may_pass_between_them(value, said):
    lines = found(with_constants(value, **RISING))
    assert [line.split(" only,")[0] for line in lines] == (
        [f"u: its constants have {said}"] if said else []
    )
    assert found(with_constants(value)) == []  # nothing else moves it


@pytest.mark.parametrize(("high", "beyond"), [(0.2, True), (0.3, True), (0.5, False)])
def test_constants_that_do_not_reach_the_means_of_the_schedules_are_remarked(high, beyond):
    # Each rises from 0 to its end, between 0.5 and 1: the means lie between 0.25 and 0.5.
    lines = found(with_constants({"low": 0.0, "high": high}, **RISING))
    assert len(lines) == beyond
    assert all(line.startswith(f"u: its constants go from 0 to {high}, but") for line in lines)


def test_a_decay_that_only_ends_below_the_constants_is_no_reason_to_remark():
    decay = {"exponential": {"initial": {"low": 0.5, "high": 1.0}, "decay_rate": 0.8}}
    assert found(with_constants({"low": 0.05, "high": 1.0, "log": True}, **decay)) == []


def test_each_member_of_a_group_is_compared_with_its_own_constants():
    group = {
        "members": ["weights.a", "weights.b"],
        "families": {
            "constant": {"value": {"low": 0.0, "high": 0.5}},
            "dwa": {"temperature": {"low": 0.5, "high": 10.0}},  # the weights sum to 2
        },
    }
    content = small(groups={"balance": group})
    lines = [line for line in found(content) if "its constants go" in line]
    assert [line.split(":")[0] for line in lines] == ["weights.a", "weights.b"]
