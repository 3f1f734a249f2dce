"""`interval = "step"`: durations may be parts of an epoch, and the rest of a space follows."""

from __future__ import annotations

from typing import Any

import pytest

from schedsearch.errors import FileError
from schedsearch.plan import Plan
from schedsearch.report.space_summary import space_json, space_lines
from schedsearch.space import Space
from schedsearch.space.lint import lint_warnings
from schedsearch.space.prefix_sharing import estimate_prefix_sharing
from schedsearch.space.suggesters import FixedSuggester, RandomSuggester
from tests.space.documents import searching

LINEAR: dict[str, Any] = {"initial": 0.1, "final": {"low": 0.5, "high": 1.0}}
WARMUP: dict[str, Any] = {
    "warmup": {
        "duration": {"low": "3%", "high": "20%"},
        "inner": {"cosine": {"initial": 0.5, "final": 0.1}},
    }
}


def space_of(families: dict[str, Any], interval: str | None = "step", **others: Any) -> Space:
    content = searching(families, horizon=3, **others)
    if interval is not None:
        content["hyperparameters"]["u"]["interval"] = interval
    return Space.from_document(content, "file.toml")


def with_duration(duration: Any, interval: str | None = "step") -> Space:
    return space_of({"linear": {**LINEAR, "duration": duration}}, interval)


def problem_of(duration: Any, interval: str | None = "epoch") -> str:
    with pytest.raises(FileError) as refused:
        with_duration(duration, interval)
    return str(refused.value)


@pytest.mark.parametrize(
    ("duration", "key"),
    [
        (0.3, "duration"),
        ({"low": 1, "high": 2.5}, "duration.high"),
        ({"levels": [1, 1.5]}, "duration.levels.1"),
    ],
)
def test_parts_of_an_epoch_need_the_interval_step(duration: Any, key: str) -> None:
    message = problem_of(duration)
    assert f"hyperparameters.u.families.linear.{key} = " in message
    assert "must be a whole number of epochs, or a share of the horizon" in message
    assert 'interval = "step"' in message
    assert with_duration(duration).hyperparameters["u"].options["linear"]


def test_a_range_of_epochs_is_continuous_by_the_step_and_whole_with_a_step_of_1() -> None:
    def size(interval: str, **of: Any) -> float:
        families = with_duration({"low": 1, "high": 3, **of}, interval).hyperparameters["u"]
        return families.options["linear"].domains["duration"].size()

    assert size("epoch") == size("step", step=1) == 3
    assert size("step") == float("inf")


def test_a_patience_is_whole_at_every_interval() -> None:
    with pytest.raises(FileError, match=r"patience = 1\.5: must be a whole number of epochs"):
        space_of({"reduce_on_plateau": {"initial": 0.5, "patience": 1.5}})


def test_a_wrong_interval_is_one_problem() -> None:
    message = problem_of(0.3, "steps")
    assert (
        "u.interval = 'steps': must be one of epoch, step (hint: did you mean `step`?)" in message
    )
    assert len(message.splitlines()) == 1


def test_a_member_of_a_group_changes_at_epochs() -> None:
    group = {"members": ["weights.a", "weights.b"], "families": {"constant": {"value": 1.0}}}
    content = searching({}, groups={"both": group})
    content["hyperparameters"]["weights.a"] = {"default": 1.0, "interval": "step"}
    message = (
        "hyperparameters.weights.a.interval = 'step': must be \"epoch\": it is a member of "
        "groups.both"
    )
    with pytest.raises(FileError, match=message):
        Space.from_document(content, "file.toml")


def test_the_interval_epoch_is_the_default_and_not_recorded() -> None:
    """So that records of studies stay as they were before there were intervals."""
    unset, epoch = with_duration("10%", None), with_duration("10%", "epoch")
    assert unset.to_document() == epoch.to_document()
    assert "interval" not in unset.to_document()["hyperparameters"]["u"]
    step = with_duration("10%").to_document()
    assert step["hyperparameters"]["u"]["interval"] == "step"
    assert Space.from_document(step, "file.toml").to_document() == step


def test_suggested_plans_have_the_interval() -> None:
    space = with_duration({"low": 0.1, "high": 0.9})
    plan = space.suggest(RandomSuggester(3))
    assert plan.intervals == {"u": "step"}
    assert Plan.from_tables(plan.to_tables()) == plan
    values = {"u.family": "linear", "u.linear.final": 0.5, "u.linear.duration": 0.3}
    resolved = space.suggest(FixedSuggester(values)).resolve(3, seed=0)
    assert resolved.evaluate(resolved.start(), 0.15)[0]["u"] == pytest.approx(0.3)


# --- check ---------------------------------------------------------------------------------------

ALWAYS = 'is always 1 epoch: set interval = "step", or a longer horizon'


def always(space: Space) -> list[str]:
    return [line for line in lint_warnings(space) if "is always" in line]


def test_a_range_of_durations_with_one_value_gives_a_warning_also_within_combinators() -> None:
    inner = {"cosine": {"initial": 0.5, "final": 0.1, "duration": {"levels": ["20%", "60%"]}}}
    families = {"warmup": {**WARMUP["warmup"], "inner": inner}}
    assert always(space_of(families, "epoch")) == [
        f"u.warmup.duration from 3% to 20% of 3 epochs {ALWAYS}",
        f"u.warmup.inner.cosine.duration one of 20%, 60% of 2 epochs {ALWAYS}",
    ]
    assert always(space_of(families)) == []


@pytest.mark.parametrize("duration", ["3%", 1, {"low": 1, "high": 2}, {"low": "3%", "high": "60%"}])
def test_one_value_and_ranges_with_several_give_no_warning(duration: Any) -> None:
    assert always(with_duration(duration, "epoch")) == []


def test_a_count_of_epochs_is_rounded_at_every_interval() -> None:
    patience = {"low": "2%", "high": "5%"}
    [line] = always(space_of({"reduce_on_plateau": {"initial": 0.5, "patience": patience}}))
    assert "u.reduce_on_plateau.patience from 2% to 5% of 3 epochs is always 1 epoch" in line
    assert "step" not in line


def test_a_duration_longer_than_what_a_combinator_leaves_gives_a_warning() -> None:
    inner = {"linear": {"initial": 0.5, "final": 0.1, "duration": 3}}
    lines = lint_warnings(space_of({"warmup": {"duration": 1, "inner": inner}}, "epoch"))
    assert any(
        "u.warmup.inner.linear.duration may be 3 epochs, but only 2 epochs of the horizon" in line
        for line in lines
    )


@pytest.mark.parametrize(
    ("pruner", "reason"),
    [
        ({"name": "asha"}, "its first rung, after search.pruner.min_epochs = 5, is not before"),
        ({"name": "hyperband", "min_epochs": 3}, "its first rung, after search.pruner.min_epochs"),
        ({"name": "median"}, "its first decision, after search.pruner.min_epochs = 5, is not"),
        ({"min_epochs": 1, "protected": "100%"}, "protected = '100%' covers the horizon"),
        ({"name": "asha", "min_epochs": 1, "protected": 2}, "its last rung before the hor"),
        ({"name": "asha", "rungs": [3, "100%"]}, "no rung of search.pruner.rungs = [3, '100%'] is"),
        ({"name": "asha", "rungs": [1], "protected": 2}, "its last rung before the horizon is"),
        ({}, "its first decision, after search.pruner.min_epochs = 5, is not"),
        ({"min_epochs": 1, "startup_trials": 100}, "100 trials must be complete first"),
        ({"name": "patient", "min_epochs": 1}, "after search.pruner.patience + 2 = 7 epochs"),
        (
            {"name": "median", "min_epochs": 1, "startup_trials": 100},
            "startup_trials = 100 trials must be complete first, and search.trials is 100",
        ),
        ({"min_epochs": 1, "audit": 1}, "search.pruner.audit = 1 trains every schedule in full"),
    ],
)
def test_a_pruner_that_never_acts_gives_a_warning(pruner: dict[str, Any], reason: str) -> None:
    lines = lint_warnings(space_of(WARMUP, search={"pruner": pruner}))
    [line] = [line for line in lines if "never stops a trial" in line]
    assert reason in line


@pytest.mark.parametrize(
    "pruner",
    [
        {"min_epochs": 2},
        {"min_epochs": 1, "reduction_factor": 2, "protected": 2},
        {"name": "hyperband", "min_epochs": 1, "protected": 2},
        {"name": "median", "min_epochs": 2},
        {"name": "patient", "min_epochs": 1, "patience": 0},
        {"name": "none"},
    ],
)
def test_a_pruner_that_may_act_gives_no_warning(pruner: dict[str, Any]) -> None:
    lines = lint_warnings(space_of(WARMUP, search={"pruner": pruner}))
    assert not [line for line in lines if "never stops a trial" in line]


@pytest.mark.parametrize(
    ("interval", "phases"),
    [
        ("epoch", "duration 1 epoch; inner.cosine.duration 2 epochs"),
        ("step", "duration 0.09 to 0.6 epochs; inner.cosine.duration 2.4 to 2.91 epochs"),
    ],
)
def test_the_summary_says_what_durations_come_to(interval: str, phases: str) -> None:
    space = space_of(WARMUP, interval)
    [line] = [line for line in space_lines(space) if line.strip().startswith("phases")]
    assert line.split("phases")[1].strip() == phases
    [head] = [line for line in space_lines(space) if line.startswith("u  (")]
    assert ("changes at each optimizer step" in head) == (interval == "step")


def test_the_phases_within_one_epoch_are_not_rounded() -> None:
    content = searching(WARMUP, horizon=1)
    content["hyperparameters"]["u"]["interval"] = "step"
    space = Space.from_document(content, "file.toml")
    phases = space_json(space)["hyperparameters"]["u"]["phases"]["warmup"]
    assert phases["inner.cosine.duration"] == pytest.approx([0.8, 0.97])


def test_the_json_has_the_phases_in_epochs() -> None:
    found = space_json(space_of(WARMUP))["hyperparameters"]["u"]["phases"]["warmup"]
    assert found["duration"] == pytest.approx([0.09, 0.6])
    assert found["inner.cosine.duration"] == pytest.approx([2.4, 2.91])


# --- estimates -----------------------------------------------------------------------------------


def test_plans_that_differ_only_within_the_first_epoch_share_nothing() -> None:
    families = {"linear": {"initial": 0.5, "final": {"levels": [0.6, 0.7]}, "duration": 0.5}}
    content = searching(families, horizon=3)
    content["hyperparameters"]["u"] |= {"interval": "step"}
    content["hyperparameters"]["u"]["families"]["constant"]["value"] = 0.5
    found = estimate_prefix_sharing(Space.from_document(content, "file.toml"), 100, seed=0)
    # Three plans with the same value at the beginning, of 3 epochs each.
    assert found.reuse == pytest.approx(1 - 9 / 300)


def test_the_mean_of_a_schedule_counts_its_values_within_epochs() -> None:
    """At the beginning of each epoch the triangle is at its lowest value, 0."""
    triangle = {"initial": 0.0, "peak": 0.8, "rise": 0.5, "fall": 0.5}
    content = searching({"triangular": triangle}, horizon=3, search={"pruner": {"name": "none"}})
    content["hyperparameters"]["u"]["interval"] = "step"
    constant = content["hyperparameters"]["u"]["families"]["constant"]
    constant["value"] = {"low": 0.35, "high": 0.45}
    assert lint_warnings(Space.from_document(content, "file.toml")) == []
    constant["value"] = {"low": 0.0, "high": 0.1}
    [line] = lint_warnings(Space.from_document(content, "file.toml"))
    assert "the means of its schedules from 0.4 to 0.4" in line
