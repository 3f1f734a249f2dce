"""One retry layer: no retry runs inside another one, and an outage is waited for once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from optuna.distributions import FloatDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy import event

from schedsearch.storage import BatchedStorage, StudyHandle, retrier
from schedsearch.trajectories import open_store
from schedsearch.worker import Reuse
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
        assert storage.get_study_system_attrs(study.study_id) == {"note": 1}
        assert len(storage.get_all_studies()) == 1
        other = storage.create_new_study([StudyDirection.MINIMIZE], "other")
        storage.delete_study(other)
        storage.remove_session()


@pytest.mark.usefixtures("retries")
def test_a_whole_search_is_retried_by_one_layer(tmp_path):
    study, said = make_study(tmp_path), Ears()
    make_worker(
        study, "ann", lambda: False, said, reuse=Reuse(study, open_store(study.database, print))
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


CALLS: dict[str, Callable[[StudyHandle, BatchedStorage], object]] = {
    "a call": lambda study, storage: storage.get_study_name_from_id(study.study_id),
    "a creation": lambda study, storage: storage.create_new_trial(study.study_id),
    "a cached call": lambda study, storage: study.database.optuna.get_all_studies(),
    "a refresh": lambda study, storage: storage.refresh(study.study_id),
    "a claim": lambda study, storage: claim(study, "ann"),
    "a heartbeat": lambda study, storage: study.queue.record_heartbeats([1]),
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
