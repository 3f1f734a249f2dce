"""Epochs that never end: the trial fails, and the worker continues in a new process."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest
from optuna.trial import TrialState

from tests import searches
from tests.searches import begin, document, make_study, url_of, wait_until, write_space

pytestmark = pytest.mark.long


def grid(task: str, name: str, **search: object) -> dict:
    """A grid of five constants, of which the largest alone is beyond what the task can take."""
    content = document(sampler={"name": "grid"}, pruner={"name": "none"}, **search)
    content["task"] = task
    content["hyperparameters"] = {
        name: {"default": 0.1, "families": {"constant": {"value": {"low": 0.05, "high": 0.9}}}}
    }
    return content


@pytest.mark.parametrize(
    ("task", "name", "epoch", "place"),
    [
        ("tests.searches:train_or_hang", "lr", 3, "searches.py"),
        ("tests.engines.toys:Hanging", "blur", 1, "toys.py"),
    ],
)
def test_a_trial_that_hangs_fails_and_the_worker_continues_by_itself(
    tmp_path: Path, task: str, name: str, epoch: int, place: str
):
    content = grid(task, name, epoch_timeout=8.0)
    study = make_study(tmp_path, content)
    # A restarted worker needs no new consent to run the task.
    options = ["--trust-task", "--storage", url_of(tmp_path)]
    worker = begin("worker", "small", *options, folder=tmp_path, SCHEDSEARCH_TRUST_TASK="0")
    _, err = worker.communicate(timeout=120)
    assert worker.returncode == 0, err
    [hung] = [trial for trial in study.trials() if trial.state is TrialState.FAIL]
    assert hung.params[f"{name}.constant.value"] == 0.9
    line = rf"trial {hung.number} failed in epoch {epoch}: it took longer than 8 s \({place}:\d+\)"
    assert len(re.findall(line, err)) == 1
    assert place in hung.user_attrs["traceback"]
    counts = study.queue.counts()
    assert (counts.complete, counts.failed, counts.running) == (counts.trials - 1, 1, 0)
    assert "Traceback" not in err


def test_a_task_that_always_hangs_ends_the_search_after_three_trials(tmp_path: Path):
    content = grid("tests.searches:train_or_hang", "lr")
    content["hyperparameters"]["lr"]["default"] = 0.85
    constant = content["hyperparameters"]["lr"]["families"]["constant"]
    constant["value"]["low"] = 0.82
    space = write_space(tmp_path, content)
    search = begin(
        "start", space, "--storage", url_of(tmp_path), "--epoch-timeout", 1, folder=tmp_path
    )
    _, err = search.communicate(timeout=120)
    assert search.returncode == 1, err
    assert err.count("it took longer than 1 s") == 3
    assert "error: 3 trials in a row failed" in err
    assert make_study(tmp_path, content).queue.counts().failed == 3


@pytest.mark.parametrize("task", ["train_or_hang", "train_slowly"])
def test_a_second_signal_ends_even_a_worker_that_hangs(tmp_path: Path, task: str):
    content = document(getattr(searches, task), pruner={"name": "none"}) | {"horizon": 100_000}
    content["hyperparameters"] = {"lr": {"default": 0.9, "families": {"constant": {"value": 0.9}}}}
    study = make_study(tmp_path, content)
    worker = begin("worker", "small", "--storage", url_of(tmp_path), folder=tmp_path)
    wait_until(lambda: study.queue.counts().epochs >= 2)
    worker.send_signal(signal.SIGTERM)
    if task == "train_or_hang":
        worker.send_signal(signal.SIGINT)  # another one, since signals of a kind are not queued
    _, err = worker.communicate(timeout=30)
    assert worker.returncode in (1, 130), err
    counts = study.queue.counts()
    assert (counts.running, counts.waiting, counts.failed) == (0, 1, 0)
