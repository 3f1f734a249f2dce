"""`worker`: one more worker, as a person starts it and stops it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests import searches
from tests.searches import begin, document, make_study, url_of, wait_until

pytestmark = pytest.mark.long


def worker(folder: Path, *arguments: str) -> tuple[int, str]:
    process = begin("worker", *arguments, "--storage", url_of(folder), folder=folder)
    _, err = process.communicate(timeout=90)
    return process.returncode, err


def test_a_worker_ends_the_study_and_says_how_each_trial_ended(tmp_path):
    study = make_study(tmp_path)
    code, err = worker(tmp_path, "small")
    assert (code, study.queue.counts().finished) == (0, 10)
    assert "trial 0 complete: val_loss " in err
    assert err.endswith("nothing is left to begin in study small\n")
    assert worker(tmp_path, "small", "--quiet") == (0, "")


def test_ctrl_c_ends_the_epoch_and_hands_back(tmp_path):
    study = make_study(tmp_path, document(searches.train_slowly) | {"horizon": 100_000})
    process = begin("worker", "small", "--storage", url_of(tmp_path), folder=tmp_path)
    wait_until(lambda: study.queue.counts().epochs > 3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err.splitlines()) == (
        130,
        [
            "stopping after this epoch; Ctrl-C again stops at once",
            "stopped: the same command continues",
        ],
    )
    assert (study.queue.counts().running, study.queue.counts().waiting) == (0, 1)


def test_a_timeout_is_a_success_and_hands_back(tmp_path):
    study = make_study(tmp_path, document(searches.train_slowly) | {"horizon": 100_000})
    code, err = worker(tmp_path, "small", "--timeout", "0")
    assert (code, err) == (0, "")
    assert study.queue.counts().running == 0


def test_an_unknown_study_and_another_task_are_refused(tmp_path):
    study = make_study(tmp_path)
    code, err = worker(tmp_path, "smal")
    assert (code, "has no study `smal`: did you mean `small`?" in err) == (2, True)
    for key, value in (("fingerprint", "another"), ("task_parts", {})):
        study.database.optuna.set_study_user_attr(study.study_id, key, value)
    code, err = worker(tmp_path, "small")
    assert code == 2
    assert "tests.searches:train changed since study `small` was created" in err
    assert "Traceback" not in err
