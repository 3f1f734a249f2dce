"""Tables of an Optuna that is not known here: searched all the same, by Optuna's calls alone."""

from __future__ import annotations

from datetime import timedelta

import pytest
from optuna.trial import TrialState

from schedsearch.storage import BatchedStorage, Database, StudyHandle
from tests.claims import claim
from tests.storage.studies import study_at


@pytest.fixture
def study(database_url: str, monkeypatch: pytest.MonkeyPatch) -> StudyHandle:
    monkeypatch.setattr("schedsearch.storage.database.SCHEMA_VERSION", 13)
    study = study_at(database_url, trials=4)
    # What no transaction of ours may touch.
    for transaction in ("read", "write"):
        monkeypatch.setattr(Database, transaction, None)
    return study


def test_a_round_writes_at_once_and_claims_by_optunas_calls(study):
    storage = BatchedStorage(study.database)
    storage.refresh(study.study_id)
    study.load().enqueue_trial({"lr.family": "constant"})
    with storage.round(study.study_id, "ann") as written:
        written.ask(3)
    claimed = [storage.get_trial(trial_id) for trial_id in written.claimed]
    assert [trial.number for trial in claimed] == [0, 1, 2]
    assert [trial.user_attrs.get("draw") for trial in claimed] == [None, 0, 1]
    assert {trial.user_attrs["worker"] for trial in claimed} == {"ann"}
    with storage.round(study.study_id, "ann") as written:
        storage.set_trial_intermediate_value(claimed[0]._trial_id, 1, 0.5)
        assert study.load().trials[0].intermediate_values == {1: 0.5}
        storage.set_trial_state_values(claimed[0]._trial_id, TrialState.COMPLETE, [0.5])
        written.ask(3)
    assert len(written.claimed) == 1
    assert written.lost == set()


def test_trials_of_the_silent_and_of_the_leaving_are_queued_anew(study):
    ann, bob = (claim(study, name) for name in ("ann", "bob"))
    assert study.queue.hand_back_stale() == 0
    assert study.queue.hand_back_stale(timedelta(0)) == 2
    study.queue.beat([ann, bob])
    assert study.queue.counts().waiting == study.queue.counts().chains == 2
    lost, _, successor, _ = study.load().trials
    assert (lost.state, lost.user_attrs["superseded_by"]) == (TrialState.FAIL, successor.number)
    assert successor.user_attrs["retry_of"] == 0
    assert successor.user_attrs["plan"] == lost.user_attrs["plan"]
    assert successor.params == lost.params
    claim(study, "ann")
    assert study.queue.hand_back_all_of("ann") == 1
    while claim(study, "ann") is not None:
        pass
    draws = [trial.user_attrs.get("draw") for trial in study.trials()]
    assert sorted(draws, key=str) == [0, 1, 2, None]
