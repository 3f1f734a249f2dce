"""Searches from Python: the study as an object, and tasks that are given as objects."""

from __future__ import annotations

import dataclasses
import sys
import threading
import types
from importlib.machinery import SourceFileLoader

import pandas
import pytest

import schedsearch
from schedsearch.errors import InputError, SchedSearchError, StudyError, TaskError
from schedsearch.interactive.python_words import in_python
from schedsearch.storage import get_only_study, open_database
from schedsearch.storage.opening import study_names
from schedsearch.study_task import load_study_task
from schedsearch.task import reference_of
from tests import searches
from tests.cli.command import Command
from tests.engines.toys import Toy
from tests.explanation import tasks
from tests.searches import url_of


def content_of(task=searches.train, **search):
    content = searches.document(task, **search)
    return {**content, "task": task, "name": "small"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("studies")


@pytest.fixture(scope="module")
def study(folder):
    return schedsearch.search(content_of(), trials=12, storage=url_of(folder))


def test_it_searches_in_this_process_and_returns_the_study(study, folder):
    trials = study.trials()
    assert [trial.number for trial in trials[:3]] == [0, 1, 2]
    complete = [trial for trial in trials if trial.state == "complete"]
    assert study.best.value == min(trial.value for trial in complete)
    constants = [trial for trial in complete if trial.constant]
    assert study.best_constant.value == min(trial.value for trial in constants)
    with pytest.raises(dataclasses.FrozenInstanceError):
        trials[0].value = 0.0
    assert get_only_study(open_database(url_of(folder))).space.task == "tests.searches:train"


def test_its_table_has_a_row_for_each_trial(study):
    frame = study.frame()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.index) == [trial.number for trial in study.trials()]
    assert frame.loc[0, "plan"].startswith("lr: constant(value=0.1)")


def test_without_pandas_it_says_what_to_install(study, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match="pip install pandas"):
        study.frame()


def test_it_shows_what_the_commands_show(study, folder, monkeypatch, capsys):
    monkeypatch.setenv("SCHEDSEARCH_STORAGE", url_of(folder))
    run = Command(monkeypatch, capsys)
    assert repr(study) == run("status", "small").out.strip()
    config = study.export(folder / "best.toml")
    run("export", "small", "-o", str(folder / "same.toml"))
    assert (folder / "best.toml").read_text() == (folder / "same.toml").read_text()
    assert config.scheduler().values["lr"] > 0


def test_it_draws_and_returns_curves(study):
    assert study.plot().axes
    assert study.plot("best").axes
    assert study.curves(0).constants["lr"] == pytest.approx(0.1)
    assert len(study.curves().metric) == 9
    with pytest.raises(StudyError, match="has no explanation yet"):
        study.plot("explanation")


def test_the_same_call_continues_and_more_trials_are_added(study, folder):
    again = schedsearch.search(content_of(), trials=14, storage=url_of(folder))
    assert len(again.trials()) == 14
    assert len(study.trials()) == 14  # it reads the present state


def test_in_another_thread_it_searches_too(tmp_path):
    found = []

    def search():
        found.append(schedsearch.search(content_of(), trials=3, storage=url_of(tmp_path)))

    thread = threading.Thread(target=search)
    thread.start()
    thread.join()
    assert len(found[0].trials()) == 3


def test_it_confirms_and_explains(tmp_path):
    content = tasks.content_of(tasks.train_by_decay)
    content["hyperparameters"].pop("reg")
    study = schedsearch.search(content, trials=20, storage=url_of(tmp_path))
    confirmed = study.confirm(top=1, seeds=6)
    assert confirmed.data["plans"][0]["verdict"] == "better"
    assert "is better than each of" in repr(confirmed)
    explained = study.explain(seeds=8)
    assert explained.data["trial"] == confirmed.data["plans"][0]["number"]
    assert "which schedule carries the gain?" in repr(explained)
    assert study.plot("explanation").axes


# --- tasks as objects ----------------------------------------------------------------------------


def in_notebook(monkeypatch, tmp_path, source, name="train"):
    """Define a function as a cell of a notebook does, and return it."""
    file = tmp_path / f"cell{abs(hash(source))}.py"
    file.write_text(source)
    main = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    SourceFileLoader("__main__", str(file)).exec_module(main)
    return getattr(main, name)


CELL = """
import math

def helper(x):
    return x + {number}

def train(run):
    for _, hp in run:
        run.report(val_loss=helper(hp["lr"]) + math.pi)
train.hyperparameters = {{"lr": 0.1}}
"""


def test_a_task_of_a_notebook_trains_here_and_is_known_by_its_definitions(tmp_path, monkeypatch):
    train = in_notebook(monkeypatch, tmp_path, CELL.format(number=1))
    study = schedsearch.search(content_of(train), trials=3, storage=url_of(tmp_path))
    assert study.space.task == "__main__:train"
    handle = get_only_study(open_database(url_of(tmp_path)))
    names = {"code:helper of __main__", "code:train of __main__"}
    assert names <= set(handle.record.parts)
    assert load_study_task(handle) is train

    same = in_notebook(monkeypatch, tmp_path, CELL.format(number=1) + "\n# a comment\n")
    schedsearch.search(content_of(same), trials=4, storage=url_of(tmp_path))
    other = in_notebook(monkeypatch, tmp_path, CELL.format(number=2))
    with pytest.raises(StudyError, match="helper of __main__ differs"):
        schedsearch.search(content_of(other), trials=5, storage=url_of(tmp_path))


def test_other_processes_are_not_asked_to_import_a_task_of_a_notebook(tmp_path, monkeypatch):
    train = in_notebook(monkeypatch, tmp_path, CELL.format(number=1))
    with pytest.raises(InputError, match="other processes cannot import __main__:train"):
        schedsearch.search(content_of(train), trials=3, storage=url_of(tmp_path), workers=1)
    # Nothing was written.
    assert not (tmp_path / "studies.db").exists()
    study = schedsearch.search(content_of(train), trials=3, storage=url_of(tmp_path))
    for ask in (study.confirm, study.explain):
        with pytest.raises(InputError, match="other processes cannot import __main__:train"):
            ask(workers=1)
    assert study_names(open_database(url_of(tmp_path))) == ["small"]


def test_fewer_trials_than_a_study_has_are_a_warning(study, folder, capsys):
    schedsearch.search(content_of(), trials=5, storage=url_of(folder))
    assert "warning: trials is 5, but study small has 1" in capsys.readouterr().err


def test_an_export_prints_what_is_known_of_its_plan(study, capsys):
    study.export()
    assert "not confirmed: the value comes from the search" in capsys.readouterr().err


def test_messages_name_the_arguments_and_methods_of_python(study, folder, tmp_path, capsys):
    capsys.readouterr()
    study.export()
    assert "test it on fresh seeds with `study.confirm()`" in capsys.readouterr().err
    for call, words in (
        (
            lambda: study.confirm(top=1, seeds=3),
            "^seeds is 3, but must be at least 6 .* lower top$",
        ),
        (lambda: study.explain(margin=0.0), "^margin is 0, but must be"),
        (lambda: study.explain(trial=0), r"hint: trial=NUMBER explains another one\)$"),
        (lambda: study.plot("confirmation"), "has no confirmation yet: run `study.confirm\\(\\)`$"),
        (
            lambda: schedsearch.search(
                content_of(seeds=3) | {"task": Toy}, storage=url_of(tmp_path), lanes=2
            ),
            "^lanes is 2, but must be at least 3",
        ),
    ):
        with pytest.raises(SchedSearchError, match=words):
            call()
    schedsearch.search(content_of() | {"task": Toy}, trials=2, storage=url_of(tmp_path))
    said = capsys.readouterr().err
    assert "are too few to train several at once; lanes=N does it anyway" in said
    assert "--" not in said


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("raise --trials of `schedsearch start`", "raise trials of `schedsearch.search`"),
        (
            "`schedsearch start FILE --trials 80` tries so many, and --also adds a constant",
            "`schedsearch.search(..., trials=80)` tries so many, and `schedsearch start --also` "
            "adds a constant",
        ),
        (
            "create another study with --study NAME, or delete it with `schedsearch delete a--top`",
            "create another study with study=NAME, or delete it with `schedsearch delete a--top`",
        ),
        ("`schedsearch explain small` may help with more --seeds", "`study.explain()` may help "),
        ("--lanes 32 is too many; --lanes auto chooses fewer", "lanes=32 is too many; lanes=None "),
        ("give that study in --from", "give that study in from_studies"),
        ("--pruner none stops no trial", 'the pruner "none" stops no trial'),
    ],
)
def test_an_option_becomes_an_argument_and_a_command_a_method(message, words):
    assert in_python(message).startswith(words)


def test_the_best_plan_is_shown_in_one_line(study):
    shown, best = repr(study.best), study.best
    assert shown.startswith(f"Best(number={best.number}, value={best.value:.5g}")
    assert shown.endswith(f"among={best.among}, {study.trials()[best.number].to_row()['plan']})")


def test_a_picture_that_does_not_exist_is_refused_with_those_that_do(study):
    with pytest.raises(InputError, match=r"no picture 'bst': give a trial's number, or .*\"best\""):
        study.plot("bst")


def test_a_task_without_source_and_what_is_no_task_are_refused(tmp_path, monkeypatch):
    train = in_notebook(monkeypatch, tmp_path, CELL.format(number=1))
    train.__code__ = train.__code__.replace(co_filename="<stdin>")  # as an interpreter names it
    with pytest.raises(InputError, match="its source is not known"):
        schedsearch.search(content_of(train), trials=3, storage=url_of(tmp_path))
    with pytest.raises(TaskError, match="give the class or the function itself"):
        reference_of(3)


def test_a_file_whose_code_is_elsewhere_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = searches.write_space(tmp_path, searches.document())
    with pytest.raises(InputError, match="give it as `task`"):
        schedsearch.search(path, trials=2, storage=url_of(tmp_path))


def test_a_hanging_epoch_cannot_be_stopped_here(tmp_path):
    content = content_of(epoch_timeout=5.0)
    with pytest.raises(InputError, match="give workers = 1 or more"):
        schedsearch.search(content, trials=2, storage=url_of(tmp_path))
