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
