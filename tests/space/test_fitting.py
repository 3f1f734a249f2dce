"""What only the task can tell: whether it has what the space moves, follows and measures."""

import pytest

from schedsearch.errors import FileError
from schedsearch.space import Space
from schedsearch.space.findings import findings
from schedsearch.space.fitting import fit
from tests.space.documents import LINEAR, searching, small

PENALTY = "hyperparameters__weights.penalty"
TOY = "tests.engines.toys:Toy"


def mistakes(content):
    with pytest.raises(FileError) as refused:
        fit(Space.from_document(content, "file.toml"), "file.toml")
    return [str(problem) for problem in refused.value.problems]


def test_a_space_that_fits_gets_the_defaults_of_the_task():
    content = small(hyperparameters__momentum={"bounds": [0.0, 1.0]})
    fitted = fit(Space.from_document(content, "file.toml"), "file.toml")
    assert fitted.document.hyperparameters["momentum"].default is not None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "tests.engines.toyz:Toy"}, "task = 'tests.engines.toyz:Toy': there is no module"),
        ({"task": "tests.engines.toys:Toi"}, "has no `Toi`: did you mean `Toy`?"),
        ({"task": "tests.engines.toys:plain"}, "task = 'tests.engines.toys:plain': the function"),
        ({"task": "math:pi"}, "is not a task"),
        ({"arguments": {"width": 3}}, "unexpected keyword argument"),
        (
            {"objective__metric": "val_lost"},
            "gives no such metric (hint: did you mean `val_loss`?)",
        ),
        (
            {"objective__metric": "accuracy"},
            "objective.metric = 'accuracy': the task gives no such",
        ),
        (
            {"hyperparameters__momentom": {"default": 0.5}},
            "hyperparameters.momentom: the task has no such hyperparameter "
            "(hint: did you mean `momentum`?)",
        ),
        (
            {"hyperparameters__weights.q": {"default": 0.5}},
            "hyperparameters.weights.q: the task has",
        ),
        (
            {"hyperparameters__momentum": {"bounds": [5.0, 6.0]}},
            "must lie within the bounds [5.0, 6.0]",
        ),
        (
            {f"{PENALTY}__families__geco": {"term": "pennalty", "tolerance": 1.0, "rate": 0.1}},
            "follows the loss term `pennalty`, which the task does not give "
            "(hint: did you mean `penalty`?)",
        ),
    ],
)
def test_what_does_not_fit_is_told(changes, message):
    [line] = mistakes(small(**changes))
    assert message in line


def test_all_that_does_not_fit_is_told_at_once():
    told = mistakes(
        small(
            objective__metric="x",
            hyperparameters__y={"default": 1.0},
            hyperparameters__momentum={"bounds": [5.0, 6.0]},
        )
    )
    assert len(told) == 3


def test_a_loop_of_ones_own_is_known_by_its_hyperparameters_alone():
    told = mistakes(small(task="tests.engines.toys:train_toy", hyperparameters__y={"default": 1.0}))
    assert [line.split(":")[0] for line in told] == ["hyperparameters.y"]


# --- findings -------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("value", "remarks"),
    [({"low": 0.1, "high": 1.0}, 1), ({"levels": [0.1, 0.2]}, 0), (0.1, 0)],
)
def test_a_learning_rate_over_a_continuum_is_remarked(value, remarks):
    lines = found(small(hyperparameters__lr={"families": {"constant": {"value": value}}}))
    assert len(lines) == remarks
