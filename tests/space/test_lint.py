"""Lint warnings: for valid spaces that waste trials or mislead, and for no others."""

import pytest

from schedsearch.schedules import CURRENT_VERSION
from schedsearch.space import Space
from schedsearch.space.lint import lint_warnings
from tests.space.documents import LINEAR, searching, small

PENALTY = "hyperparameters__weights.penalty"


def warnings_of(content):
    return lint_warnings(Space.from_document(content, "file.toml"))


def test_a_good_space_has_no_warnings():
    assert warnings_of(small()) == []


@pytest.mark.parametrize(
    ("duration", "longest"),
    [(21, 21), ({"low": 5, "high": 30}, 30), ({"levels": [5, "150%"]}, 30), ("101%", None)],
)
def test_a_duration_beyond_the_horizon_gives_a_warning(duration, longest):
    lines = warnings_of(small(**{f"{PENALTY}__families__linear": {**LINEAR, "duration": duration}}))
    expected = f"weights.penalty.linear.duration may be {longest} epochs, but the horizon is 20"
    assert [line.split(":")[0] for line in lines] == ([expected] if longest else [])


def test_durations_of_inner_schedules_are_checked():
    inner = {"linear": {"initial": 0.0, "final": 1.0, "duration": 99}}
    [line] = warnings_of(searching({"scale": {"inner": inner, "factor": 2.0}}))
    assert line.startswith("u.scale.inner.linear.duration may be 99 epochs")


def test_invalid_samples_are_counted():
    ends = {"low": 0.0, "high": 1.0}
    clamp = {"low": ends, "high": ends, "inner": {"constant": {"value": 0.5}}}
    line, constant, *_ = warnings_of(searching({"clamp": clamp}))
    assert "u.clamp: most random samples keep one value" in constant
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
def test_fewer_than_ten_constants_give_a_warning_if_there_are_schedules(value, said):
    lines = warnings_of(with_constants(value, **RISING))
    assert [line.split(", so a")[0] for line in lines] == (
        [f"u: `constant` has only {said}"] if said else []
    )
    assert warnings_of(with_constants(value)) == []  # no schedule competes with them


@pytest.mark.parametrize(("high", "beyond"), [(0.2, True), (0.3, True), (0.5, False)])
def test_constants_that_do_not_cover_the_means_of_the_schedules_give_a_warning(high, beyond):
    # Each rises from 0 to between 0.5 and 1, so the means are between 0.25 and 0.5.
    lines = warnings_of(with_constants({"low": 0.0, "high": high}, **RISING))
    assert len(lines) == beyond
    assert all(line.startswith(f"u: `constant` ranges from 0 to {high}, but") for line in lines)


def test_a_decay_that_only_ends_below_the_constants_gives_no_warning():
    decay = {"exponential": {"initial": {"low": 0.5, "high": 1.0}, "decay_rate": 0.8}}
    assert warnings_of(with_constants({"low": 0.05, "high": 1.0, "log": True}, **decay)) == []


def test_each_member_of_a_group_is_compared_with_its_constants():
    group = {
        "members": ["weights.a", "weights.b"],
        "families": {
            "constant": {"value": {"low": 0.0, "high": 0.5}},
            "dwa": {"temperature": {"low": 0.5, "high": 10.0}},  # the weights sum to 2
        },
    }
    content = small(groups={"balance": group})
    lines = [line for line in warnings_of(content) if "`constant` ranges" in line]
    assert [line.split(":")[0] for line in lines] == ["weights.a", "weights.b"]


def unchanging(families, horizon, **table):
    """Return the warnings about schedules that are constants, without the key `u.`."""
    content = searching(families, horizon=horizon, search={"pruner": {"name": "none"}})
    content["hyperparameters"]["u"] |= table
    found = [line for line in warnings_of(content) if "keep one value" in line]
    return [line.removeprefix("u.") for line in found]


PARTS = {"initial": {"low": 0.1, "high": 0.9}}
RULE = {"reduce_on_plateau": {**PARTS, "patience": {"low": 2, "high": 5}}}
HALVING = {"exponential": {**PARTS, "decay_rate": 0.5}}


@pytest.mark.parametrize(
    ("families", "horizon", "remedy"),
    [
        (RULE, 3, "shorter durations"),
        ({"reduce_on_plateau": PARTS}, 11, "shorter durations"),
        ({"greedy": {**PARTS, "min_value": 0.0, "max_value": 1.0, "patience": 3}}, 4, "shorter"),
        ({"step": {**PARTS, "decay_rate": 0.5, "step_size": 4}}, 4, "shorter durations"),
        ({"multistep": {**PARTS, "decay_rate": 0.5, "milestones": [3]}}, 3, "shorter durations"),
        ({"cyclical": {**PARTS, "final": 0.0, "cycles": 4}}, 3, 'interval = "step"'),
        ({"warm_restarts": {**PARTS, "final": 0.0, "period": "30%"}}, 3, 'interval = "step"'),
        (HALVING, 1, 'interval = "step"'),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_schedules_that_do_not_change_within_the_horizon_give_a_warning(families, horizon, remedy):
    [line] = unchanging(families, horizon)
    epochs = "1 epoch," if horizon == 1 else f"{horizon} epochs,"
    assert line.startswith(f"{next(iter(families))}: most random samples keep one value within")
    assert f"the horizon of {epochs}" in line
    assert f"set {remedy}" in line
    assert unchanging(families, horizon, interval="step") == (
        [line] if "step" not in remedy else []
    )


@pytest.mark.parametrize(
    ("families", "horizon"),
    [
        # It is reduced for the first time after patience + 2 epochs.
        ({"reduce_on_plateau": {**PARTS, "patience": {"low": 2, "high": 3}}}, 6),
        ({"reduce_on_plateau": PARTS}, 13),
        ({"increment_on_improvement": {**PARTS, "increment": 0.1}}, 2),
        ({"cyclical": {**PARTS, "final": 0.0, "cycles": 2}}, 4),
        (HALVING, 2),
        ({"coupled": {"factor": {"constant": {"value": 0.5}}, "to": "lr"}}, 3),
    ],
)
def test_schedules_that_may_change_give_no_warning(families, horizon):
    content = {"lr": {"default": 0.1}} if "coupled" in families else {}
    space = searching(families, horizon=horizon)
    space["hyperparameters"] |= content
    assert [line for line in warnings_of(space) if "keep one value" in line] == []


def test_a_value_that_bounds_hold_is_a_constant():
    assert unchanging(HALVING, 3, bounds=[0.95, 1.0], default=0.96)


@pytest.mark.parametrize(
    ("family", "interval", "expected"),
    [
        (
            {"linear": {"duration": 10, "endpoint": True}},
            "epoch",
            "u.linear.endpoint has no effect",
        ),
        (
            {"scale": {"factor": 1.0, "inner": {"cosine": {"duration": 10, "endpoint": True}}}},
            "epoch",
            "u.scale.inner.cosine.endpoint has no effect, since `duration` is given in epochs",
        ),
        ({"linear": {"endpoint": {"levels": [True, False]}}}, "step", "the whole last epoch has"),
        ({"linear": {"endpoint": True}}, "epoch", None),
        (
            {"one_cycle": {"peak": 2.0, "rise": 3, "fall": "rest", "endpoint": True}},
            "epoch",
            None,
        ),
        ({"linear": {"duration": {"low": "5%", "high": "90%"}, "endpoint": True}}, "epoch", None),
        ({"linear": {"duration": 10}}, "step", None),
    ],
)
def test_an_endpoint_without_the_expected_effect_gives_a_warning(family, interval, expected):
    [name] = family
    table = family[name].get("inner", family)
    next(iter(table.values())).update(initial=1.0, final={"low": 0.0, "high": 0.5})
    content = searching(family)
    content["hyperparameters"]["u"]["interval"] = interval
    found = [line for line in warnings_of(content) if "endpoint" in line]
    assert len(found) == (expected is not None)
    assert all(expected in line for line in found)


@pytest.mark.parametrize(
    ("stable", "expected"),
    [
        (
            "70%",
            "come to 28 epochs, but the horizon is 20: `stable` is cut at the horizon and `decay`",
        ),
        (
            15,
            "come to 29 epochs, but the horizon is 20: `stable` is cut at the horizon and `decay`",
        ),
        (
            {"low": 7, "high": 9},
            "come to at least 21 epochs, but the horizon is 20: `decay` is cut",
        ),
        (
            {"low": "10%", "high": "40%"},
            "may come to 22 epochs, but the horizon is 20: then `decay`",
        ),
        ({"low": "10%", "high": "30%"}, None),
        ("30%", None),
        ("rest", None),
    ],
)
def test_phases_that_are_longer_than_the_horizon_give_a_warning(stable, expected):
    ends = {"initial": 0.0, "peak": {"low": 0.5, "high": 1.0}, "final": 0.0}
    phases = {"warmup": "50%", "stable": stable, "decay": "20%"}
    found = [
        line
        for line in warnings_of(searching({"warmup_stable_decay": ends | phases}))
        if "warmup, stable, decay" in line
    ]
    assert [line.startswith("u.warmup_stable_decay: ") for line in found] == [True] * bool(expected)
    assert all(expected in line for line in found)


CONSTANT = {"constant": {"value": 0.5}}


@pytest.mark.parametrize(
    ("families", "expected"),
    [
        ({"warmup": {"inner": CONSTANT, "duration": 20}}, "warmup.inner never begins"),
        (
            {"warmup": {"inner": CONSTANT, "duration": "100%"}},
            "takes 20 epochs, and the horizon is",
        ),
        (
            {"warmup": {"inner": CONSTANT, "duration": {"low": "10%", "high": "100%"}}},
            "warmup.inner may never begin: what precedes it may take 20 epochs",
        ),
        ({"warmup": {"inner": CONSTANT, "duration": {"low": "10%", "high": "99%"}}}, None),
        ({"join": {"schedules": [CONSTANT] * 2, "boundaries": [19]}}, None),
        ({"join": {"schedules": [CONSTANT] * 2, "boundaries": [20]}}, "join.schedules.1 never"),
        (
            {"scale": {"factor": 1.0, "inner": {"warmup": {"inner": CONSTANT, "duration": 20}}}},
            "u.scale.inner.warmup.inner never begins",
        ),
    ],
)
@pytest.mark.parametrize("interval", ["epoch", "step"])
def test_an_inner_schedule_that_never_begins_gives_a_warning(families, expected, interval):
    content = searching(families, schedule_version=CURRENT_VERSION)
    content["hyperparameters"]["u"]["interval"] = interval
    found = [line for line in warnings_of(content) if "never begin" in line]
    assert len(found) == (expected is not None)
    assert all(expected in line for line in found)


@pytest.mark.parametrize(
    ("family", "parameter", "is_reached"),
    [
        ({"noise": {"inner": CONSTANT, "begin": "100%"}}, "noise.begin", False),
        ({"noise": {"inner": CONSTANT, "begin": 19}}, "noise.begin", True),
        (
            {"multistep": {"initial": 1.0, "decay_rate": 0.5, "milestones": [5, 20]}},
            "multistep.milestones.1",
            False,
        ),
    ],
)
def test_a_time_at_the_horizon_gives_a_warning(family, parameter, is_reached):
    found = [line for line in warnings_of(searching(family)) if "is not reached" in line]
    assert [line.startswith(f"u.{parameter} ") for line in found] == [True] * (not is_reached)


FALLING = {"cosine": {"initial": 0.1, "final": -0.05}}


@pytest.mark.parametrize(
    ("name", "table", "lowest"),
    [
        ("lr", {"families": FALLING}, -0.04908),
        ("lr", {"families": FALLING, "interval": "step"}, -0.04994),
        ("lr", {"families": FALLING, "bounds": [0.0, 1.0]}, None),
        ("lr", {"families": {"constant": {"value": -0.1}}}, -0.1),
        ("head.weight_decay", {"families": {"scale": {"factor": -1.0, "inner": FALLING}}}, -0.1),
        ("momentum", {"families": {"cosine": {"initial": 0.9, "final": 0.0}}}, None),
        ("weights.lr", {"families": FALLING}, None),
        ("u", {"families": FALLING}, None),
    ],
)
def test_a_setting_that_falls_below_0_gives_a_warning(name, table, lowest):
    content = searching({}) | {"hyperparameters": {name: table}}
    found = [line for line in warnings_of(content) if "at least 0" in line]
    expected = [] if lowest is None else [f"{name} falls to {lowest}, but must be at least 0"]
    assert [line.split(":")[0] for line in found] == expected


def test_a_setting_that_follows_another_one_below_0_is_counted_in_samples():
    factor = {"constant": {"value": {"low": -1.0, "high": 1.0}}}
    constant = {"constant": {"value": {"low": 0.1, "high": 1.0}}}
    coupled = {"coupled": {"to": "u", "factor": factor}}
    content = searching({})
    content["hyperparameters"]["lr"] = {"default": 0.1, "families": constant | coupled}
    [line] = [line for line in warnings_of(content) if "at least 0" in line]
    count = int(line.split(" in ")[1].split(" of 20 ")[0])
    assert 0 < count < 20
