"""Batches: all writes of a worker in a batch are committed together, or none of them."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Engine, event
from sqlalchemy.engine.interfaces import CacheStats, ExecutionContext
from sqlalchemy.exc import OperationalError

from schedsearch.storage import BatchedStorage, NextTrials, Observed, StudyHandle
from schedsearch.storage.rows import GROWING_TABLES
from tests.forks import fork_context
from tests.storage.lost_answers import lost_answer, rolled_back, transient_error
from tests.storage.processes import report_forever, search_in_batches
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
    """Return the trials as Optuna reads them from the database, through another connection."""
    return study.database.rdb.get_all_trials(study.study_id)


def cached(storage: BatchedStorage, study: StudyHandle) -> list[FrozenTrial]:
    return storage.get_all_trials(study.study_id, deepcopy=False)


def same(one: list[FrozenTrial], other: list[FrozenTrial]) -> bool:
    """Compare as text, since NaN differs from itself, and sort attributes, which have no order."""
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


def test_writes_are_visible_in_the_batch_at_once_and_in_the_database_at_its_end(storage, study):
    [trial_id] = claim(storage, study, 1)
    before = stored(study)
    with storage.batch(study.study_id, "ann"):
        write_everything(storage, trial_id)
        assert storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [math.inf])
        inside = cached(storage, study)
        assert same(stored(study), before)
    assert same(stored(study), inside)
    [trial] = inside
    assert (trial.params["kind"], trial.params["x"]) == ("b", 0.25)
    assert trial.user_attrs["plan"] == {"lr": [3]}
    assert trial.system_attrs == {"rung": 0.5}
    assert repr(trial.intermediate_values) == "{0: 0.25, 1: nan, 2: inf, 3: -inf}"
    assert (trial.state, trial.values) == (TrialState.COMPLETE, [math.inf])


def test_a_batch_overwrites_what_an_earlier_batch_wrote(storage, study):
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
    # As in Optuna's database, the first value of a parameter wins.
    assert trial.params["x"] == 0.25
    assert same(cached(storage, study), [trial])


def test_an_error_in_a_batch_discards_its_writes_in_the_cache_too(storage, study):
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
    assert same(cached(storage, study), before)


def test_a_commit_that_fails_half_way_writes_nothing(storage, study):
    one, two = claim(storage, study, 2)
    before = stored(study)

    def fail() -> None:
        with storage.batch(study.study_id, "ann") as batch:
            write_everything(storage, one)
            # Fails after the reports and attributes were sent.
            storage.set_trial_state_values(two, TrialState.COMPLETE, ["no number"])
            batch.claim(3)

    with pytest.raises(TypeError):
        fail()
    assert same(stored(study), before)
    assert same(cached(storage, study), before)
    with storage.batch(study.study_id, "ann"):
        write_everything(storage, one)
    assert same(stored(study), cached(storage, study))


@pytest.mark.parametrize("backend", ["sqlite"])
def test_a_batch_writes_and_claims_once_if_the_answer_to_its_commit_is_lost(storage, study):
    trial_id, _ = claim(storage, study, 2)
    with (
        lost_answer(study.database.engine) as lost,
        storage.batch(study.study_id, "ann") as batch,
    ):
        write_everything(storage, trial_id)
        storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [0.5])
        batch.claim(2)
    assert (lost, batch.lost, len(batch.claimed)) == (["commit"], set(), 2)
    assert [trial.state.name for trial in stored(study)] == ["COMPLETE", *["RUNNING"] * 3]
    assert same(cached(storage, study), stored(study))


def test_the_cache_is_right_after_an_error_in_a_callback_of_a_committed_batch(storage, study):
    [trial_id] = claim(storage, study, 1)

    def raise_error() -> None:
        raise ZeroDivisionError

    def commit_with_error() -> None:
        with storage.batch(study.study_id, "ann") as batch:
            write_everything(storage, trial_id)
            batch.add_write(lambda connection, moment: None, raise_error)

    with pytest.raises(ZeroDivisionError):
        commit_with_error()
    assert stored(study)[0].system_attrs == {"rung": 0.5}
    assert same(cached(storage, study), stored(study))


def test_callbacks_run_once_after_the_commit_and_not_after_a_failed_one(storage, study):
    [trial_id] = claim(storage, study, 1)
    states = list[str]()

    def finish(outcome: list[object]) -> None:
        with storage.batch(study.study_id, "ann") as batch:
            batch.add_write(
                lambda connection, moment: None, lambda: states.append(stored(study)[0].state.name)
            )
            storage.set_trial_state_values(trial_id, TrialState.COMPLETE, outcome)

    with pytest.raises(TypeError):
        finish(["no number"])
    assert states == []
    finish([0.5])
    assert states == ["COMPLETE"]


def test_a_full_sync_in_a_claiming_batch_keeps_its_writes_in_the_cache(storage, study, monkeypatch):
    [trial_id] = claim(storage, study, 1)
    monkeypatch.setattr("schedsearch.storage.trial_cache.FULL_SYNC_INTERVAL", 0.0)
    with storage.batch(study.study_id, "ann") as batch:
        write_everything(storage, trial_id)
        batch.claim(1)
    with storage.batch(study.study_id, "ann"):  # where only the cache answers
        assert same(cached(storage, study), stored(study))


def take_by_finishing(study: StudyHandle, trial_id: int) -> None:
    study.database.rdb.set_trial_state_values(trial_id, TrialState.FAIL)


def take_by_another_worker(study: StudyHandle, trial_id: int) -> None:
    study.database.rdb.set_trial_user_attr(trial_id, "worker", "bob")


@pytest.mark.parametrize("take", [take_by_finishing, take_by_another_worker])
def test_nothing_is_written_to_a_trial_that_was_taken_over_and_the_others_are_written(
    storage, study, take
):
    lost, kept = claim(storage, study, 2)
    storage.refresh(study.study_id)
    take(study, lost)
    taken = stored(study)[0]
    with storage.batch(study.study_id, "ann") as batch:
        for trial_id in (lost, kept):
            write_everything(storage, trial_id)
            storage.set_trial_state_values(trial_id, TrialState.PRUNED, [0.5])
    assert batch.lost == {lost}
    assert same(stored(study)[:1], [taken])
    assert stored(study)[1].state is TrialState.PRUNED
    assert same(cached(storage, study), stored(study))


def test_a_trial_that_was_requeued_during_a_batch_can_be_claimed_at_its_end(storage, study):
    claim(storage, study, 1)
    with storage.batch(study.study_id, "ann") as batch:
        storage.set_trial_user_attr(1, "late", True)
        study.queue.requeue_trials_of("ann")
        batch.claim(1)
    assert batch.lost == {1}
    [retry] = batch.claimed
    trial = storage.get_trial(retry)
    assert trial.user_attrs["retry_of"] == 0
    assert trial.user_attrs["baseline"]
    assert same(cached(storage, study), stored(study))


# --- claims --------------------------------------------------------------------------------------


def test_queued_trials_are_claimed_first_then_new_ones_within_the_total(database_url):
    study = study_at(database_url, trials=4)
    storage = BatchedStorage(study.database)
    study.load().enqueue_trial({"lr.family": "constant"})
    claimed = [storage.get_trial(trial_id) for trial_id in claim(storage, study, 3)]
    assert [trial.number for trial in claimed] == [0, 1, 2]
    # Trial 0 has its plan; the sampler completes the trial that Optuna's tools queued.
    assert [trial.user_attrs.get("draw") for trial in claimed] == [None, 0, 1]
    assert {trial.user_attrs["worker"] for trial in claimed} == {"ann"}
    assert claimed[0].params == {"lr.family": "constant", "lr.constant.value": 0.1}
    assert claimed[1].system_attrs["fixed_params"] == {"lr.family": "constant"}
    assert len(claim(storage, study, 3)) == 1
    assert claim(storage, study, 3) == []
    study_at(database_url, trials=6)
    assert len(claim(storage, study, 3)) == 2
    assert same(cached(storage, study), stored(study))
    assert study.queue.counts().running == 6


def test_queued_trials_beyond_the_total_are_claimed_but_no_new_ones(database_url):
    study = study_at(database_url, trials=1)
    storage = BatchedStorage(study.database)
    for _ in range(2):
        study.load().enqueue_trial({"lr.family": "constant"}, skip_if_exists=False)
    assert [len(claim(storage, study, 5)) for _ in range(2)] == [3, 0]


def test_a_trial_with_its_retries_counts_as_one_trial_of_the_total(database_url):
    study = study_at(database_url, trials=3)
    storage = BatchedStorage(study.database)
    claim(storage, study, 2, "dead")
    study.queue.requeue_trials_of("dead")
    claimed = [storage.get_trial(trial_id) for trial_id in claim(storage, study, 9)]
    assert [trial.number for trial in claimed] == [2, 3, 4]
    assert [trial.user_attrs.get("retry_of") for trial in claimed] == [0, 1, None]
    assert [trial.user_attrs.get("draw") for trial in claimed] == [None, 0, 1]


def test_a_claimed_trial_has_a_heartbeat(storage, study):
    claim(storage, study, 3)
    assert study.queue.requeue_lost() == 0


def test_claims_of_storages_with_outdated_caches_do_not_collide(storage, study):
    other = BatchedStorage(study.database)
    other.refresh(study.study_id)
    ours = [*claim(storage, study, 3), *claim(storage, study, 2)]
    theirs = claim(other, study, 4, "bob")
    assert len({*ours, *theirs}) == 9
    trials = stored(study)
    assert [trial.number for trial in trials] == list(range(9))
    assert [trial.user_attrs.get("draw") for trial in trials] == [None, *range(8)]
    assert same(cached(other, study), trials)


# --- the cache -----------------------------------------------------------------------------------


def test_a_batch_reads_the_trials_of_others_as_of_the_last_refresh(storage, study):
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
def without_batch(storage: BatchedStorage, study: StudyHandle) -> Iterator[None]:
    yield


@contextmanager
def in_a_batch(storage: BatchedStorage, study: StudyHandle) -> Iterator[None]:
    with storage.batch(study.study_id, "ann"):
        yield


@pytest.mark.parametrize("how", [without_batch, in_a_batch])
def test_a_refresh_reads_everything_that_others_write(storage, study, how):
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
        with other.batch(study.study_id, "bob"):  # where only the cache answers
            assert same(cached(other, study), stored(study))


def test_changes_in_place_are_read_by_the_next_full_sync(storage, study, monkeypatch):
    [trial_id] = claim(storage, study, 1)
    other = study.database.rdb
    for value in (1, 2):
        other.set_trial_user_attr(trial_id, "note", value)
        other.set_trial_user_attr(trial_id, "later", value)
        storage.refresh(study.study_id)
    monkeypatch.setattr("schedsearch.storage.trial_cache.FULL_SYNC_INTERVAL", 0.0)
    assert same(cached(storage, study), stored(study))


def test_a_refresh_that_fails_half_way_is_repeated_in_full(study, monkeypatch):
    *others, reports = GROWING_TABLES
    fails = list[bool]()

    def fail(trial: FrozenTrial, row: Sequence[object]) -> None:
        if fails and fails.pop():
            raise OperationalError("SELECT", {}, transient_error())
        reports.add_row(trial, row)

    tables = (*others, replace(reports, add_row=fail))
    monkeypatch.setattr("schedsearch.storage.trial_cache.GROWING_TABLES", tables)
    storage = BatchedStorage(study.database)
    [trial_id] = claim(storage, study, 1)
    storage.refresh(study.study_id)
    for step in range(3):
        study.database.rdb.set_trial_intermediate_value(trial_id, step, 0.5)
    fails[:] = [True, False]  # at the second row
    storage.refresh(study.study_id)
    assert fails == []
    with storage.batch(study.study_id, "ann"):  # where only the cache answers
        assert same(cached(storage, study), stored(study))


def test_a_returned_list_does_not_change_later(storage, study):
    [trial_id] = claim(storage, study, 1)
    with storage.batch(study.study_id, "ann"):
        returned = cached(storage, study)
        before = [_text(trial) for trial in returned]
        write_everything(storage, trial_id)
        storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [0.5])
        live = storage.get_trial(trial_id)
        live.user_attrs["mine"] = 1
    assert [_text(trial) for trial in returned] == before
    assert "mine" not in storage.get_trial(trial_id).user_attrs


def test_a_value_that_is_overwritten_outside_a_batch_is_read_at_once(storage, study):
    [trial_id] = claim(storage, study, 1)
    for value in (1, 2):
        storage.set_trial_user_attr(trial_id, "note", value)
        storage.set_trial_system_attr(trial_id, "note", value)
        storage.set_trial_intermediate_value(trial_id, 1, value)
        trial = storage.get_trial(trial_id)
        assert (trial.user_attrs["note"], trial.system_attrs["note"]) == (value, value)
        assert trial.intermediate_values == {1: value}


def delete_here(storage: BatchedStorage, study: StudyHandle) -> None:
    storage.delete_study(study.study_id)


def delete_elsewhere(storage: BatchedStorage, study: StudyHandle) -> None:
    study.database.rdb.delete_study(study.study_id)
    with pytest.raises(KeyError):
        storage.refresh(study.study_id)


@pytest.mark.parametrize("delete", [delete_here, delete_elsewhere])
def test_the_cache_of_a_deleted_study_is_not_used_for_a_new_study_with_its_id(
    storage, study, delete
):
    finished, _ = claim(storage, study, 2)
    with storage.batch(study.study_id, "ann"):
        storage.set_trial_state_values(finished, TrialState.COMPLETE, [0.5])
    delete(storage, study)
    new = study_at(study.database.url)  # SQLite uses the id again
    assert same(cached(storage, new), stored(new))


def test_a_refresh_of_a_deleted_study_raises(storage, study):
    claim(storage, study, 1)
    study.database.rdb.delete_study(study.study_id)
    with pytest.raises(KeyError):
        storage.refresh(study.study_id)


# --- what a batch refuses ------------------------------------------------------------------------


def test_a_batch_refuses_calls_that_it_cannot_buffer(storage, study):
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


def test_another_thread_does_not_see_a_batch_before_its_end(storage, study):
    trial_id, other_id = claim(storage, study, 2)
    seen: list[FrozenTrial] = []

    def elsewhere() -> None:
        seen.append(storage.get_trial(trial_id))
        seen.extend(storage.get_all_trials(study.study_id))
        storage.set_trial_user_attr(other_id, "note", "written at once")
        study.queue.liveness.record([trial_id, other_id])

    with storage.batch(study.study_id, "ann"):
        storage.set_trial_intermediate_value(trial_id, 1, 0.5)
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert stored(study)[1].user_attrs["note"] == "written at once"
    assert [trial.intermediate_values for trial in seen] == [{}, {}, {}]
    assert same(cached(storage, study), stored(study))


# --- the cost ------------------------------------------------------------------------------------


@contextmanager
def statements() -> Iterator[list[ExecutionContext]]:
    """Yield the executions of statements, which are appended meanwhile."""
    found: list[ExecutionContext] = []

    def note(*arguments: Any) -> None:
        found.append(arguments[4])

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def statements_of_batch(
    storage: BatchedStorage, study: StudyHandle, trial_ids: list[int]
) -> list[ExecutionContext]:
    """Return the executions of a batch that writes everything and claims as many new trials."""
    with statements() as found:
        storage.refresh(study.study_id)
        with storage.batch(study.study_id, "ann") as batch:
            for trial_id in trial_ids:
                write_everything(storage, trial_id)
                storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [0.5])
            batch.claim(len(trial_ids))
    assert len(batch.claimed) == len(trial_ids)
    return found


def test_the_statements_of_a_batch_are_compiled_once(storage, study):
    """Compiling a statement takes as long as executing it."""
    first, second = claim(storage, study, 2), claim(storage, study, 3)
    statements_of_batch(storage, study, first)
    found = [made for made in statements_of_batch(storage, study, second) if made.compiled]
    assert len(found) > 5
    assert [made.statement for made in found if made.cache_hit is not CacheStats.CACHE_HIT] == []


def test_a_batch_needs_as_many_statements_for_32_trials_as_for_2(storage, study):
    claim(storage, study, 1)
    few, many = claim(storage, study, 2), claim(storage, study, 32)
    storage.refresh(study.study_id)
    assert (
        len(statements_of_batch(storage, study, few))
        == len(statements_of_batch(storage, study, many))
        < 30
    )


@pytest.mark.parametrize("backend", ["sqlite"])  # other databases have no data version
def test_a_refresh_reads_no_rows_if_no_other_connection_wrote(storage, study):
    trial_ids = claim(storage, study, 3)
    statements_of_batch(storage, study, trial_ids)
    with statements() as found:
        storage.refresh(study.study_id)
    texts = [made.statement for made in found]
    assert [text for text in texts if not text.startswith("BEGIN")] == ["PRAGMA data_version"]


# --- other processes -----------------------------------------------------------------------------


def test_two_workers_share_300_trials_and_each_trial_is_trained_once(database_url):
    study = study_at(database_url, trials=300)
    context = fork_context()
    ended = context.Queue()
    workers = [
        context.Process(target=search_in_batches, args=(database_url, name, 8, ended))
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


def test_a_killed_worker_loses_its_last_batch_completely_or_not_at_all(database_url):
    study = study_at(database_url, trials=1_000)
    context = fork_context()
    for batches in (3, 8, 21):
        committed = context.Queue()
        worker = context.Process(target=report_forever, args=(database_url, 16, committed))
        worker.start()
        known = 0
        while known < batches:
            known = committed.get(timeout=60)
        worker.kill()
        worker.join()
        running = [trial for trial in stored(study) if trial.state is TrialState.RUNNING]
        assert len(running) == 16
        [lasts] = {tuple(trial.intermediate_values) for trial in running}
        assert len(lasts) >= known
        assert {trial.user_attrs["reported"] for trial in running} == {lasts[-1]}
        study.queue.requeue_trials_of("doomed")


def test_optunas_tools_read_the_study_between_batches(storage, study):
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


def test_a_write_of_others_to_a_trial_in_a_claiming_batch_is_read_by_the_next_refresh(study):
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


def test_the_start_of_a_trial_is_forgotten_after_its_end_was_committed(storage, study):
    [trial_id] = claim(storage, study, 1)
    cache = storage._caches[study.study_id]

    def finish_and_stop() -> None:
        with storage.batch(study.study_id, "ann"):
            storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [1.0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finish_and_stop()
    # The batch was discarded, so the trial goes on.
    assert cache._claimed.keys() == {trial_id}
    with storage.batch(study.study_id, "ann"):
        storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [1.0])
    assert not cache._claimed


@pytest.mark.parametrize("backend", ["sqlite"])
def test_a_trial_that_another_worker_claims_after_a_rollback_is_read_as_a_trial_of_that_worker(
    study,
):
    other = BatchedStorage(study.database)
    storage = BatchedStorage(study.database, Observed(frozenset({1})))
    storage.refresh(study.study_id)
    claimed_there = list[int]()
    with (
        rolled_back(
            study.database.engine, lambda: claimed_there.extend(claim(other, study, 1, "bob"))
        ),
        storage.batch(study.study_id, "ann") as batch,
    ):
        batch.claim(1)
    [lost] = claimed_there
    assert batch.claimed != [lost]
    storage.refresh(study.study_id)
    other.set_trial_intermediate_value(lost, 1, 0.5)
    storage.refresh(study.study_id)
    with storage.batch(study.study_id, "ann"):  # where only the cache answers
        assert storage.get_trial(lost).intermediate_values == {1: 0.5}


def test_numbers_follow_those_of_trials_that_a_planner_queues_without_attributes(storage, study):
    class Planner:
        def next_trials(self, trials, budget, *, remaining, is_half_spent):
            return NextTrials([{}], 1)

    with storage.batch(study.study_id, "ann", Planner()) as batch:
        batch.claim(3)
    assert len(batch.claimed) == 3
    assert [trial.number for trial in stored(study)] == [0, 1, 2]
    assert same(cached(storage, study), stored(study))
