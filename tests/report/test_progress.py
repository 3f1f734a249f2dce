"""Progress output, as plain lines: stderr is not a terminal here."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from schedsearch.report import progress
from schedsearch.report.progress import Progress, set_quiet, spinner
from schedsearch.report.status import Status, read_status
from schedsearch.storage import Counts
from tests.searches import make_study, work


@pytest.fixture
def clock(monkeypatch):
    """Replace the clock by one that the test sets."""
    clock = SimpleNamespace(now=100.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(progress, "time", clock)
    return clock


@pytest.fixture
def quiet():
    set_quiet(True)
    yield
    set_quiet(False)


def test_plain_lines_come_at_most_every_ten_seconds(clock, capsys):
    with Progress("runs") as shown:
        for second in range(26):
            clock.now = 100.0 + second
            shown.count(second, 26)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(",")[0] for line in lines] == ["11/26 runs", "22/26 runs"]


def test_the_time_left_follows_from_the_speed_since_the_start(clock, capsys):
    with Progress("runs") as shown:
        shown.count(40, 100, "first")  # 40 were done before, and do not count for the speed
        clock.now += 20
        shown.count(50, 100, "second")
    # 10 runs took 20 seconds, and 50 are left.
    assert capsys.readouterr().err == "50/100 runs, second, about 1 min 40 s left\n"


def test_work_that_is_half_done_counts_for_the_time_left_only(clock, capsys):
    with Progress("runs") as shown:
        shown.count(0, 10, worked=0.0)
        clock.now += 20
        shown.count(1, 10, worked=5.0)
    assert capsys.readouterr().err == "1/10 runs, about 20 s left\n"


def test_finished_work_has_no_time_left(clock, capsys):
    with Progress("runs") as shown:
        shown.count(0, 2)
        clock.now += 20
        shown.count(2, 2)
    assert capsys.readouterr().err == "2/2 runs\n"


def test_a_study_is_shown_with_its_counts_its_speed_and_its_best_values(tmp_path, clock, capsys):
    study = make_study(tmp_path)
    before = read_status(study)
    work(study)
    after = read_status(study)
    with Progress("trials") as shown:
        shown.show(before)
        clock.now += 20
        shown.show(after)
    counts, best = after.counts, after.best_constant
    assert best is not None
    assert capsys.readouterr().err == (
        f"small: 10/10 trials, 0 running, {counts.pruned} pruned, 0 failed, "
        f"{counts.epochs / 20:.1f} epochs/s; best schedule none complete; "
        f"best constant val_loss {best.value:.5g} (trial {best.number})\n"
    )


def shown_status(finished: int, running: int, epochs: int, left: float) -> Status:
    counts = Counts(complete=finished, running=running, epochs=epochs)
    return Status(
        study="small",
        state="running",
        metric="val_loss",
        direction="minimize",
        total=10,
        counts=counts,
        horizon=9,
        best=None,
        best_schedule=None,
        best_constant=None,
        user_plans=(),
        seconds=1.0,
        epochs_left=left,
    )


def test_the_time_left_of_a_study_leaves_out_the_seconds_before_its_first_epoch(clock, capsys):
    with Progress("trials") as shown:
        shown.show(shown_status(0, 0, 0, 60.0))
        clock.now += 100  # starting and compiling
        shown.show(shown_status(0, 2, 2, 58.0))
        capsys.readouterr()
        clock.now += 20
        shown.show(shown_status(1, 2, 12, 48.0))
    # 10 epochs took 20 seconds, and 48 are left.
    assert ", about 1 min 36 s left" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "waits_for"),
    [
        ((0, 0, 0), "the workers to load torch and the task"),
        ((0, 2, 0), "the first epoch, which includes building the step of the training"),
        ((8, 2, 5), "the last trials"),
        ((1, 2, 5), None),
        ((10, 0, 5), None),
    ],
)
def test_what_a_study_waits_for_is_said(clock, capsys, status, waits_for):
    with Progress("trials") as shown:
        shown.show(shown_status(0, 0, 0, 60.0))
        clock.now += 20
        shown.show(shown_status(*status, left=10.0))
    line = capsys.readouterr().err
    assert (waits_for is None) == ("waiting for" not in line)
    assert f"waiting for {waits_for}" in line or waits_for is None


def test_a_message_is_printed_as_it_is(capsys):
    with Progress("runs") as shown:
        shown.say("[bold]50 %[/bold] of " + 30 * "a long line ")
    assert capsys.readouterr().err == "[bold]50 %[/bold] of " + 30 * "a long line " + "\n"


@pytest.mark.usefixtures("quiet")
def test_quiet_hides_lines_that_are_neither_errors_nor_warnings(capsys):
    with Progress("runs") as shown:
        for line in ("starting 2 workers ...", "printed by a task", "warning: a", "error: b"):
            shown.say(line)
    assert capsys.readouterr().err.splitlines() == ["warning: a", "error: b"]


@pytest.mark.usefixtures("quiet")
def test_quiet_hides_progress(clock, capsys):
    with Progress("runs") as shown, spinner("waiting"):
        clock.now += 20
        shown.count(1, 2)
    assert capsys.readouterr().err == ""
