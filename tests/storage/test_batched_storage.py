"""Rounds: all that a worker does in one is written at once, or not at all."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Engine, event

from schedsearch.storage import BatchedStorage, StudyHandle
from tests.storage.processes import processes, report_for_ever, search_in_rounds
from tests.storage.studies import study_at

X = FloatDistribution(0.0, 1.0)
KIND = CategoricalDistribution(("a", "b"))


@pytest.fixture
def study(database_url: str) -> StudyHandle:
    return study_at(database_url)


@pytest.fixture
def storage(study: StudyHandle) -> BatchedStorage:
    return BatchedStorage(study.database)


def claim(
    storage: BatchedStorage, study: StudyHandle, count: int, worker: str = "ann"
) -> list[int]:
    with storage.batch(study.study_id, worker) as batch:
        batch.claim(count)
    return batch.claimed


def stored(study: StudyHandle) -> list[FrozenTrial]:
    """Return the trials as Optuna reads them from the database, by a connection of its own."""
    return study.database.rdb.get_all_trials(study.study_id)


def copied(storage: BatchedStorage, study: StudyHandle) -> list[FrozenTrial]:
    return storage.get_all_trials(study.study_id, deepcopy=False)


def same(one: list[FrozenTrial], other: list[FrozenTrial]) -> bool:
    """Compare by text, since NaN differs from itself, and attributes have no order."""
    return [_text(trial) for trial in one] == [_text(trial) for trial in other]


def _text(trial: FrozenTrial) -> str:
    return repr(sorted((key, _comparable(value)) for key, value in trial.__dict__.items()))


def _comparable(value: object) -> object:
    if isinstance(value, datetime):
        return int(value.timestamp())  # MariaDB keeps whole seconds
    return sorted(value.items()) if isinstance(value, dict) else value


def write_everything(storage: BatchedStorage, trial_id: int) -> None:
    storage.set_trial_param(trial_id, "kind", 1, KIND)
    storage.set_trial_param(trial_id, "x", 0.25, X)
    storage.set_trial_user_attr(trial_id, "plan", {"lr": (1, 2)})
    storage.set_trial_user_attr(trial_id, "plan", {"lr": [3]})
    storage.set_trial_system_attr(trial_id, "rung", 0.5)
    for step, value in enumerate((0.5, math.nan, math.inf, -math.inf)):
        storage.set_trial_intermediate_value(trial_id, step, value)
    storage.set_trial_intermediate_value(trial_id, 0, 0.25)


def test_what_a_round_writes_is_seen_inside_at_once_and_outside_at_its_end(storage, study):
    [trial_id] = claim(storage, study, 1)
    before = stored(study)
    with storage.batch(study.study_id, "ann"):
        write_everything(storage, trial_id)
        assert storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [math.inf])
        inside = copied(storage, study)
        assert same(stored(study), before)
    assert same(stored(study), inside)
    [trial] = inside
    assert (trial.params["kind"], trial.params["x"]) == ("b", 0.25)
    assert trial.user_attrs["plan"] == {"lr": [3]}
    assert trial.system_attrs == {"rung": 0.5}
    assert repr(trial.intermediate_values) == "{0: 0.25, 1: nan, 2: inf, 3: -inf}"
    assert (trial.state, trial.values) == (TrialState.COMPLETE, [math.inf])


def test_what_an_earlier_round_wrote_is_written_over(storage, study):
    [trial_id] = claim(storage, study, 1)
    for value in (1.0, 2.0):
        with storage.batch(study.study_id, "ann"):
            storage.set_trial_intermediate_value(trial_id, 0, value)
            storage.set_trial_user_attr(trial_id, "note", value)
            storage.set_trial_system_attr(trial_id, "note", value)
            storage.set_trial_param(trial_id, "x", value / 4, X)
    [trial] = stored(study)
    assert trial.intermediate_values == {0: 2.0}
    assert (trial.user_attrs["note"], trial.system_attrs["note"]) == (2.0, 2.0)
    # As in Optuna's databases, a parameter is drawn once.
    assert trial.params["x"] == 0.25
    assert same(copied(storage, study), [trial])


def test_an_error_inside_drops_the_round_and_the_copy_forgets_it(storage, study):
    [trial_id] = claim(storage, study, 1)
    before = stored(study)

    def fail() -> None:
        with storage.batch(study.study_id, "ann") as batch:
            write_everything(storage, trial_id)
            batch.claim(3)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert same(stored(study), before)
    assert same(copied(storage, study), before)


def test_a_commit_that_fails_half_way_writes_nothing(storage, study):
    one, two = claim(storage, study, 2)
    before = stored(study)

    def fail() -> None:
        with storage.batch(study.study_id, "ann") as batch:
            write_everything(storage, one)
            # Noticed only when the reports and attributes have been sent.
            storage.set_trial_state_values(two, TrialState.COMPLETE, ["no number"])
            batch.claim(3)

    with pytest.raises(TypeError):
        fail()
    assert same(stored(study), before)
    assert same(copied(storage, study), before)
    with storage.batch(study.study_id, "ann"):
        write_everything(storage, one)
    assert same(stored(study), copied(storage, study))


def take_by_end(study: StudyHandle, trial_id: int) -> None:
    study.database.rdb.set_trial_state_values(trial_id, TrialState.FAIL)


def take_by_name(study: StudyHandle, trial_id: int) -> None:
    study.database.rdb.set_trial_user_attr(trial_id, "worker", "bob")


@pytest.mark.parametrize("take", [take_by_end, take_by_name])
def test_a_trial_that_was_taken_over_is_lost_and_the_others_are_written(storage, study, take):
    lost, kept = claim(storage, study, 2)
    take(study, lost)
    taken = stored(study)[0]
    with storage.batch(study.study_id, "ann") as batch:
        for trial_id in (lost, kept):
            write_everything(storage, trial_id)
            storage.set_trial_state_values(trial_id, TrialState.PRUNED, [0.5])
    assert batch.lost == {lost}
    assert same(stored(study)[:1], [taken])
    assert stored(study)[1].state is TrialState.PRUNED
    assert same(copied(storage, study), stored(study))


def test_a_trial_handed_back_meanwhile_waits_for_who_asks_next(storage, study):
    claim(storage, study, 1)
    with storage.batch(study.study_id, "ann") as batch:
        storage.set_trial_user_attr(1, "late", True)
        study.queue.requeue_trials_of("ann")
        batch.claim(1)
    assert batch.lost == {1}
    [successor] = batch.claimed
    trial = storage.get_trial(successor)
    assert trial.user_attrs["retry_of"] == 0
    assert trial.user_attrs["baseline"]
    assert same(copied(storage, study), stored(study))


# --- claims --------------------------------------------------------------------------------------


def test_queued_trials_are_claimed_first_then_new_ones_within_the_total(database_url):
    study = study_at(database_url, trials=4)
    storage = BatchedStorage(study.database)
    study.load().enqueue_trial({"lr.family": "constant"})
    claimed = [storage.get_trial(trial_id) for trial_id in claim(storage, study, 3)]
    assert [trial.number for trial in claimed] == [0, 1, 2]
    # Trial 0 carries its plan; a sampler completes the one queued by Optuna's own tools.
    assert [trial.user_attrs.get("draw") for trial in claimed] == [None, 0, 1]
    assert {trial.user_attrs["worker"] for trial in claimed} == {"ann"}
    assert claimed[0].params == {"lr.family": "constant", "lr.constant.value": 0.1}
    assert claimed[1].system_attrs["fixed_params"] == {"lr.family": "constant"}
    assert len(claim(storage, study, 3)) == 1
    assert claim(storage, study, 3) == []
    study_at(database_url, trials=6)
    assert len(claim(storage, study, 3)) == 2
    assert same(copied(storage, study), stored(study))
    assert study.queue.counts().running == 6


def test_rows_that_replace_each_other_count_as_one_trial_of_the_total(database_url):
    study = study_at(database_url, trials=3)
    storage = BatchedStorage(study.database)
    claim(storage, study, 2, "dead")
    study.queue.requeue_trials_of("dead")
    claimed = [storage.get_trial(trial_id) for trial_id in claim(storage, study, 9)]
    assert [trial.number for trial in claimed] == [2, 3, 4]
    assert [trial.user_attrs.get("retry_of") for trial in claimed] == [0, 1, None]
    assert [trial.user_attrs.get("draw") for trial in claimed] == [None, 0, 1]


def test_a_claimed_trial_has_its_first_beat(storage, study):
    claim(storage, study, 3)
    assert study.queue.requeue_stale() == 0


def test_claims_of_storages_with_old_copies_do_not_collide(storage, study):
    other = BatchedStorage(study.database)
    other.refresh(study.study_id)
    ours = [*claim(storage, study, 3), *claim(storage, study, 2)]
    theirs = claim(other, study, 4, "bob")
    assert len({*ours, *theirs}) == 9
    trials = stored(study)
    assert [trial.number for trial in trials] == list(range(9))
    assert [trial.user_attrs.get("draw") for trial in trials] == [None, *range(8)]
    assert same(copied(other, study), trials)


# --- the local copy ------------------------------------------------------------------------------


def test_a_round_sees_the_others_as_the_last_refresh_left_them(storage, study):
    [trial_id] = claim(storage, study, 1)
    other = BatchedStorage(study.database)
    other.refresh(study.study_id)
    with storage.batch(study.study_id, "ann"):
        storage.set_trial_intermediate_value(trial_id, 1, 0.5)
    with other.batch(study.study_id, "bob"):
        assert other.get_trial(trial_id).intermediate_values == {}
    other.refresh(study.study_id)
    with other.batch(study.study_id, "bob"):
        assert other.get_trial(trial_id).intermediate_values == {1: 0.5}


@contextmanager
def plainly(storage: BatchedStorage, study: StudyHandle) -> Iterator[None]:
    yield


@contextmanager
def in_a_round(storage: BatchedStorage, study: StudyHandle) -> Iterator[None]:
    with storage.batch(study.study_id, "ann"):
        yield


@pytest.mark.parametrize("how", [plainly, in_a_round])
def test_everything_that_others_write_arrives(storage, study, how):
    [trial_id] = claim(storage, study, 1)
    other = BatchedStorage(study.database)
    steps: list[Callable[[], object]] = [
        lambda: storage.set_trial_param(trial_id, "kind", 1, KIND),
        lambda: storage.set_trial_user_attr(trial_id, "drawn", {"lr": 1}),
        lambda: storage.set_trial_system_attr(trial_id, "rung", 1),
        lambda: storage.set_trial_intermediate_value(trial_id, 1, math.nan),
        lambda: storage.set_trial_intermediate_value(trial_id, 2, 0.5),
        lambda: storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [0.5]),
    ]
    for step in steps:
        with how(storage, study):
            step()
        other.refresh(study.study_id)
        with other.batch(study.study_id, "bob"):  # where only the copy answers
            assert same(copied(other, study), stored(study))


def test_what_others_change_in_place_arrives_with_the_next_sweep(storage, study, monkeypatch):
    [trial_id] = claim(storage, study, 1)
    other = study.database.rdb
    for value in (1, 2):
        other.set_trial_user_attr(trial_id, "note", value)
        other.set_trial_user_attr(trial_id, "later", value)
        storage.refresh(study.study_id)
    monkeypatch.setattr("schedsearch.storage.trial_cache.FULL_SYNC_INTERVAL", 0.0)
    assert same(copied(storage, study), stored(study))


def test_a_list_that_was_handed_out_stays_as_it_was(storage, study):
    [trial_id] = claim(storage, study, 1)
    with storage.batch(study.study_id, "ann"):
        handed_out = copied(storage, study)
        before = [_text(trial) for trial in handed_out]
        write_everything(storage, trial_id)
        storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [0.5])
        live = storage.get_trial(trial_id)
        live.user_attrs["mine"] = 1
    assert [_text(trial) for trial in handed_out] == before
    assert "mine" not in storage.get_trial(trial_id).user_attrs


def test_a_study_that_somebody_deletes_is_said_to_be_missing(storage, study):
    claim(storage, study, 1)
    study.database.rdb.delete_study(study.study_id)
    with pytest.raises(KeyError):
        storage.refresh(study.study_id)


# --- what a round refuses ------------------------------------------------------------------------


def test_a_round_refuses_what_it_cannot_hold(storage, study):
    trial_id, _ = claim(storage, study, 2)
    with storage.batch(study.study_id, "ann"):
        with pytest.raises(RuntimeError, match="a trial can be claimed, but not created, inside"):
            storage.create_new_trial(study.study_id)
        with pytest.raises(RuntimeError, match="a study cannot be created inside a batch"):
            storage.create_new_study([optuna.study.StudyDirection.MINIMIZE])
        with pytest.raises(RuntimeError, match="a study cannot be deleted inside a batch"):
            storage.delete_study(study.study_id)
        with pytest.raises(RuntimeError, match="cannot be refreshed inside a batch"):
            storage.refresh(study.study_id)
        with (
            pytest.raises(RuntimeError, match="cannot start inside another one"),
            storage.batch(study.study_id, "ann"),
        ):
            pass
        with pytest.raises(RuntimeError, match="cannot set the state WAITING"):
            storage.set_trial_state_values(trial_id, TrialState.WAITING)
        assert not storage.set_trial_state_values(trial_id, TrialState.RUNNING)
        with pytest.raises(ValueError, match="distribution"):
            storage.set_trial_param(trial_id, "lr.constant.value", 0, KIND)
        storage.set_trial_state_values(trial_id, TrialState.FAIL)
        with pytest.raises(UpdateFinishedTrialError):
            storage.set_trial_user_attr(trial_id, "late", True)
        with pytest.raises(KeyError):
            storage.set_trial_user_attr(10_000, "unknown", True)
    assert stored(study)[0].state is TrialState.FAIL


def test_to_another_thread_a_round_is_like_one_of_another_process(storage, study):
    trial_id, other_id = claim(storage, study, 2)
    seen: list[FrozenTrial] = []

    def elsewhere() -> None:
        seen.append(storage.get_trial(trial_id))
        seen.extend(storage.get_all_trials(study.study_id))
        storage.set_trial_user_attr(other_id, "note", "written through")
        study.queue.record_heartbeats([trial_id, other_id])

    with storage.batch(study.study_id, "ann"):
        storage.set_trial_intermediate_value(trial_id, 1, 0.5)
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert stored(study)[1].user_attrs["note"] == "written through"
    assert [trial.intermediate_values for trial in seen] == [{}, {}, {}]
    assert same(copied(storage, study), stored(study))


# --- what it costs -------------------------------------------------------------------------------


@contextmanager
def statements() -> Iterator[list[str]]:
    found: list[str] = []

    def note(*arguments: object) -> None:
        found.append(str(arguments[2]))

    event.listen(Engine, "before_cursor_execute", note)
    yield found
    event.remove(Engine, "before_cursor_execute", note)


def round_of(storage: BatchedStorage, study: StudyHandle, trial_ids: list[int]) -> list[str]:
    """Return the statements of a round that writes everything and asks for as many trials."""
    with statements() as found:
        storage.refresh(study.study_id)
        with storage.batch(study.study_id, "ann") as batch:
            for trial_id in trial_ids:
                write_everything(storage, trial_id)
                storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [0.5])
            batch.claim(len(trial_ids))
    assert len(batch.claimed) == len(trial_ids)
    return found


def test_a_round_takes_as_many_statements_for_32_trials_as_for_2(storage, study):
    claim(storage, study, 1)
    few, many = claim(storage, study, 2), claim(storage, study, 32)
    assert len(round_of(storage, study, few)) == len(round_of(storage, study, many)) < 30


@pytest.mark.parametrize("backend", ["sqlite"])  # only SQLite tells
def test_a_refresh_reads_nothing_where_nobody_else_wrote(storage, study):
    trial_ids = claim(storage, study, 3)
    round_of(storage, study, trial_ids)
    with statements() as found:
        storage.refresh(study.study_id)
    assert [text for text in found if not text.startswith("BEGIN")] == ["PRAGMA data_version"]


# --- other processes -----------------------------------------------------------------------------


def test_two_workers_share_300_trials_and_nothing_is_lost_or_done_twice(database_url):
    study = study_at(database_url, trials=300)
    context = processes()
    ended = context.Queue()
    workers = [
        context.Process(target=search_in_rounds, args=(database_url, name, 8, ended))
        for name in ("ann", "bob")
    ]
    for worker in workers:
        worker.start()
    found: dict[int, str] = {}
    for _ in range(302):
        name, trial_id = ended.get(timeout=60)
        assert trial_id == -1 or trial_id not in found
        found[trial_id] = name
    for worker in workers:
        worker.join()
    trials = stored(study)
    assert [trial.number for trial in trials] == list(range(300))
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    assert all(trial.intermediate_values == {1: 0.5, 2: 0.5, 3: 0.5} for trial in trials)
    assert all(trial.user_attrs["worker"] == found[trial._trial_id] for trial in trials)
    assert sorted(trial.user_attrs["draw"] for trial in trials[1:]) == list(range(299))


def test_a_killed_worker_loses_its_last_round_whole_or_not_at_all(database_url):
    study = study_at(database_url, trials=1_000)
    context = processes()
    for rounds in (3, 8, 21):
        committed = context.Queue()
        worker = context.Process(target=report_for_ever, args=(database_url, 16, committed))
        worker.start()
        known = 0
        while known < rounds:
            known = committed.get(timeout=60)
        worker.kill()
        worker.join()
        running = [trial for trial in stored(study) if trial.state is TrialState.RUNNING]
        assert len(running) == 16
        [lasts] = {tuple(trial.intermediate_values) for trial in running}
        assert len(lasts) >= known
        assert {trial.user_attrs["reported"] for trial in running} == {lasts[-1]}
        study.queue.requeue_trials_of("doomed")


def test_optunas_own_tools_read_the_study_between_rounds(storage, study):
    trial_ids = claim(storage, study, 12)
    with storage.batch(study.study_id, "ann"):
        for place, trial_id in enumerate(trial_ids[1:]):
            storage.set_trial_param(trial_id, "x", place / 20, X)
            storage.set_trial_param(trial_id, "kind", place % 2, KIND)
            storage.set_trial_intermediate_value(trial_id, 1, place / 20)
    with storage.batch(study.study_id, "ann"):
        for place, trial_id in enumerate(trial_ids[1:11]):
            storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [place / 20])
        plain = optuna.load_study(study_name="small", storage=study.database.url)
        assert all(trial.state is TrialState.RUNNING for trial in plain.trials)
    plain = optuna.load_study(study_name="small", storage=study.database.url)
    assert plain.best_trial.params == {"x": 0.0, "kind": "a"}
    assert plain.trials[11].intermediate_values == {1: 0.5}
    importances = optuna.importance.get_param_importances(plain)
    assert importances["x"] > importances["kind"]


def test_what_others_write_to_a_claiming_workers_trial_is_seen_at_the_next_refresh(study):
    storage = BatchedStorage(study.database)
    [trial_id] = claim(storage, study, 1)
    storage.refresh(study.study_id)
    with storage.batch(study.study_id, "ann") as batch:
        storage.set_trial_intermediate_value(trial_id, 1, 0.5)
        study.database.rdb.set_trial_user_attr(trial_id, "note", "by hand")
        batch.claim(1)
    storage.refresh(study.study_id)
    found = storage.get_trial(trial_id)
    assert found.user_attrs["note"] == "by hand"
    assert found.intermediate_values == {1: 0.5}
