"""`confirm`: its output for people and for programs, and its state after errors."""

from __future__ import annotations

import json
import re
import signal

import pytest

from schedsearch.cli.storage import any_study_at
from schedsearch.confirmation.stored_result import confirmation_result
from tests.cli.command import Command
from tests.confirmation import tasks
from tests.confirmation.tasks import content_of, searched
from tests.processes import descendants, is_alive
from tests.searches import begin, make_study, url_of, wait_until, work


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
    last = f"trial {best} is confirmed: `schedsearch export small -o best.toml`"
    assert done.err.splitlines()[-1] == last
    lines = confirm(run).out.splitlines()
    assert lines[:4] == [
        "mean test_loss over 8 fresh seeds, on the test split",
        "difference: schedule minus constant; negative: the schedule is better, as test_loss is "
        "minimized",
        "a schedule is better if all its intervals are below 0, and worse if one is above 0 "
        "(corrected for the number of constants too: Hochberg)",
        "intervals: the 2 schedules share an error rate of 5 % (Holm), so the one with the "
        "smallest p has a 97.5 % interval (5 % / 2), and the others one of 95 to 97.5 %",
    ]
    assert sum(line.startswith("constant, trial ") for line in lines) == 4
    [told] = [line for line in lines if line.startswith(f"trial {best} ")]
    assert f"trial {best} is better than each of 4 constants, " in told
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
    assert first.startswith("mean val_loss over 8 fresh seeds, on the validation split")
    assert done.out.count("no difference seen") == 2
    assert first.endswith("the runs have no such metric on the test split")
    what = done.err.splitlines()[-1]
    export = re.fullmatch(
        "no schedule was found better than the constants: `schedsearch (.*)` exports the best "
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
        "error: --seeds is 6, but must be at least 8 to compare 4 schedules: with 7 seeds the "
        "smallest possible p is 2 / 2^7 = 0.016, but it must be below 0.05 / 4 = 0.013; raise "
        "--seeds or lower --top\n"
    )
    assert confirmation_result(study) is None


def test_a_study_without_a_schedule_to_confirm_is_reported(run, tmp_path):
    make_study(tmp_path, content_of())
    done = run("confirm", "small")
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("error: study small has no complete trial yet: continue it")


@pytest.mark.long
def test_a_task_that_raises_is_one_line_and_nothing_is_kept(run, tmp_path):
    study = searched(tmp_path, content_of(tasks.train_and_raise_when_fresh))
    done = confirm(run)
    assert (done.status, done.out) == (1, "")
    failure = "ZeroDivisionError: something in the user's code (tasks.py:"
    assert f"error: 3 trials in a row failed, the last with {failure}" in done.err
    assert confirmation_result(study) is None


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
    said = r"stopped with \d+ of \d+ runs recorded: the same command continues"
    assert re.fullmatch(said, err.splitlines()[-1])
    wait_until(lambda: not any(map(is_alive, below)), seconds=10)
    assert confirmation_result(study) is None


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


def test_without_workers_the_runs_are_queued_and_any_worker_trains_them(run, tmp_path):
    study = searched(tmp_path, content_of())
    done = run("confirm", "small", "--top", 1, "--seeds", 6, "--workers", 0)
    runs = 6 * (1 + 4)
    assert (done.status, done.out) == (0, "")
    assert done.err == (
        f"{runs} runs are queued: train them with `schedsearch worker small:confirm`, and then "
        "judge them with `schedsearch confirm small --top 1 --seeds 6`\n"
    )
    assert confirmation_result(study) is None
    work(any_study_at(url_of(tmp_path), "small:confirm"))
    done = run("confirm", "small", "--top", 1, "--seeds", 6, "--workers", 0)
    assert (done.status, confirmation_result(study) is None) == (0, False)


@pytest.mark.long
def test_a_run_that_hangs_fails_by_the_epoch_timeout_and_the_time_of_all_is_limited(run, tmp_path):
    study = searched(tmp_path, content_of(tasks.train_without_end_when_fresh))
    done = confirm(run, "--epoch-timeout", 0.5)
    assert done.status == 1
    assert "failed in epoch 1: it took longer than 0.5 s" in done.err
    done = confirm(run, "--epoch-timeout", 600, "--timeout", 0)
    assert (done.status, done.out) == (1, "")
    assert "time is up: the workers stop after this epoch" in done.err
    assert re.search(r"stopped with 0 of 40 runs recorded: the same command continues", done.err)
    assert confirmation_result(study) is None
