"""Validation of a space against its task: hyperparameters, loss terms and metrics."""

import pytest

from schedsearch.compatibility import validate_against_task
from schedsearch.errors import FileError
from schedsearch.files import write_document
from schedsearch.preparation import load_space
from schedsearch.space import Space
from tests.space.documents import small

PENALTY = "hyperparameters__weights.penalty"


def problems_of(content):
    with pytest.raises(FileError) as refused:
        validate_against_task(Space.from_document(content, "file.toml"), "file.toml")
    return [str(problem) for problem in refused.value.problems]


def negative(run):
    """A training loop with a mistake in its defaults."""


negative.hyperparameters = {"lr": -0.1}


def test_a_negative_default_of_the_task_is_refused_unless_the_file_has_one():
    constant = {"value": {"low": 0.01, "high": 0.5, "log": True}}
    content = small(task="tests.test_compatibility:negative") | {
        "hyperparameters": {"lr": {"families": {"constant": constant}}}
    }
    assert problems_of(content) == [
        "hyperparameters.lr.default: must be greater than 0, as all its constants are: trial 0 "
        "trains with it (hint: the task's default is -0.1: set one in the file)"
    ]
    content["hyperparameters"]["lr"]["default"] = 0.1
    space = Space.from_document(content, "file.toml")
    assert validate_against_task(space, "file.toml").document.hyperparameters["lr"].default == 0.1


def test_a_valid_space_gets_the_defaults_of_the_task():
    content = small(hyperparameters__momentum={"bounds": [0.0, 1.0]})
    validated = validate_against_task(Space.from_document(content, "file.toml"), "file.toml")
    assert validated.document.hyperparameters["momentum"].default is not None


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
            "has no such metric (hint: did you mean `val_loss`?)",
        ),
        (
            {"objective__metric": "accuracy"},
            "objective.metric = 'accuracy': the task has no such",
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
            "hyperparameters.weights.penalty.families.geco.term = 'pennalty': the task has no such "
            "loss term (hint: did you mean `penalty`?)",
        ),
    ],
)
def test_a_space_that_does_not_match_its_task_is_refused(changes, message):
    [line] = problems_of(small(**changes))
    assert message in line


def test_all_problems_are_reported_at_once():
    found = problems_of(
        small(
            objective__metric="x",
            hyperparameters__y={"default": 1.0},
            hyperparameters__momentum={"bounds": [5.0, 6.0]},
        )
    )
    assert len(found) == 3


def test_a_train_function_is_validated_by_its_hyperparameters_only():
    found = problems_of(
        small(task="tests.engines.toys:train_toy", hyperparameters__y={"default": 1.0})
    )
    assert [line.split(":")[0] for line in found] == ["hyperparameters.y"]


def test_a_flag_for_a_key_that_is_not_a_table_does_not_hide_the_error_of_the_file(tmp_path):
    write_document(tmp_path / "a.toml", small(search=3))
    with pytest.raises(FileError, match="search = 3: must be a table"):
        load_space(tmp_path / "a.toml", {"search.sampler.name": "grid"})


def test_flags_override_the_file(tmp_path):
    write_document(tmp_path / "a.toml", small(search={"trials": 7, "seed": 1}))
    space = load_space(tmp_path / "a.toml", {"search.trials": 9, "search.seed": None, "name": "b"})
    assert (space.name, space.search.trials, space.search.seed) == ("b", 9, 1)
