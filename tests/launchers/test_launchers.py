"""`start` with real processes and real signals: nothing is lost, and nothing stays running.

What is claimed with a `place` holds on this machine and on a Ray cluster alike.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from optuna.trial import TrialState

from schedsearch.launchers.local import LocalLauncher
from schedsearch.launchers.supervisor import Supervisor
from schedsearch.storage import StudyHandle, get_only_study, open_database
from tests import searches
from tests.claims import claim
from tests.processes import is_alive, workers_of
from tests.searches import begin, document, make_study, url_of, wait_until, write_space

pytestmark = pytest.mark.long


def start(folder: Path, content: dict, *flags: object) -> subprocess.Popen[str]:
    path = write_space(folder, content)
    return begin("start", path, "--storage", url_of(folder), *flags, folder=folder)


def study_in(folder: Path) -> StudyHandle:
    return get_only_study(open_database(url_of(folder)))


def wait_for_epochs(folder: Path, running: int) -> StudyHandle:
    """Wait until so many trials are in training."""

    def are_begun() -> bool:
        try:
            rows = study_in(folder).rows()
        except Exception:
            return False
        begun = [row for row in rows if row.state is TrialState.RUNNING and row.intermediate_values]
        return len(begun) >= running

    wait_until(are_begun, 120)
    return study_in(folder)


@pytest.fixture
def endless(tmp_path: Path, place: tuple[str, ...]) -> Iterator[subprocess.Popen[str]]:
    """A search of two workers in the middle of trials that never end by themselves."""
    content = document(searches.train_slowly) | {"horizon": 100_000}
    content["search"]["pruner"] = {"name": "none"}
    search = start(tmp_path, content, "--workers", 2, "--trials", 5, *place)
    try:
        wait_for_epochs(tmp_path, running=2)
        yield search
    finally:
        search.kill()
        for pid in workers_of(url_of(tmp_path)):
            os.kill(pid, signal.SIGKILL)
        search.communicate()


def assert_handed_back(study: StudyHandle, trials: int) -> None:
    counts = study.queue.counts()
    assert (counts.running, counts.waiting, counts.failed) == (0, trials, 0)
    rows = study.load().trials
    lost = [row for row in rows if "superseded_by" in row.user_attrs]
    assert len(lost) >= trials
    for row in lost:
        successor = rows[row.user_attrs["superseded_by"]]
        assert row.state is TrialState.FAIL
        assert successor.user_attrs["retry_of"] == row.number
        assert successor.user_attrs["plan"] == row.user_attrs["plan"]
        assert successor.params == row.params
        if successor.state is TrialState.WAITING:
            assert not successor.intermediate_values


def test_four_workers_share_forty_trials_exactly(tmp_path, place):
    search = start(tmp_path, document(), "--workers", 4, "--trials", 40, "--json", *place)
    out, err = search.communicate(timeout=300)
    assert search.returncode == 0, err
    found = json.loads(out)
    assert found["trials"]["total"] == 40
    assert found["trials"]["complete"] + found["trials"]["pruned"] == 40
    study = study_in(tmp_path)
    assert len(study.load().trials) == 40
    assert len({trial.user_attrs["worker"] for trial in study.trials()}) > 1


def test_ctrl_c_hands_back_what_is_in_training(tmp_path, endless):
    workers = workers_of(url_of(tmp_path))
    endless.send_signal(signal.SIGINT)
    _, err = endless.communicate(timeout=60)
    assert endless.returncode == 130, err
    assert "stopping after this epoch; Ctrl-C again stops at once" in err
    assert "stopped: the same command, or `schedsearch worker" in err
    assert "Traceback" not in err
    assert not any(map(is_alive, workers))
    assert_handed_back(study_in(tmp_path), 2)


def test_the_second_ctrl_c_stops_at_once_and_leaves_nothing_running(tmp_path, endless):
    workers = workers_of(url_of(tmp_path))
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)  # so that no worker answers the first
    endless.send_signal(signal.SIGINT)
    assert endless.stderr is not None
    while "Ctrl-C again" not in endless.stderr.readline():
        pass
    endless.send_signal(signal.SIGINT)
    _, err = endless.communicate(timeout=60)
    assert endless.returncode == 130, err
    assert "Traceback" not in err
    assert not any(map(is_alive, workers))
    assert_handed_back(study_in(tmp_path), 2)


def test_a_killed_workers_trial_is_queued_at_once_and_another_worker_takes_it(tmp_path, endless):
    study, before = study_in(tmp_path), workers_of(url_of(tmp_path))
    os.kill(before[0], signal.SIGKILL)
    wait_until(lambda: len(study.load().trials) == 3 and study.queue.counts().running == 2, 120)
    assert len(set(workers_of(url_of(tmp_path))) - set(before)) == 1
    endless.send_signal(signal.SIGTERM)
    _, err = endless.communicate(timeout=60)
    assert "a worker was killed (SIGKILL): its trials are queued again" in err
    assert_handed_back(study, 2)


@pytest.mark.parametrize("place", ["local"], indirect=True)
def test_workers_whose_start_was_killed_stop_and_hand_back(tmp_path, endless):
    workers = workers_of(url_of(tmp_path))
    endless.kill()
    wait_until(lambda: not any(map(is_alive, workers)))
    assert_handed_back(study_in(tmp_path), 2)


@pytest.mark.parametrize("place", ["local"], indirect=True)
def test_after_everything_was_killed_the_next_start_continues_without_waiting(tmp_path, endless):
    killed = [endless.pid, *workers_of(url_of(tmp_path))]
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    endless.wait()
    wait_until(lambda: not any(map(is_alive, killed)))
    study = study_in(tmp_path)
    again = begin("start", tmp_path / "small.toml", "--storage", url_of(tmp_path), folder=tmp_path)
    # Within less than the grace period of two minutes.
    wait_until(lambda: sum("superseded_by" in row.user_attrs for row in study.rows()) == 2, 60)
    wait_for_epochs(tmp_path, running=1)
    again.send_signal(signal.SIGTERM)
    _, err = again.communicate(timeout=60)
    assert "2 trials of workers that have ended or send no heartbeats were queued again" in err
    assert "may still be alive" not in err


@pytest.mark.parametrize("place", ["local"], indirect=True)
def test_a_worker_that_is_told_to_stop_is_not_replaced_and_the_other_goes_on(tmp_path, endless):
    study, [first, second] = study_in(tmp_path), workers_of(url_of(tmp_path))
    os.kill(first, signal.SIGTERM)
    wait_until(lambda: not is_alive(first) and study.queue.counts().waiting == 1)
    assert study.queue.counts().running == 1
    os.kill(second, signal.SIGTERM)
    _, err = endless.communicate(timeout=60)
    assert endless.returncode == 1
    assert err.count("a worker received a stop signal: it is not replaced") == 2
    assert_handed_back(study, 2)


def test_a_timeout_hands_back_and_is_a_success(tmp_path):
    content = document(searches.train_slowly) | {"horizon": 100_000}
    for _ in range(2):
        search = start(tmp_path, content, "--workers", 2, "--timeout", 8)
        _, err = search.communicate(timeout=90)
        assert search.returncode == 0, err
        assert "time is up: the workers stop after this epoch" in err
        counts = study_in(tmp_path).queue.counts()
        assert counts.running == 0
        assert counts.waiting == counts.trials <= 2


@pytest.mark.parametrize(("flag", "budget"), [("--trials", 40), ("--epochs", 350)])
def test_a_budget_holds_for_all_workers_also_for_those_that_join_and_over_restarts(
    tmp_path, flag, budget
):
    content = document(searches.train_gently, trials=1000, pruner={"name": "none"})
    search = start(tmp_path, content, "--workers", 2, flag, budget)
    study = wait_for_epochs(tmp_path, running=2)
    search.send_signal(signal.SIGINT)
    search.communicate(timeout=60)
    assert search.returncode == 130
    again = start(tmp_path, content, "--workers", 2, flag, budget)
    joined = begin("worker", "small", "--storage", url_of(tmp_path), folder=tmp_path)
    for process in (again, joined):
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    counts = study.queue.counts()
    if flag == "--trials":
        assert counts.complete == counts.trials == budget
    else:
        # Every trial can be trained up to the horizon.
        assert counts.complete == counts.trials == budget // 9
    # A worker that starts later finds nothing left to do.
    late = start(tmp_path, content, "--workers", 2, flag, budget)
    _, err = late.communicate(timeout=60)
    assert (late.returncode, study.queue.counts()) == (0, counts), err


def test_a_search_with_killed_workers_still_ends_with_its_number_of_trials(tmp_path):
    search = start(tmp_path, document(), "--workers", 2, "--trials", 60)
    wait_for_epochs(tmp_path, running=1)
    os.kill(workers_of(url_of(tmp_path))[0], signal.SIGKILL)
    _, err = search.communicate(timeout=300)
    assert search.returncode == 0, err
    counts = study_in(tmp_path).queue.counts()
    assert counts.complete + counts.pruned == counts.trials == 60


def test_a_missing_metric_is_reported_once_with_exit_status_2(tmp_path, place):
    content = document()
    content["objective"]["metric"] = "val_los"
    search = start(tmp_path, content, "--workers", 2, *place)
    _, err = search.communicate(timeout=90)
    assert search.returncode == 2, err
    assert err.count("but tests.searches:train reports val_loss: did you mean `val_loss`?") == 1
    assert "Traceback" not in err
    assert study_in(tmp_path).queue.counts().running == 0
    # Nothing was trained, so the mistake is mended in the file, and that is all.
    mended = start(tmp_path, document(), "--workers", 2, *place)
    _, err = mended.communicate(timeout=300)
    assert mended.returncode == 0, err
    assert "study small had other settings and no trained epoch: it is created again" in err


def test_a_task_that_always_fails_ends_the_search_with_exit_1(tmp_path):
    # A pruned trial would end the row.
    search = start(tmp_path, document(searches.train_and_raise, pruner={"name": "none"}))
    _, err = search.communicate(timeout=90)
    assert search.returncode == 1
    assert err.count("ZeroDivisionError: the third epoch is one too many") == 4
    assert "error: 3 trials in a row failed" in err
    assert "Traceback" not in err


def test_the_trials_of_a_killed_child_do_not_count_as_those_of_another_worker(tmp_path):
    content = document(searches.train_slowly) | {"horizon": 100_000}
    study, said = make_study(tmp_path, content), []
    local = Supervisor(study, 1, LocalLauncher(), said.append, reaping=0)
    try:
        local.start()
        wait_for_epochs(tmp_path, running=1)
        [child] = workers_of(url_of(tmp_path))
        os.kill(child, signal.SIGKILL)
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        assert local.watch()
    finally:
        local.kill()
    assert "warning: a worker was killed (SIGKILL): its trials are queued again" in said
    assert not [line for line in said if "have ended or send no heartbeats" in line]


def test_trials_of_a_machine_that_went_away_are_taken_over(tmp_path):
    study = make_study(tmp_path)
    claim(study, "another-machine")
    said: list[str] = []
    local = Supervisor(
        study, 1, LocalLauncher(), said.append, grace=timedelta(seconds=2), reaping=0.5
    )
    try:
        local.start()
        wait_until(lambda: not local.watch())
    finally:
        local.kill()
    assert "1 trial of workers that have ended or send no heartbeats was queued again" in said
    counts = study.queue.counts()
    assert (local.exit_code, counts.finished, counts.trials) == (0, 10, 10)
