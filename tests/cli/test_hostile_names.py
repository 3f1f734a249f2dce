"""A database of another person deletes no file, whichever command reads it."""

from __future__ import annotations

import json
import os

import pytest
from sqlalchemy import text

from schedsearch.report.dashboard_artifacts import DashboardArtifacts
from tests.cli.command import Command
from tests.searches import begin, document, make_study, url_of, work, write_space

VICTIMS = ["/{folder}/victim", "../victim", "sub/../../victim", "victim\0", "\u2024\u2024/victim"]


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SCHEDSEARCH_STORAGE", url_of(tmp_path))
    return Command(monkeypatch, capsys)


@pytest.fixture
def study(tmp_path):
    study = make_study(tmp_path)
    work(study)
    return study


@pytest.fixture
def victim(tmp_path):
    (tmp_path / "studies.db.pictures" / "sub").mkdir(parents=True)
    path = tmp_path / "victim"
    path.write_text("precious")
    return path


def name_artifact(study, trial, artifact_id):
    """Name an artifact in the attributes of a study, where commands look for pictures."""
    storage = study.database.optuna
    key = f"dashboard:artifacts:{trial._trial_id}:{artifact_id}"
    about = json.dumps({"artifact_id": artifact_id, "filename": "x", "mimetype": "image/png"})
    storage.set_study_system_attr(study.study_id, key, about)


@pytest.mark.parametrize("name", VICTIMS, ids=ascii)
def test_delete_removes_no_file_that_is_not_a_picture(run, study, victim, tmp_path, name):
    name_artifact(study, study.trial(1), name.format(folder=tmp_path))
    done = run("delete", "small", "--yes")
    assert (done.status, done.err) == (0, "deleted study small\n")
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("name", VICTIMS, ids=ascii)
def test_attach_removes_no_file_that_is_not_a_picture(run, study, victim, tmp_path, name):
    trial = study.complete_trials()[0]
    name_artifact(study, trial, name.format(folder=tmp_path))
    assert run("plot", f"small/{trial.number}", "--attach").status == 0
    assert victim.read_text() == "precious"


@pytest.mark.parametrize(
    "about", ["", "7", "[]", "null", "{}", '{"artifact_id": ["../victim"]}', "[" * 10**5]
)
def test_an_attribute_that_describes_no_artifact_is_ignored(run, study, about):
    key = f"dashboard:artifacts:{study.trial(1)._trial_id}:x"
    study.database.optuna.set_study_system_attr(study.study_id, key, about)
    assert run("delete", "small", "--yes").status == 0


def test_a_linked_folder_of_pictures_is_refused_in_one_line(run, study, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "studies.db.pictures").symlink_to(home)
    trial = study.complete_trials()[0]
    picture = "01234567-89ab-cdef-0123-456789abcdef"
    (home / picture).write_text("precious")
    done = run("plot", f"small/{trial.number}", "--attach")
    assert done.status == 2
    assert "studies.db.pictures: is a link, so no file is read or written there" in done.err
    assert done.err.count("\n") == 1
    assert run("dashboard", "--port", 0).status == 2
    name_artifact(study, trial, picture)
    done = run("delete", "small", "--yes")
    assert done.status == 0
    first, last = done.err.splitlines()
    assert first.startswith("warning: the pictures of the study are not removed: ")
    assert last == "deleted study small"
    assert [file.name for file in home.iterdir()] == [picture]


def test_a_folder_of_pictures_of_another_user_is_refused(run, study, tmp_path, monkeypatch):
    folder = tmp_path / "studies.db.pictures"
    folder.mkdir()
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    done = run("plot", f"small/{study.complete_trials()[0].number}", "--attach")
    assert done.status == 2
    assert "belongs to another user" in done.err
    assert not list(folder.iterdir())


def test_a_refused_folder_of_pictures_does_not_stop_a_search(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "studies.db.pictures").symlink_to(tmp_path / "home")
    study = make_study(tmp_path)
    ears = work(study, best_trial_callback=DashboardArtifacts(study))
    assert study.queue.counts().finished == 10
    assert all("is a link" in line for line in ears.wrong)
    assert not list((tmp_path / "home").iterdir())


# --- sizes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (("numerics", '{"threads": 1000000000}'), "`threads` (1 to 4096)"),
        (("numerics", '{"lanes": 99999999999}'), "`lanes` (1 to 65536)"),
        (("numerics", '{"threads": true}'), "`threads` (1 to 4096)"),
        (("numerics", '{"device": ["cpu"]}'), "a table with `engine`, `device`"),
        (("numerics", "[]"), "is [], but must be a table"),
        (("trials", "1e300"), "is 1e+300, but must be a number of trials"),
        (("trials", "99999999999999"), "is 99999999999999, but must be a number of trials"),
        (("fingerprint", "7"), "is 7, but must be text"),
    ],
)
def test_a_record_with_an_impossible_value_is_refused_in_one_line(run, study, change, rule):
    key, value = change
    with study.database.engine.begin() as connection:
        connection.execute(
            text("UPDATE study_user_attributes SET value_json = :v WHERE key = :k"),
            {"k": key, "v": value},
        )
    for command in (("status", "small"), ("worker", "small")):
        done = run(*command)
        assert done.status == 1
        assert done.err.startswith(f"error: study `small`: the attribute `{key}` is ")
        assert rule in done.err
        assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE trials SET number = 99999999999 WHERE number = 3",
        "UPDATE trials SET number = -1 WHERE number = 3",
        "UPDATE trial_values SET objective = 9999999999",
    ],
)
def test_a_number_that_no_trial_can_have_is_not_allocated(run, study, statement):
    with study.database.engine.begin() as connection:
        connection.execute(text(statement))
    done = run("worker", "small")
    assert done.status == 2
    # The worker reads other trials only for its last line: it has none to train.
    assert done.err.splitlines()[-1].startswith("error: the database is damaged: ")
    assert "Traceback" not in done.err


# --- a task that changes the current folder ------------------------------------------------------

MOVING = """
import os
from pathlib import Path

ELSEWHERE = Path(__file__).parent / "elsewhere"
os.chdir(ELSEWHERE)

def train(run):
    for epoch, hp in run:
        os.chdir(ELSEWHERE)
        run.report(val_loss=hp["lr"] / (1 + epoch))

train.hyperparameters = {"lr": 0.1}
"""


@pytest.mark.long
@pytest.mark.parametrize("variable", ["", "kept"], ids=["beside", "in the given folder"])
def test_a_task_that_changes_the_current_folder_moves_no_file(tmp_path, variable):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "moving.py").write_text(MOVING)
    write_space(tmp_path, document() | {"task": "moving:train"})
    variables = {"SCHEDSEARCH_CHECKPOINTS": variable} if variable else {}
    for arguments in (
        ("start", "small.toml", "--trials", 6, "--workers", 2),
        ("start", "small.toml", "--trials", 10),
        ("export", "small", "-o", "best.toml"),
        ("train", "best.toml"),
    ):
        storage = () if arguments[0] == "train" else ("--storage", "sqlite:///studies.db")
        with begin(*arguments, *storage, folder=tmp_path, **variables) as process:
            _, err = process.communicate(timeout=180)
        assert process.returncode == 0, err
    assert not list((tmp_path / "elsewhere").iterdir())
    assert list((tmp_path / variable).glob("studies.db*pictures/*"))
