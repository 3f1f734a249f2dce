"""Workers that are killed, suspended and interrupted: no trial is lost, and none ends twice."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from optuna.trial import TrialState

from schedsearch.storage import StudyHandle
from tests import searches
from tests.claims import claim
from tests.forks import start_process
from tests.searches import begin, document, make_study_at, wait_until
from tests.workers import reap_and_be_killed, run_worker

GRACE = 2.0


class Crowd:
    """Worker processes of one study, each with another name."""

    def __init__(self, study: StudyHandle) -> None:
        self._study = study
        self._numbers = itertools.count()
        self.members: list[BaseProcess] = []

    def add(self) -> BaseProcess:
        name = f"worker-{next(self._numbers)}"
        member = start_process(run_worker, self._study.database.url, name, GRACE)
        self.members.append(member)
        return member

    def kill(self, member: BaseProcess) -> None:
        member.kill()
        member.join()
        self.members.remove(member)


@pytest.fixture
def study(database_url: str) -> StudyHandle:
    content = document(searches.train_gently, trials=8, pruner={"name": "none"})
    return make_study_at(database_url, content)


@pytest.fixture
def crowd(study: StudyHandle) -> Iterator[Crowd]:
    crowd = Crowd(study)
    yield crowd
    for member in list(crowd.members):
        crowd.kill(member)


def assert_chains(study: StudyHandle, number: int) -> None:
    """Every trial ended once, well, and every row of its retries but the last names the next."""
    counts = study.queue.counts()
    assert counts.complete + counts.pruned == counts.trials == number
    rows = study.load().trials
    ends = [row for row in rows if "superseded_by" not in row.user_attrs]
    assert {row.state for row in ends} <= {TrialState.COMPLETE, TrialState.PRUNED}
    assert len(ends) == number
    for row in rows:
        if (successor := row.user_attrs.get("superseded_by")) is not None:
            assert row.state is TrialState.FAIL
            assert rows[successor].user_attrs["retry_of"] == row.number
    retried = [row.user_attrs["retry_of"] for row in rows if "retry_of" in row.user_attrs]
    assert len(retried) == len(set(retried)) == len(rows) - number


@pytest.mark.long
def test_eight_workers_under_sigkill_end_two_hundred_trials_exactly(database_url):
    study = make_study_at(database_url, document(searches.train_gently, trials=200))
    crowd, rng = Crowd(study), random.Random(0)
    for _ in range(8):
        crowd.add()
    kills = 0
    end = time.monotonic() + 200
    while study.queue.counts().finished < 200 and time.monotonic() < end:
        seen = study.queue.counts().finished
        wait_until(lambda seen=seen: study.queue.counts().finished >= min(200, seen + 12), 120)
        if kills < 12:
            crowd.kill(rng.choice(crowd.members))
            crowd.add()
            kills += 1
    for member in crowd.members:
        member.join(60)
        assert member.exitcode == 0
    assert kills >= 10
    assert_chains(study, 200)


@pytest.mark.long
def test_the_last_trial_of_a_killed_worker_is_taken_over_within_the_grace(study, crowd):
    victim, successor = crowd.add(), crowd.add()
    # The successor has nothing left to begin, and waits: no worker claims a trial any more.
    wait_until(lambda: study.queue.counts().finished >= 4)
    crowd.kill(victim)
    killed = time.monotonic()
    successor.join(60)
    assert successor.exitcode == 0
    assert time.monotonic() - killed < 30
    assert_chains(study, 8)


def test_a_reaper_that_is_killed_half_way_leaves_each_lost_trial_to_be_queued_once(study):
    lost = [claim(study, "gone") for _ in range(3)]
    assert None not in lost
    reaper = start_process(reap_and_be_killed, study.database.url)
    reaper.join(60)
    assert reaper.exitcode == -signal.SIGKILL
    assert study.queue.counts().running == 3
    assert len(study.load().trials) == 3
    assert study.queue.requeue_lost(timedelta(0)) == 3
    assert study.queue.requeue_lost(timedelta(0)) == 0
    rows = study.load().trials
    assert [row.user_attrs["retry_of"] for row in rows[3:]] == [0, 1, 2]


@pytest.mark.long
def test_a_worker_that_was_suspended_past_the_grace_drops_its_trial_and_takes_the_next(
    study, crowd
):
    sleeper = crowd.add()
    wait_until(lambda: study.queue.counts().epochs >= 2)
    assert sleeper.pid is not None
    os.kill(sleeper.pid, signal.SIGSTOP)
    stolen = [row.number for row in study.load().trials if row.state is TrialState.RUNNING]
    before = study.load().trials[stolen[0]].intermediate_values
    successor = crowd.add()
    wait_until(lambda: "superseded_by" in study.load().trials[stolen[0]].user_attrs)
    os.kill(sleeper.pid, signal.SIGCONT)
    for member in (sleeper, successor):
        member.join(60)
        assert member.exitcode == 0
    assert_chains(study, 8)
    rows = study.load().trials
    assert rows[stolen[0]].intermediate_values == before
    successor = rows[rows[stolen[0]].user_attrs["superseded_by"]]
    assert list(successor.intermediate_values) == list(range(1, 10))
    by_worker = [row for row in rows if row.user_attrs["worker"] == "worker-0"]
    assert any(row.number > stolen[0] and row.state is TrialState.COMPLETE for row in by_worker)


def a_worker(study: StudyHandle, folder: Path) -> subprocess.Popen[str]:
    url = study.database.url
    return begin("worker", study.name, folder=folder, SCHEDSEARCH_STORAGE=url)


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_signal_ends_the_epoch_and_keeps_it_for_the_next_worker(database_url, tmp_path, number):
    content = document(searches.train_on, trials=1) | {"horizon": 200}
    study = make_study_at(database_url, content)
    worker = a_worker(study, tmp_path)
    wait_until(lambda: study.queue.counts().epochs >= 17)
    worker.send_signal(number)
    _, err = worker.communicate(timeout=20)
    assert worker.returncode == 130, err
    lost, successor = study.load().trials
    assert (lost.state, successor.state) == (TrialState.FAIL, TrialState.WAITING)
    stopped = len(lost.intermediate_values)

    _, err = a_worker(study, tmp_path).communicate(timeout=60)
    successor = study.load().trials[1]
    assert successor.state is TrialState.COMPLETE, err
    assert successor.user_attrs["trained"] == 200 - stopped
    known = dict(list(successor.intermediate_values.items())[:stopped])
    assert known == lost.intermediate_values
