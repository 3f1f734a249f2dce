"""What only the task can tell: whether it has what the space moves, follows and measures."""

import pytest

from schedsearch.compatibility import validate_against_task
from schedsearch.errors import FileError
from schedsearch.files import write_document
from schedsearch.preparation import load_space
from schedsearch.space import Space
from tests.space.documents import small

PENALTY = "hyperparameters__weights.penalty"


def mistakes(content):
    with pytest.raises(FileError) as refused:
        validate_against_task(Space.from_document(content, "file.toml"), "file.toml")
    return [str(problem) for problem in refused.value.problems]


def test_a_space_that_fits_gets_the_defaults_of_the_task():
    content = small(hyperparameters__momentum={"bounds": [0.0, 1.0]})
    fitted = validate_against_task(Space.from_document(content, "file.toml"), "file.toml")
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


def test_a_flag_for_a_table_that_is_none_leaves_the_mistake_to_be_told(tmp_path):
    write_document(tmp_path / "a.toml", small(search=3))
    with pytest.raises(FileError, match="search = 3: must be a table"):
        load_space(tmp_path / "a.toml", {"search.sampler.name": "grid"})


def test_flags_go_before_the_file(tmp_path):
    write_document(tmp_path / "a.toml", small(search={"trials": 7, "seed": 1}))
    space = load_space(tmp_path / "a.toml", {"search.trials": 9, "search.seed": None, "name": "b"})
    assert (space.name, space.search.trials, space.search.seed) == ("b", 9, 1)
