"""The queue: each trial is claimed by one worker, and no claimed trial is lost."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import text

from schedsearch.storage import StudyHandle, open_database, open_study
from schedsearch.storage.stale_trials import StaleTrialDetector
from tests.claims import claim
from tests.forks import fork_context
from tests.searches import document, make_study_at, work
from tests.storage.lost_answers import lost_answer, transient_error
from tests.storage.processes import claim_all, create
from tests.storage.studies import record, study_at


@pytest.fixture
def study(database_url: str) -> StudyHandle:
    return make_study_at(database_url)


#: Longer than the one second that is the precision of heartbeats on MariaDB and SQLite.
GRACE_PERIOD = timedelta(seconds=2)


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


def test_claims_end_at_the_total_and_continue_when_it_is_raised(study):
    assert all(claim(study, "ann") is not None for _ in range(10))
    assert claim(study, "ann") is None
    make_study_at(study.database.url, document(trials=11))
    assert claim(study, "ann") is not None


def test_sample_indices_count_from_0_without_the_baseline(study):
    for _ in range(4):
        claim(study, "ann")
    assert [trial.user_attrs.get("draw") for trial in study.trials()] == [None, 0, 1, 2]


def test_eight_workers_share_the_trials_and_each_trial_is_claimed_once(study):
    context = fork_context()
    found = context.Queue()
    url = study.database.url
    make_study_at(study.database.url, document(trials=40))
    for _ in range(12):  # some of them are requeued
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


def test_eight_processes_on_an_empty_database_create_one_study(database_url):
    context = fork_context()
    outcome = context.Queue()
    given = (database_url, record(trials=10), outcome)
    creators = [context.Process(target=create, args=given) for _ in range(8)]
    for creator in creators:
        creator.start()
    assert [outcome.get(timeout=60) for _ in creators] == ["created"] * 8
    for creator in creators:
        creator.join()
    created = open_study(open_database(database_url), "small")
    assert created.queue.counts().waiting == created.queue.counts().trials == 1


def test_a_requeued_trial_is_a_new_row_with_the_same_plan_and_no_reports(study):
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
    lost, retry = rows[1], rows[3]
    assert (lost.state, lost.user_attrs["superseded_by"]) == (TrialState.FAIL, 3)
    assert lost.datetime_complete is not None
    assert retry.state == TrialState.WAITING
    assert retry.user_attrs == {"retry_of": 1, "draw": 0, **kept}
    assert retry.params == {"lr.constant.value": 0.2}
    assert (retry.system_attrs, retry.intermediate_values) == ({}, {})


def test_a_trial_with_its_retries_counts_as_one_trial(study):
    claim(study, "ann")
    for _ in range(3):
        study.queue.requeue_trials_of("ann")
        claim(study, "ann")
    counts = study.queue.counts()
    assert (counts.trials, counts.running, counts.failed) == (1, 1, 0)
    assert [trial.number for trial in study.trials()] == [3]


def test_a_trial_that_was_lost_before_it_was_sampled_is_sampled_in_its_retry(study):
    claim(study, "ann")
    claim(study, "ann")  # and is lost before it samples a plan
    study.queue.requeue_trials_of("ann")
    work(study, "bob")
    draws = [trial.user_attrs.get("draw") for trial in study.trials()]
    assert sorted(draw for draw in draws if draw is not None) == list(range(9))
    assert study.queue.counts().finished == 10


def test_only_running_trials_of_the_worker_are_requeued(study):
    claim(study, "ann")
    claim(study, "bob")
    assert study.queue.requeue_trials_of("ann") == 1
    assert study.queue.requeue_trials_of("ann") == 0
    assert state(study, 1) == TrialState.RUNNING


def test_a_lost_trial_does_not_end_before_it_starts(study):
    trial_id = claim(study, "ann")
    with study.database.engine.begin() as connection:
        connection.execute(text("UPDATE trial_heartbeats SET heartbeat = '2026-01-01 00:00:00'"))
    assert study.queue.requeue_lost(timedelta(0)) == 1
    [row] = [row for row in study.rows() if row._trial_id == trial_id]
    assert row.datetime_complete == row.datetime_start


def test_a_trial_is_stale_after_the_queue_observed_no_heartbeat_for_the_grace_period(study):
    beating, _ = claim(study, "ann"), claim(study, "bob")
    never = claim(study, "cid")
    # Old by the database's clock, which does not count: this queue has not observed it yet.
    with study.database.engine.begin() as connection:
        connection.execute(text("UPDATE trial_heartbeats SET heartbeat = '2026-01-01 00:00:00'"))
        connection.execute(text(f"DELETE FROM trial_heartbeats WHERE trial_id = {never}"))
    began, found = time.monotonic(), 0
    while not found:
        found = study.queue.requeue_lost(GRACE_PERIOD)
        study.queue.liveness.record([beating])
        time.sleep(0.1)
    assert (found, time.monotonic() - began >= GRACE_PERIOD.total_seconds()) == (2, True)
    assert [state(study, i) for i in range(3)] == [
        TrialState.RUNNING,
        TrialState.FAIL,
        TrialState.FAIL,
    ]
    assert study.queue.requeue_lost(GRACE_PERIOD) == 0
    assert study.queue.liveness.count_alive() == 1


@pytest.fixture
def tokyo(monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("tokyo")
def test_times_are_stored_as_optuna_stores_them(study):
    claim(study, "ann")
    study.load().ask()
    ours, theirs = (trial.datetime_start for trial in study.load().trials)
    assert abs((ours - theirs).total_seconds()) < 60


def test_trials_are_found_by_any_worker_name(study):
    claim(study, 'a "quoted" näme')
    assert study.queue.requeue_trials_of('a "quoted" näme') == 1


# --- enqueueing and withdrawing ------------------------------------------------------------------


def templates(count: int) -> list[FrozenTrial]:
    return [
        create_trial(
            state=TrialState.WAITING,
            params={"x": i / 16},
            distributions={"x": FloatDistribution(0.0, 1.0)},
            user_attrs={"template": {"number": i}, "seed": i},
        )
        for i in range(count)
    ]


def test_enqueued_trials_wait_with_their_parameters_and_attributes(study):
    study.queue.enqueue(templates(2))
    first, *queued = study.load().trials
    assert first.user_attrs["baseline"]
    assert [trial.number for trial in queued] == [1, 2]
    assert {trial.state for trial in queued} == {TrialState.WAITING}
    assert [trial.params for trial in queued] == [{"x": 0.0}, {"x": 1 / 16}]
    for i, trial in enumerate(queued):
        assert {"template": {"number": i}, "seed": i}.items() <= trial.user_attrs.items()
    assert claim(study, "ann") == first._trial_id


def test_enqueueing_raises_the_total_only_if_the_trials_exceed_it(study):
    study.queue.enqueue(templates(2))
    assert study.total() == 10
    study.queue.enqueue(templates(9))
    assert (study.total(), study.queue.counts().waiting) == (12, 12)
    study.queue.enqueue([])
    assert study.total() == 12


@pytest.mark.parametrize("backend", ["sqlite"])
def test_trials_are_enqueued_once_if_the_answer_is_lost(study):
    with lost_answer(study.database.engine) as lost:
        study.queue.enqueue(templates(3))
    assert (lost, study.queue.counts().waiting) == (["commit"], 4)


@pytest.mark.parametrize("backend", ["sqlite"])
def test_trials_are_enqueued_if_another_process_adds_one_between_two_attempts(study):
    engine, failed = study.database.engine, list[str]()
    commit = engine.dialect.do_commit

    def fail_once(connection: Any) -> None:
        if failed:
            commit(connection)
            return
        failed.append("commit")
        connection.rollback()
        other = open_database(study.database.url)
        open_study(other, study.name).queue.enqueue(templates(1))
        raise transient_error()

    engine.dialect.do_commit = fail_once
    try:
        study.queue.enqueue(templates(3))
    finally:
        del engine.dialect.do_commit
    assert study.queue.counts().waiting == 1 + 1 + 3


def test_withdrawn_trials_leave_the_queue_and_the_total(study):
    study.queue.enqueue(templates(12))
    trials = study.load().trials
    study.queue.withdraw([trial._trial_id for trial in trials[3:]])
    assert (study.total(), study.queue.counts().waiting) == (3, 3)
    assert [trial.number for trial in study.trials()] == [0, 1, 2]
    withdrawn = study.load().trials[3]
    assert (withdrawn.state, withdrawn.user_attrs["superseded_by"]) == (TrialState.FAIL, None)
    assert withdrawn.datetime_complete is not None


def test_nothing_is_withdrawn_while_a_trial_is_running_or_after_it_finished(study):
    study.queue.enqueue(templates(1))
    first, second = (trial._trial_id for trial in study.load().trials)
    assert claim(study, "ann") == first
    study.queue.withdraw([second])
    assert study.queue.counts().waiting == 1
    study.database.optuna.set_trial_state_values(first, TrialState.COMPLETE, [0.5])
    study.queue.withdraw([first])
    assert (state(study, 0), state(study, 1)) == (TrialState.COMPLETE, TrialState.WAITING)


# --- counts, heartbeats and failures -------------------------------------------------------------


def test_only_the_named_trials_of_the_worker_fail(study):
    failed, running, other = claim(study, "ann"), claim(study, "ann"), claim(study, "bob")
    study.queue.fail("ann", [failed, other], "the traceback")
    assert [state(study, i).name for i in range(3)] == ["FAIL", "RUNNING", "RUNNING"]
    trial = study.load().trials[0]
    assert trial.user_attrs["traceback"] == "the traceback"
    assert trial.datetime_complete is not None
    assert "traceback" not in study.load().trials[1].user_attrs
    assert running != failed


def test_a_finished_trial_can_neither_fail_nor_be_requeued(study):
    trial_id = claim(study, "ann")
    study.database.optuna.set_trial_state_values(trial_id, TrialState.COMPLETE, [0.5])
    study.queue.fail("ann", [trial_id], "late")
    assert study.queue.requeue_trials_of("ann") == 0
    assert state(study, 0) is TrialState.COMPLETE


def test_a_budget_of_epochs_counts_finished_trials_and_reserves_the_horizon_for_others(
    database_url,
):
    study = make_study_at(database_url, document(epochs=40))  # the horizon is 9
    storage = study.database.optuna
    assert study.queue.remaining() == 3  # trial 0 is queued
    claimed = [claim(study, "ann") for _ in range(2)]
    assert study.queue.remaining() == 2
    for trial_id, epochs in zip(claimed, (5, 8), strict=True):
        for epoch in range(epochs):
            storage.set_trial_intermediate_value(trial_id, epoch, 0.5)
    storage.set_trial_state_values(claimed[0], TrialState.PRUNED)
    assert study.queue.remaining() == 2  # (40 - 5) // 9 - 1
    # The epochs of a superseded row do not count: its retry replays them.
    study.queue.requeue_trials_of("ann")
    assert study.queue.remaining() == 2


def test_only_trials_with_a_recent_heartbeat_are_alive(study):
    old, new = claim(study, "ann"), claim(study, "bob")
    with study.database.engine.begin() as connection:
        long_ago = "UPDATE trial_heartbeats SET heartbeat = '2026-01-01 00:00:00'"
        connection.execute(text(f"{long_ago} WHERE trial_id = {old}"))
    assert study.queue.liveness.count_alive() == 1
    study.queue.liveness.record([new])
    assert study.queue.liveness.count_alive() == 1
    study.queue.liveness.record([old])
    assert study.queue.liveness.count_alive() == 2


def test_a_heartbeat_between_the_look_and_the_lock_keeps_a_trial(study, monkeypatch):
    trial_id = claim(study, "ann")
    with study.database.engine.begin() as connection:
        connection.execute(text("UPDATE trial_heartbeats SET heartbeat = '2026-01-01 00:00:00'"))
    update = StaleTrialDetector.update

    def update_late(*arguments: object) -> frozenset[int]:
        stale = update(*arguments)
        study.queue.liveness.record([trial_id])
        return stale

    monkeypatch.setattr(StaleTrialDetector, "update", update_late)
    assert study.queue.requeue_lost(timedelta(0)) == 0
    assert state(study, 0) is TrialState.RUNNING


def test_a_retry_keeps_what_marks_the_trial_and_what_optuna_fixed(study):
    study.load().enqueue_trial({"lr.family": "constant"})
    claim(study, "ann")
    trial_id, storage = claim(study, "ann"), study.database.optuna
    marks = {"audited": True, "own": "mine.toml", "seed": 3, "trial": 7, "constant": False}
    for key, value in marks.items():
        storage.set_trial_user_attr(trial_id, key, value)
    study.queue.requeue_trials_of("ann")
    retry = study.load().trials[3]
    assert retry.user_attrs == {"retry_of": 1, "draw": 0, **marks}
    assert retry.system_attrs == {"fixed_params": {"lr.family": "constant"}}


def test_a_heartbeat_that_is_not_a_time_counts_as_none(tmp_path):
    study = study_at(f"sqlite:///{tmp_path / 'studies.db'}")
    trial = create_trial(state=TrialState.RUNNING)
    trial_id = study.database.optuna.create_new_trial(study.study_id, trial)
    with study.database.engine.begin() as connection:
        row = "INSERT INTO trial_heartbeats (trial_id, heartbeat) VALUES (:trial, 'x')"
        connection.execute(text(row), {"trial": trial_id})
    assert study.queue.liveness.count_alive() == 0
    assert study.queue.requeue_lost() == 0
    study.queue.liveness.record([trial_id])
    assert study.queue.liveness.count_alive() == 1
