"""`confirm`: what it prints, what a program reads, and what is left when it goes wrong."""

from __future__ import annotations

import json
import re
import signal

import pytest

from schedsearch.confirmation.record import kept
from tests.cli.command import Command
from tests.confirmation import tasks
from tests.confirmation.tasks import content_of, searched
from tests.processes import descendants, is_alive
from tests.searches import begin, make_study, url_of, wait_until


@pytest.fixture
def run(tmp_path, monkeypatch, capsys) -> Command:
    monkeypatch.setenv("SCHEDSEARCH_STORAGE", url_of(tmp_path))
    monkeypatch.chdir(tmp_path)
    return Command(monkeypatch, capsys)


def confirm(run: Command, *flags: object):
    return run("confirm", "small", "--top", 2, "--seeds", 8, "--workers", 1, *flags)


@pytest.mark.long
def test_a_confirmed_winner_is_told_to_programs_and_to_people(run, tmp_path):
    study = searched(tmp_path, content_of())
    done = confirm(run, "--json")
    found = json.loads(done.out)
    assert (done.status, found["study"]) == (0, "small")
    assert {"number", "plan", "mean"} <= set(found["baseline"])
    assert len(found["plans"]) == 2
    for plan in found["plans"]:
        numbers = {"number", "plan", "mean", "difference", "interval", "p"}
        assert numbers | {"verdict"} <= set(plan)
        assert plan["plan"] == study.trial(plan["number"]).user_attrs["plan"]
        assert plan["difference"] == pytest.approx(plan["mean"] - found["baseline"]["mean"])
        assert plan["verdict"] == "better"
    best = min(found["plans"], key=lambda plan: plan["mean"])["number"]
    assert done.err == (f"trial {best} is confirmed: `schedsearch export small -o best.toml`\n")
    lines = confirm(run).out.splitlines()
    assert lines[0].startswith("mean test_loss over 8 fresh seeds, on the test split; ")
    assert sum(line.startswith("constant, trial ") for line in lines) == 4
    [told] = [line for line in lines if line.startswith(f"trial {best} ")]
    assert f"trial {best} is better than every one of 4 constants, than the best by " in told
    against = [line for line in lines if line.startswith("  against trial ")]
    assert len(against) == 8  # two schedules, four constants
    assert all(" interval -" in line for line in against)
    assert all(line.endswith("better on 8 of 8 seeds, worse on 0") for line in against)


@pytest.mark.long
def test_without_a_test_metric_it_compares_by_validation_and_says_so(run, tmp_path):
    searched(tmp_path, content_of(tasks.train_indifferently))
    done = confirm(run)
    assert done.status == 0
    first = done.out.splitlines()[0]
    assert first.startswith("mean val_loss over 8 fresh seeds, by validation")
    assert done.out.count("no difference seen") == 2
    how, what = done.err.splitlines()
    assert how == (
        "the task gives no such metric on the test split: compared by fresh-seed validation"
    )
    export = re.fullmatch(
        "no schedule was found better than the constants: `schedsearch (.*)` hands over the best "
        "of these",
        what,
    )
    assert run(*export[1].split()).status == 0
    assert "families" in (tmp_path / "best.toml").read_text()


def test_too_few_seeds_are_a_wrong_input_that_says_how_many_it_takes(run, tmp_path):
    study = searched(tmp_path, content_of())
    done = run("confirm", "small", "--top", 4, "--seeds", 6)
    assert (done.status, done.out) == (2, "")
    assert done.err == (
        "error: --seeds is 6, but must be at least 8: with fewer, none of 4 schedules could be "
        "told from luck\n"
    )
    assert kept(study) is None


def test_a_study_without_a_schedule_to_confirm_is_said(run, tmp_path):
    make_study(tmp_path, content_of())
    done = run("confirm", "small")
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("error: study small has no complete trial with a schedule yet: ")


@pytest.mark.long
def test_a_task_that_raises_is_one_line_and_nothing_is_kept(run, tmp_path):
    study = searched(tmp_path, content_of(tasks.train_and_raise_when_fresh))
    done = confirm(run)
    said = (
        "error: tests.confirmation.tasks:train_and_raise_when_fresh raised ZeroDivisionError: "
        "something of the user's own (seed 1000000)\n"
    )
    assert (done.status, done.out, done.err) == (1, "", said)
    assert kept(study) is None


@pytest.mark.long
def test_ctrl_c_leaves_no_process_and_no_half_result(run, tmp_path):
    study = searched(tmp_path, content_of(tasks.train_slowly_when_fresh))
    flags = ("--workers", 2, "--storage", url_of(tmp_path))
    command = begin("confirm", "small", *flags, folder=tmp_path)
    try:
        wait_until((tmp_path / "begun").exists)
        below = descendants(command.pid)
        assert len(below) >= 2
        command.send_signal(signal.SIGINT)
        out, err = command.communicate(timeout=30)
    finally:
        command.kill()
    assert (command.returncode, out) == (130, "")
    # On a busy machine it has said how far it is.
    said = r"stopped with \d+ of \d+ runs recorded: the same command goes on"
    assert re.fullmatch(said, err.splitlines()[-1])
    wait_until(lambda: not any(map(is_alive, below)), seconds=10)
    assert kept(study) is None


@pytest.mark.long
def test_a_second_ctrl_c_ends_it_at_once_in_the_middle_of_an_epoch(run, tmp_path):
    searched(tmp_path, content_of(tasks.train_without_end_when_fresh))
    command = begin("confirm", "small", "--storage", url_of(tmp_path), folder=tmp_path)
    try:
        wait_until((tmp_path / "begun").exists)
        below = descendants(command.pid)
        command.send_signal(signal.SIGINT)
        # Two of a kind that come at once may count as one.
        command.send_signal(signal.SIGTERM)
        out, _ = command.communicate(timeout=30)
    finally:
        command.kill()
    assert (command.returncode, out) == (130, "")
    wait_until(lambda: not any(map(is_alive, below)), seconds=10)
