"""A study that ends without one complete trial has failed: exit 1, and a line that says why."""

from __future__ import annotations

import math

import pytest

from schedsearch.engines.loop import LoopRun
from schedsearch.report.without_value import without_value
from tests import searches
from tests.cli.command import Command
from tests.searches import begin, document, make_study, url_of, work, write_space


def train_late(run: LoopRun) -> None:
    """Diverge in the second epoch, or in the first where lr is small."""
    for epoch, hp in run:
        run.report(val_loss=math.nan if epoch or hp["lr"] < 0.1 else 1.0)


def train_undefined(run: LoopRun) -> None:
    """Have no metric in the first epoch."""
    for epoch, _ in run:
        run.report(val_loss=epoch if epoch else math.inf)


def train_in_vain(run: LoopRun) -> None:
    """Raise a message of several lines."""
    for _ in run:
        raise RuntimeError("no data:\n  the folder is empty")


for function in (train_late, train_undefined, train_in_vain):
    function.hyperparameters = searches.DEFAULTS


def content_of(task, **search):
    return document(task, **search) | {"task": f"tests.cli.test_no_value:{task.__name__}"}


@pytest.fixture
def run(tmp_path, monkeypatch, capsys) -> Command:
    monkeypatch.setenv("SCHEDSEARCH_STORAGE", url_of(tmp_path))
    monkeypatch.chdir(tmp_path)
    return Command(monkeypatch, capsys)


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        (train_in_vain, "2 of 2 trials failed, the first with RuntimeError: no data:"),
        (
            train_undefined,
            "2 of 2 trials diverged in epoch 1: val_loss was not a finite number there; a metric "
            "that is undefined at first must be given a number",
        ),
        (train_late, "2 of 2 trials diverged in epoch"),
    ],
)
def test_the_reason_is_the_first_message_or_the_epoch_of_the_divergence(tmp_path, task, reason):
    study = make_study(tmp_path, content_of(task, trials=2))
    assert without_value(study) == "no trial of study small gave a value: no trials ended"
    work(study)
    assert without_value(study).startswith(f"no trial of study small gave a value: {reason}")


def test_a_study_with_one_complete_trial_has_a_value(tmp_path):
    study = make_study(tmp_path, document(searches.train_to_nan, trials=10))
    work(study)
    assert {trial.state.name for trial in study.trials()} == {"COMPLETE", "PRUNED"}
    assert without_value(study) is None


def test_start_and_worker_say_it_and_exit_with_1_and_a_timeout_does_not(run, tmp_path):
    content = content_of(train_in_vain, trials=2)
    path = write_space(tmp_path, content)
    work(make_study(tmp_path, content))
    reason = (
        "no trial of study small gave a value: 2 of 2 trials failed, the first with RuntimeError"
    )
    for command in (("start", path, "-q"), ("worker", "small", "-q")):
        done = run(*command, "--trust-task")
        assert done.status == 1
        assert done.err.startswith(f"error: {reason}")
        assert len(done.err.splitlines()) == 1
    assert run("worker", "small", "-q", "--trust-task", "--timeout", "0").status == 0
    assert run("start", path, "--trials", 3, "--workers", 0, "--trust-task").status == 0


@pytest.mark.long
def test_a_search_that_has_just_ended_without_a_value_fails(tmp_path):
    path = write_space(tmp_path, content_of(train_undefined, trials=2))
    process = begin(
        "start",
        path,
        "--json",
        "--trust-task",
        folder=tmp_path,
        SCHEDSEARCH_STORAGE=url_of(tmp_path),
    )
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert '"diverged": 2' in out
    assert err.count("no trial of study small gave a value: 2 of 2 trials diverged in epoch 1") == 1


def test_every_command_says_that_the_study_has_ended_and_why(run, tmp_path):
    study = make_study(tmp_path, content_of(train_in_vain, trials=2))
    work(study)
    ended = "ended without a complete trial: 2 of 2 failed"
    for command in (
        ["export", "small"],
        ["plot", "small", "-o", "a.png"],
        ["confirm", "small"],
        ["start", "small", "--horizon", "20"],
    ):
        done = run(*command)
        assert done.status == 2
        assert done.err == (
            f"error: study small {ended} (hint: to try again, give `schedsearch start` --trials "
            "above 2)\n"
        )
    assert run("list").out == f"small  done  2/2 trials  {ended}\n"
    shown = run("status").out.splitlines()
    assert f"ended     {without_value(study)}" in shown
    assert "failure   the last of 2: trial 1 with RuntimeError: no data:" in shown
