"""studies.db.example is a real study of noisy_digits, made by this version."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from wsgiref.util import setup_testing_defaults

import optuna_dashboard
import pytest

from schedsearch.preparation import load_space
from schedsearch.storage import StudyHandle, get_only_study, open_database
from schedsearch.study_task import load_with_fingerprint, study_task_changes
from schedsearch.task import load_task
from tests.example_db import EXAMPLE, ROOT, SPACE, copy_for_publication


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """A copy, so that no test leaves files beside the original."""
    return Path(shutil.copy(EXAMPLE, tmp_path / EXAMPLE.name))


@pytest.fixture
def study(example: Path) -> StudyHandle:
    return get_only_study(open_database(f"sqlite:///{example}"))


def schedsearch(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "schedsearch", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_its_space_is_the_shipped_space(study: StudyHandle):
    version = study.space.document.schedule_version  # an existing study keeps it
    space = load_space(SPACE, {"search.trials": study.total()})
    space = replace(space, document=space.document.model_copy(update={"schedule_version": version}))
    task = load_task(space.task, space.document.arguments)
    assert study.space == space.with_defaults(task.hyperparameters), "run `make example-db`"


def test_its_task_is_the_current_task(study: StudyHandle):
    changes = study_task_changes(study, load_with_fingerprint(study.space))
    assert not changes, "run `make example-db`"


def test_it_is_a_complete_search_in_a_small_file(study: StudyHandle):
    counts = study.queue.counts()
    assert counts.finished == study.total() == 200
    assert counts.failed == counts.running == counts.waiting == 0
    assert study.complete_trials(constant=True)
    assert study.complete_trials(constant=False)
    assert EXAMPLE.stat().st_size < 5_000_000


def test_it_contains_no_host_name(study: StudyHandle):
    workers = {trial.user_attrs["worker"] for trial in study.trials()}
    assert workers == {f"worker-{i}" for i in range(len(workers))}


@pytest.mark.parametrize("command", ["status", "list"])
def test_reading_does_not_change_it(example: Path, command: str):
    before = digest(example)
    done = schedsearch(command, "--storage", f"sqlite:///{example}", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    status = found[0] if command == "list" else found
    assert status["study"] == "noisy_digits"
    assert status["state"] == "done"
    assert status["best"]["value"] < status["best_constant"]["value"]
    assert digest(example) == before
    assert [path.name for path in example.parent.iterdir()] == [example.name]


def test_the_dashboard_opens_it(example: Path):
    before = digest(example)
    storage = open_database(f"sqlite:///{example}").optuna
    answered: list[str] = []
    environment: dict[str, object] = {}
    setup_testing_defaults(environment)
    environment["PATH_INFO"] = "/api/studies"
    body = optuna_dashboard.wsgi(storage)(
        environment, lambda status, headers, error=None: answered.append(status)
    )
    studies = json.loads(b"".join(body))["study_summaries"]
    assert answered == ["200 OK"]
    assert [study["study_name"] for study in studies] == ["noisy_digits"]
    assert digest(example) == before


def test_a_copied_database_is_one_file_without_a_log(example: Path, tmp_path: Path):
    copy = tmp_path / "again.db"
    copy_for_publication(example, copy)
    write_version, read_version = copy.read_bytes()[18:20]
    assert (write_version, read_version) == (1, 1), "1 is a rollback journal, 2 a write-ahead log"
    assert EXAMPLE.read_bytes()[18:20] == b"\x01\x01"
