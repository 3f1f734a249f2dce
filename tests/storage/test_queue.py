"""The queue of trials: what one worker takes no other gets, and nothing taken is ever lost."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from optuna.trial import TrialState
from sqlalchemy import text

from schedsearch.storage import StudyHandle, open_database, open_study
from tests.claims import claim
from tests.searches import document, make_study_at, work
from tests.storage.processes import claim_all, create, processes
from tests.storage.studies import record


@pytest.fixture
def study(database_url: str) -> StudyHandle:
    return make_study_at(database_url)


#: Longer than the second by which MariaDB and SQLite tell the time of a beat.
GRACE = timedelta(seconds=2)


def state(study: StudyHandle, number: int) -> TrialState:
    return study.load().trials[number].state


def test_trial_0_is_claimed_first_and_is_the_baseline_at_the_defaults(study):
    claim(study, "ann")
    [trial] = study.trials()
    assert (trial.number, trial.state) == (0, TrialState.RUNNING)
    assert trial.user_attrs["baseline"]
    families = {"constant": {"value": 0.1}}
    assert trial.user_attrs["plan"]["hyperparameters"]["lr"]["families"] == families
    assert trial.params == {"lr.family": "constant", "lr.constant.value": 0.1}


def test_claims_end_at_the_total_and_go_on_when_it_grows(study):
    assert all(claim(study, "ann") is not None for _ in range(10))
    assert claim(study, "ann") is None
    make_study_at(study.database.url, document(trials=11))
    assert claim(study, "ann") is not None


def test_draws_are_numbered_from_0_without_the_baseline(study):
    for _ in range(4):
        claim(study, "ann")
    assert [trial.user_attrs.get("draw") for trial in study.trials()] == [None, 0, 1, 2]


def test_eight_claimers_share_the_trials_and_none_gets_one_twice(study):
    context = processes()
    found = context.Queue()
    url = study.database.url
    make_study_at(study.database.url, document(trials=40))
    for _ in range(12):  # some of them queued anew
        claim(study, "gone")
    study.queue.requeue_trials_of("gone")
    claimers = [
        context.Process(target=claim_all, args=(url, f"worker-{i}", found)) for i in range(8)
    ]
    for claimer in claimers:
        claimer.start()
    taken, ended = [], 0
    while ended < 8:
        trial_id = found.get(timeout=60)
        ended += trial_id is None
        taken += [] if trial_id is None else [trial_id]
    for claimer in claimers:
        claimer.join()
    assert len(taken) == len(set(taken)) == 40
    assert study.queue.counts().running == study.queue.counts().trials == 40


def test_eight_creators_on_an_empty_database_make_one_study(database_url):
    context = processes()
    outcome = context.Queue()
    given = (database_url, record(trials=10), outcome)
    creators = [context.Process(target=create, args=given) for _ in range(8)]
    for creator in creators:
        creator.start()
    assert [outcome.get(timeout=60) for _ in creators] == ["made"] * 8
    for creator in creators:
        creator.join()
    made = open_study(open_database(database_url), "small")
    assert made.queue.counts().waiting == made.queue.counts().trials == 1


def test_a_trial_handed_back_is_a_new_row_with_the_same_plan_and_no_past(study):
    claim(study, "ann")
    trial_id = claim(study, "ann")
    storage = study.database.optuna
    lost = study.load().trials[1]
    plan = {"hyperparameters": {"lr": {"families": {"constant": {"value": 0.2}}}}}
    kept = {"plan": plan, "unpruned": True, "parent": 0, "from_epoch": 4}
    for key, value in {**kept, "diverged": 3}.items():
        storage.set_trial_user_attr(trial_id, key, value)
    storage.set_trial_intermediate_value(trial_id, 1, 0.5)
    storage.set_trial_system_attr(trial_id, "completed_rung_0", 0.5)
    distribution = study.load().trials[0].distributions["lr.constant.value"]
    storage.set_trial_param(trial_id, "lr.constant.value", 0.2, distribution)

    assert study.queue.requeue_trials_of("ann") == 2
    rows = study.load().trials
    lost, successor = rows[1], rows[3]
    assert (lost.state, lost.user_attrs["superseded_by"]) == (TrialState.FAIL, 3)
    assert lost.datetime_complete is not None
    assert successor.state == TrialState.WAITING
    assert successor.user_attrs == {"retry_of": 1, "draw": 0, **kept}
    assert successor.params == {"lr.constant.value": 0.2}
    assert (successor.system_attrs, successor.intermediate_values) == ({}, {})


def test_rows_that_replace_each_other_count_as_one_trial(study):
    claim(study, "ann")
    for _ in range(3):
        study.queue.requeue_trials_of("ann")
        claim(study, "ann")
    counts = study.queue.counts()
    assert (counts.trials, counts.running, counts.failed) == (1, 1, 0)
    assert [trial.number for trial in study.trials()] == [3]


def test_a_draw_that_was_lost_before_it_was_made_is_made_by_the_successor(study):
    claim(study, "ann")
    claim(study, "ann")  # and dies before it has drawn a plan
    study.queue.requeue_trials_of("ann")
    work(study, "bob")
    draws = [trial.user_attrs.get("draw") for trial in study.trials()]
    assert sorted(draw for draw in draws if draw is not None) == list(range(9))
    assert study.queue.counts().finished == 10


def test_only_the_owners_live_trials_are_handed_back(study):
    claim(study, "ann")
    claim(study, "bob")
    assert study.queue.requeue_trials_of("ann") == 1
    assert study.queue.requeue_trials_of("ann") == 0
    assert state(study, 1) == TrialState.RUNNING


def test_a_trial_is_stale_once_the_same_queue_saw_no_sign_of_it_for_the_grace(study):
    beating, _ = claim(study, "ann"), claim(study, "bob")
    never = claim(study, "cid")
    # Long ago by the database's clock: who has only just come to look cannot know why.
    with study.database.engine.begin() as connection:
        connection.execute(text("UPDATE trial_heartbeats SET heartbeat = '2026-01-01 00:00:00'"))
        connection.execute(text(f"DELETE FROM trial_heartbeats WHERE trial_id = {never}"))
    began, found = time.monotonic(), 0
    while not found:
        found = study.queue.requeue_stale(GRACE)
        study.queue.record_heartbeats([beating])
        time.sleep(0.1)
    assert (found, time.monotonic() - began >= GRACE.total_seconds()) == (2, True)
    assert [state(study, i) for i in range(3)] == [
        TrialState.RUNNING,
        TrialState.FAIL,
        TrialState.FAIL,
    ]
    assert study.queue.requeue_stale(GRACE) == 0
    assert study.queue.count_alive() == 1


@pytest.fixture
def tokyo(monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("tokyo")
def test_times_are_those_that_optuna_would_write(study):
    claim(study, "ann")
    study.load().ask()
    ours, theirs = (trial.datetime_start for trial in study.load().trials)
    assert abs((ours - theirs).total_seconds()) < 60


def test_any_name_of_a_worker_finds_its_trials(study):
    claim(study, 'a "quoted" näme')
    assert study.queue.requeue_trials_of('a "quoted" näme') == 1
