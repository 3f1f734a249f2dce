"""Retries: which errors are retried, for how long, and in one layer only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from optuna.distributions import FloatDistribution
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError, OperationalError

from schedsearch.errors import DatabaseUnavailableError
from schedsearch.storage import BatchedStorage, StudyHandle, retrier
from schedsearch.trajectories import open_store
from schedsearch.trajectories.cached_runs import CachedRuns
from tests.claims import claim
from tests.searches import Ears, make_study, make_worker
from tests.storage.lost_answers import transient_error
from tests.storage.studies import study_at


@pytest.fixture
def retries(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Count the retries, and fail where one begins inside another one."""
    retries, running, retry = list[str](), list[str](), retrier.Retrier.retry

    def counted(self: retrier.Retrier, work: Callable[[], Any]) -> Any:
        assert running == [], "a retry runs inside another retry"
        running.append("")
        retries.append("")
        try:
            return retry(self, work)
        finally:
            running.pop()

    monkeypatch.setattr(retrier.Retrier, "retry", counted)
    yield retries
    assert retries


def test_every_call_of_a_storage_is_retried_by_one_layer(tmp_path, retries):
    study = study_at(f"sqlite:///{tmp_path}/studies.db")
    claim(study, "ann")
    for storage in (BatchedStorage(study.database), study.database.optuna):
        trial_id = storage.create_new_trial(study.study_id)
        storage.set_trial_param(trial_id, "x", 0.5, FloatDistribution(0.0, 1.0))
        storage.set_trial_intermediate_value(trial_id, 1, 0.5)
        storage.set_trial_user_attr(trial_id, "note", 1)
        storage.set_trial_system_attr(trial_id, "note", 1)
        storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [0.5])
        storage.set_study_user_attr(study.study_id, "note", 1)
        storage.set_study_system_attr(study.study_id, "note", 1)
        assert storage.get_trial(trial_id).params == {"x": 0.5}
        assert storage.get_best_trial(study.study_id).value == 0.5
        assert storage.get_n_trials(study.study_id) == trial_id
        number = storage.get_trial_number_from_id(trial_id)
        assert storage.get_trial_id_from_study_id_trial_number(study.study_id, number) == trial_id
        assert storage.get_study_id_from_name("small") == study.study_id
        assert storage.get_study_name_from_id(study.study_id) == "small"
        assert storage.get_study_directions(study.study_id) == [StudyDirection.MINIMIZE]
        assert storage.get_study_user_attrs(study.study_id)["note"] == 1
        assert storage.get_study_system_attrs(study.study_id)["note"] == 1
        assert len(storage.get_all_studies()) == 1
        other = storage.create_new_study([StudyDirection.MINIMIZE], "other")
        storage.delete_study(other)
        storage.remove_session()


@pytest.mark.usefixtures("retries")
def test_a_whole_search_is_retried_by_one_layer(tmp_path):
    study, said = make_study(tmp_path), Ears()
    make_worker(
        study,
        "ann",
        lambda: False,
        said,
        cached_runs=CachedRuns.of_study(study, open_store(study.database, print)),
    ).run()
    assert not said.wrong
    assert study.queue.counts().finished == 10


class Clock:
    """A clock that only `sleep` moves."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.pauses = 0

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        self.pauses += 1


@pytest.mark.parametrize("has_template", [True, False])
def test_each_call_creates_a_trial_and_a_lost_answer_does_not_create_a_second_one(
    tmp_path, monkeypatch, has_template
):
    study = study_at(f"sqlite:///{tmp_path}/studies.db")
    template = create_trial(state=TrialState.WAITING) if has_template else None
    create, answers = RDBStorage._create_new_trial, list[int]()

    def create_and_lose(*arguments: Any) -> Any:
        found = create(*arguments)
        answers.append(len(answers))
        if answers == [0, 1, 2]:
            raise StorageInternalError from OperationalError("COMMIT", {}, transient_error())
        return found

    monkeypatch.setattr(RDBStorage, "_create_new_trial", create_and_lose)
    created = [study.database.optuna.create_new_trial(study.study_id, template) for _ in range(3)]
    assert len(set(created)) == 3
    # Without a template, the trial of the lost answer cannot be told apart from others.
    assert len(study.rows()) == 1 + (3 if has_template else 4)


# --- one retrier ---------------------------------------------------------------------------------


def lost_connection() -> OperationalError:
    error = RuntimeError("the connection was lost")
    return OperationalError("SELECT", {}, error, connection_invalidated=True)


def unavailable() -> OperationalError:
    return OperationalError("SELECT", {}, transient_error())


class Work:
    """Work that fails for some seconds."""

    def __init__(self, clock: Clock, until: float, error: Callable[[], Exception]) -> None:
        self._clock, self._until, self._error = clock, until, error

    def __call__(self) -> str:
        if self._clock.seconds < self._until:
            raise self._error()
        return "done"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(retrier, "time", made)
    return made


@pytest.mark.parametrize("error", [unavailable, lost_connection])
def test_transient_errors_are_retried(clock, error):
    assert retrier.Retrier("db").retry(Work(clock, 20.0, error)) == "done"
    assert clock.pauses > 0


@pytest.mark.parametrize(
    "error",
    [
        lambda: OperationalError("SELECT", {}, RuntimeError("disk I/O error")),
        lambda: StorageInternalError("no cause"),
        lambda: IntegrityError("INSERT", {}, RuntimeError("not unique")),
        ZeroDivisionError,
    ],
)
def test_other_errors_are_raised_at_once(clock, error):
    with pytest.raises(type(error())):
        retrier.Retrier("db").retry(Work(clock, 20.0, error))
    assert clock.pauses == 0


def test_each_outage_is_reported_once_when_it_begins_and_once_when_it_ends(clock, caplog):
    made = retrier.Retrier("db")
    for _ in range(2):
        made.retry(Work(clock, clock.seconds + 20.0, unavailable))
        made.retry(Work(clock, 0.0, unavailable))
    warning = "warning: db does not answer: retrying for up to 600 s (database is locked)"
    assert caplog.messages == [warning, "db answers again"] * 2


def test_an_outage_of_less_than_a_second_is_not_reported(clock, caplog):
    retrier.Retrier("db").retry(Work(clock, 0.9, unavailable))
    assert caplog.messages == []


@pytest.mark.parametrize(("outage", "is_survived"), [(2.0, True), (20.0, False)])
def test_a_stop_ends_the_retries_after_three_seconds(clock, outage, is_survived):
    made = retrier.Retrier("db")
    made.stop_waiting_when(lambda: clock.seconds >= 10.0)
    clock.seconds = 10.0
    work = Work(clock, 10.0 + outage, unavailable)
    if is_survived:
        assert made.retry(work) == "done"
        return
    with pytest.raises(DatabaseUnavailableError, match=r"db does not answer .*: stopped, but the"):
        made.retry(work)
    assert 13.0 < clock.seconds < 18.0


CALLS: dict[str, Callable[[StudyHandle, BatchedStorage], object]] = {
    "a call": lambda study, storage: storage.get_study_name_from_id(study.study_id),
    "a creation": lambda study, storage: storage.create_new_trial(study.study_id),
    "a cached call": lambda study, storage: study.database.optuna.get_all_studies(),
    "a refresh": lambda study, storage: storage.refresh(study.study_id),
    "a claim": lambda study, storage: claim(study, "ann"),
    "a heartbeat": lambda study, storage: study.queue.liveness.record([1]),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_database_that_stays_away_costs_one_timeout_and_one_attempt_per_pause(
    tmp_path, monkeypatch, call
):
    study = study_at(f"sqlite:///{tmp_path}/studies.db")
    storage, clock, attempts = BatchedStorage(study.database), Clock(), list[float]()

    def refuse(*_: object) -> None:
        attempts.append(clock.seconds)
        raise transient_error()

    for engine in (study.database.engine, study.database.rdb.engine):
        engine.dispose()
        event.listen(engine, "do_connect", refuse)
    study.database.optuna.remove_session()
    monkeypatch.setattr(retrier, "time", clock)
    with pytest.raises(Exception, match=r"database is locked|An exception is raised"):
        CALLS[call](study, storage)
    assert retrier.TIMEOUT < clock.seconds < retrier.TIMEOUT + 5.0
    # Optuna itself tries some calls several times, but without a pause.
    assert len(set(attempts)) == clock.pauses + 1
