"""A changed task: refused with what changed, continued with --accept-task, and never replayed."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import tomli_w
from sqlalchemy import update

from schedsearch.files import read_document
from schedsearch.launchers.in_process import run_worker
from schedsearch.storage import open_database, open_study
from schedsearch.trajectories.tables import nodes
from schedsearch.worker import Messages, ProcessControl
from tests.cli.command import Command, Done

DATA = Path(__file__).parent.parent / "data"
LOOP = """
from parts import rate
def train(run):
    distance = 5.0 + run.seed
    for _, hp in run:
        distance *= 1.0 - hp["lr"]
        run.report(val_loss=abs(distance) * rate.FACTOR)
train.hyperparameters = {"lr": 0.1}
train.data_files = ["table.csv"]
"""
SPACE = {
    "name": "mine",
    "task": "task_to_change:train",
    "horizon": 3,
    "objective": {"metric": "val_loss"},
    "search": {"trials": 3, "pruner": {"name": "none"}},
    "hyperparameters": {
        "lr": {
            "families": {
                "constant": {"value": {"levels": [0.1, 0.2, 0.3]}},
                "linear": {"initial": {"levels": [0.2, 0.4]}, "final": 0.1},
            }
        }
    },
}


class Project:
    """A folder with a task, in which commands run as if each were a new process."""

    def __init__(self, folder: Path, command: Command) -> None:
        self.folder, self._command = folder, command

    def write(self, **files: str) -> None:
        for name, content in files.items():
            path = self.folder / name.replace("__", "/").replace("_csv", ".csv")
            path = path if path.suffix else path.with_suffix(".py")
            path.parent.mkdir(exist_ok=True)
            path.write_text(content)

    def __call__(self, *arguments: object) -> Done:
        self.forget()
        return self._command(*arguments)

    def forget(self) -> None:
        for name in ("task_to_change", "parts", "parts.rate"):
            sys.modules.pop(name, None)


@pytest.fixture
def project(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCHEDSEARCH_STORAGE", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    project = Project(tmp_path, Command(monkeypatch, capsys))
    project.write(task_to_change=LOOP, parts__rate="FACTOR = 1.0\n", table_csv="1\n")
    (tmp_path / "mine.toml").write_text(tomli_w.dumps(SPACE))
    yield project
    project.forget()


def train_all(name: str = "mine") -> None:
    """Run a worker in this process until the study is done."""
    study = open_study(open_database("sqlite:///studies.db"), name)
    silent = Messages(warn=lambda line: None, info=lambda line: None)
    run_worker(study, name="ann", control=ProcessControl(lambda: False), messages=silent)


CHANGES = {
    "a module of a module": (
        {"parts__rate": "FACTOR = 100.0\n"},
        "parts/rate.py differs",
    ),
    "a declared file": ({"table_csv": "2\n"}, "table.csv differs"),
    "a default": (
        {"task_to_change": LOOP.replace('"lr": 0.1', '"lr": 0.2')},
        "task_to_change.py differs, hyperparameters.lr 0.1 -> 0.2",
    ),
}


@pytest.mark.parametrize(("files", "said"), CHANGES.values(), ids=CHANGES)
def test_every_command_refuses_a_changed_task_and_says_what_changed(project, files, said):
    content = SPACE | {
        "hyperparameters": {"lr": {"default": 0.1, **SPACE["hyperparameters"]["lr"]}}
    }
    (project.folder / "mine.toml").write_text(tomli_w.dumps(content))
    assert project("start", "mine.toml", "--workers", 0).status == 0
    project.write(**files)
    message = (
        f"task task_to_change:train changed since study `mine` was created: {said}; create another "
        "study with `schedsearch start FILE --study NAME`, or, if it is the same training, say so "
        "with `schedsearch start FILE --accept-task`\n"
    )
    for arguments in (("start", "mine.toml", "--workers", 0), ("worker", "mine")):
        done = project(*arguments)
        assert (done.status, done.err.splitlines(keepends=True)[-1]) == (2, f"error: {message}")
    assert project("start", "mine.toml", "--workers", 0, "--study", "other").status == 0


def test_a_comment_or_a_docstring_refuses_nothing(project):
    assert project("start", "mine.toml", "--workers", 0).status == 0
    project.write(
        task_to_change=f'"""A task."""\n# A remark.\n{LOOP}', parts__rate="FACTOR  = 1.0  # none\n"
    )
    done = project("start", "mine.toml", "--workers", 0)
    assert (done.status, "differs" in done.err) == (0, False)


def test_a_study_of_a_changed_task_trains_all_its_epochs(project):
    assert project("start", "mine.toml", "--workers", 0).status == 0
    train_all()
    config = export(project)
    project.write(parts__rate="FACTOR = 100.0\n")
    assert project("start", "mine.toml", "--workers", 0, "--study", "other").status == 0
    train_all("other")
    values = [
        open_study(open_database("sqlite:///studies.db"), name).trial(0).value
        for name in ("mine", "other")
    ]
    assert values[1] == pytest.approx(100 * values[0])
    done = project("train", config)
    assert (
        "warning: the numbers may differ from the recorded ones: parts/rate.py differs" in done.err
    )
    recorded = read_document(config)["source"]["value"]
    assert f", not {recorded!r}); --no-reuse" in done.err


@pytest.mark.parametrize("changed", ["fingerprint", "both"])
def test_a_record_whose_hash_and_parts_differ_is_no_version_of_the_task(project, changed):
    assert project("start", "mine.toml", "--workers", 0).status == 0
    study = open_study(open_database("sqlite:///studies.db"), "mine")
    storage = study.database.optuna
    storage.set_study_user_attr(study.study_id, "fingerprint", "0" * 64)
    if changed == "both":
        project.write(parts__rate="FACTOR = 100.0\n")
    done = project("worker", "mine")
    what = {"fingerprint": "its recorded fingerprint is not the hash of its recorded parts"}
    assert done.status == 2
    assert f"was created: {what.get(changed, 'parts/rate.py differs')};" in done.err
    assert project("start", "mine.toml", "--workers", 0, "--accept-task").status == 0
    assert project("worker", "mine").status == 0


def test_an_accepted_task_continues_the_study_and_reuses_its_epochs(project):
    assert project("start", "mine.toml", "--workers", 0).status == 0
    train_all()
    config = export(project)
    project.write(parts__rate="FACTOR = 2.0 / 2.0\n")
    assert project("start", "mine.toml", "--workers", 0).status == 2
    done = project("start", "mine.toml", "--workers", 0, "--trials", 4, "--accept-task")
    assert done.status == 0
    assert "study mine: accepted as the same training: parts/rate.py differs\n" in done.err
    project.forget()
    train_all()
    done = project("train", config)
    assert "warning" not in done.err
    assert "3 of 3 epochs were not trained but read from the record" in done.err
    fresh = project("train", config, "--no-reuse")
    assert fresh.err.startswith("seed 0: reproduced the recorded value")
    exported = read_document(export(project))["source"]["fingerprint"]
    assert exported != read_document(config)["source"]["fingerprint"]
    done = project("start", "mine.toml", "--workers", 0, "--accept-task")
    assert "study mine: its task has not changed, so there is nothing to accept\n" in done.err
    # A later change is compared with the version that was accepted.
    project.write(parts__rate="FACTOR = 2.0\n", table_csv="2\n")
    assert "created: parts/rate.py differs, table.csv differs;" in project("worker", "mine").err


def test_confirmations_and_longer_studies_follow_what_their_study_accepts(project):
    assert project("start", "mine.toml", "--workers", 0, "--trials", 6).status == 0
    train_all()
    confirm = ("confirm", "mine", "--workers", 0, "--seeds", 6, "--top", 1)
    extend = ("start", "mine", "--horizon", 5, "--top", 1, "--workers", 0)
    assert project(*confirm).status == 0
    assert project(*extend).status == 0
    project.write(parts__rate="FACTOR = 1.0 + 0.0\n")
    for command in (confirm, extend, ("worker", "mine:confirm"), ("worker", "mine@5")):
        done = project(*command)
        assert (done.status, "parts/rate.py differs" in done.err) == (2, True)
    assert project("start", "mine.toml", "--workers", 0, "--accept-task").status == 0
    for name in ("mine:confirm", "mine@5"):
        project.forget()
        train_all(name)
    assert project(*confirm).status == 0
    assert project(*extend).status == 0


def export(project: Project) -> Path:
    path = project.folder / "config.toml"
    if path.exists():
        path = project.folder / "later.toml"
    assert project("export", "mine", "-o", path.name).status == 0
    return path


def test_epochs_that_version_0_1_recorded_have_no_time(project):
    assert project("start", "mine.toml", "--workers", 0).status == 0
    train_all()
    with open_database("sqlite:///studies.db").engine.begin() as connection:
        connection.execute(update(nodes).values(trained=None))
    assert "where they were written by version 0.1 (value" in project("train", export(project)).err


@pytest.mark.long
def test_a_study_of_version_0_1_is_continued_accepted_exported_and_trained(project):
    shutil.copy(DATA / "studies_0_1.db", project.folder / "studies.db")
    study = open_study(open_database("sqlite:///studies.db"), "noisy_digits")
    assert not study.record.parts
    document = study.space.to_document()
    (project.folder / "old.toml").write_text(tomli_w.dumps(without_none(document)))
    start = ("start", "old.toml", "--workers", 0, "--trials", 201)
    assert project(*start).status == 0
    assert project("confirm", "noisy_digits", "--workers", 0, "--seeds", 8, "--top", 1).status == 0
    assert project("export", "noisy_digits", "-o", "old_best.toml").status == 0
    source = read_document(project.folder / "old_best.toml")["source"]
    assert source["fingerprint"] == study.record.fingerprint
    done = project("train", "old_best.toml")
    # On another processor than that of the study, a line before it says so.
    assert "\nseed 0: reproduced the recorded value 0.03 " in f"\n{done.err}"
    assert "read from the record" in project("train", "old_best.toml").err
    assert project(*start, "--accept-task").status == 0
    now = open_study(study.database, "noisy_digits").record
    assert (now.fingerprint, len(now.accepted)) == (study.record.fingerprint, 2)
    assert any(part.startswith("code:schedsearch/tasks/") for part in now.parts)
    assert "read from the record" in project("train", "old_best.toml").err


def without_none(value):
    if isinstance(value, dict):
        return {key: without_none(item) for key, item in value.items() if item is not None}
    return value
