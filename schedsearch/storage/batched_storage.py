"""A storage that writes in batches: one transaction for all that a worker does in an epoch."""

from __future__ import annotations

import copy
import itertools
import threading
from collections import deque
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from threading import get_ident
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection

from schedsearch.storage.attribute_rules import SHAPE_ERRORS
from schedsearch.storage.batch import Batch
from schedsearch.storage.budget import load_budget_and_time
from schedsearch.storage.claims import (
    BudgetPlanner,
    claim_trials,
    claimed_trials,
    lock_study,
)
from schedsearch.storage.clock import DatabaseClock
from schedsearch.storage.database import Database, open_database
from schedsearch.storage.kept_connection import KeptConnection
from schedsearch.storage.ledger import TrialLedger
from schedsearch.storage.retrying_storage import RetryingStorage
from schedsearch.storage.rows import (
    EVERYTHING,
    Observed,
    copy_trial,
    paused_garbage_collection,
)
from schedsearch.storage.study_attributes import require_study
from schedsearch.storage.trial_cache import TrialCache
from schedsearch.storage.trial_checks import find_damage
from schedsearch.storage.write_buffer import WriteBuffer


class BatchedStorage(RetryingStorage):
    """Optuna's storage with a cache of the trials, and with writes in batches.

    Outside a batch, every call reads from the database and writes to it. Inside a batch, the cache
    answers the reads as of the last `refresh`, or of the first read after `expire`. Writes to
    trials change the cache at once, and the database at the end of the batch: in one transaction,
    for any number of trials. A batch locks the study only if it claims trials. The attributes of
    the study itself are always read from the database and written to it.

    A batch belongs to its thread. Other threads do not see it before its end.

    Args:
        database: the database of the studies.
        observed: the parts of other workers' trials that are read.
    """

    def __init__(self, database: Database, observed: Observed = EVERYTHING) -> None:
        super().__init__(database.rdb, database.retrier)
        self._database, self._observed = database, observed
        self._caches: dict[int, TrialCache] = {}
        self._changed: deque[int] = deque()
        self._ledgers: dict[int, TrialLedger] = {}
        #: Whether the last claims read trials for a planner.
        self._planner_reads = False
        self._connection = KeptConnection(database.engine)
        # Protects the caches; a batch holds it from its start to its end.
        self._lock = threading.RLock()
        self._buffer: WriteBuffer | None = None
        self._owner = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self._database.url, self._observed)

    # --- batches ---------------------------------------------------------------------------------

    def refresh(self, study_id: int) -> None:
        """Read the changes of other workers, in one transaction.

        Raises:
            KeyError: the study does not exist.
            RuntimeError: this thread is inside a batch.
        """
        if self._own_buffer() is not None:
            raise RuntimeError("the storage cannot be refreshed inside a batch")
        with self._lock:
            self._sync(study_id)

    def expire(self, study_id: int) -> None:
        """Let the next read of all trials inside a batch read the changes of other workers first.

        So a batch that compares no trials reads nothing, and one that does reads them once.
        """
        with self._lock:
            if study_id in self._caches:
                self._caches[study_id].is_expired = True

    @contextmanager
    def batch(
        self, study_id: int, worker: str, planner: BudgetPlanner | None = None
    ) -> Iterator[Batch]:
        """Buffer the writes to the trials of a worker, and write all of them at the end.

        `planner` decides how much of the budget may begin at the end of the batch; None: all of it.

        If an error is raised inside the batch or by the transaction, nothing is written.

        Raises:
            KeyError: the study does not exist.
            RuntimeError: this thread is already inside a batch.
        """
        batch = Batch()
        with self._lock:
            if self._buffer is not None:
                raise RuntimeError("a batch cannot start inside another one")
            cache = self._caches.setdefault(study_id, TrialCache(study_id, self._observed))
            self._owner, self._buffer = get_ident(), WriteBuffer(cache)
            try:
                yield batch
                self._commit(cache, self._buffer, batch, worker, planner)
                batch.notify_committed()
            except BaseException:
                self._buffer.discard()
                cache.invalidate_all()
                self._ledgers.pop(study_id, None)
                raise
            finally:
                self._buffer = None

    def _commit(
        self,
        cache: TrialCache,
        buffer: WriteBuffer,
        batch: Batch,
        worker: str,
        planner: BudgetPlanner | None,
    ) -> None:
        if not buffer.trial_ids and batch.requested <= 0 and not batch.has_added_writes:
            return
        study_id, known = cache.study_id, {*buffer.trial_ids, *cache.claimed_ids}
        if planner is not None and batch.requested > 0 and self._planner_reads:
            self._sync(study_id)  # so that little is left to read while the study is locked
        attempts = itertools.count()

        def commit() -> tuple[list[FrozenTrial], DatabaseClock | None]:
            with self._connection.transaction() as connection:
                is_retry = next(attempts) > 0
                owned, moment = buffer.lock_owned(worker, connection, is_retry=is_retry)
                self._discard_lost(connection, cache, buffer, batch, owned)
                if is_retry:
                    cache.invalidate_all()
                    self._ledgers.pop(study_id, None)
                buffer.flush(connection, owned, is_retry=is_retry)
                batch.run_added_writes(connection, moment)
                if batch.requested <= 0:
                    return [], None
                # Not before: while the study is locked, no other worker can claim.
                lock_study(connection, study_id)
                # An earlier attempt claimed these: it was committed, but its answer was lost.
                running = claimed_trials(connection, study_id, worker) if is_retry else []
                claimed = [trial for trial in running if trial._trial_id not in known]
                if claimed:
                    return claimed, DatabaseClock.read(connection)
                return self._claim(connection, cache, worker, batch.requested, planner)

        claimed, clock = self._retrier.retry(commit)
        if clock is not None:
            cache.add_claimed(claimed, clock)
        cache.release_finished()
        batch.claimed = [trial._trial_id for trial in claimed]

    def _claim(
        self,
        connection: Connection,
        cache: TrialCache,
        worker: str,
        count: int,
        planner: BudgetPlanner | None,
    ) -> tuple[list[FrozenTrial], DatabaseClock]:
        """Claim trials; return them, and the clock that timed their start."""
        study_id = cache.study_id
        ledger = self._ledgers.setdefault(study_id, TrialLedger(study_id))
        budget, moment = load_budget_and_time(connection, study_id)
        clock = DatabaseClock(moment)

        def read_trials() -> Sequence[FrozenTrial]:
            assert self._buffer is not None
            self._planner_reads = True
            cache.sync(connection, skip=self._buffer.trial_ids)
            return cache.trials

        claimed = claim_trials(
            connection, ledger, worker, count, budget, moment, planner=planner, trials=read_trials
        )
        return claimed, clock

    def _discard_lost(
        self,
        connection: Connection,
        cache: TrialCache,
        buffer: WriteBuffer,
        batch: Batch,
        owned: set[int],
    ) -> None:
        """Discard the writes to trials that no longer belong to the worker."""
        lost = set(buffer.trial_ids) - owned
        if lost:
            require_study(connection, cache.study_id)
        buffer.discard(lost)
        for trial_id in lost:
            cache.invalidate(trial_id)
        batch.lost |= lost

    def _own_buffer(self) -> WriteBuffer | None:
        """Return the buffer of the batch that this thread is in, if any."""
        return self._buffer if self._owner == get_ident() else None

    # --- the cache -------------------------------------------------------------------------------

    def _sync(self, study_id: int) -> None:
        while self._changed:
            trial_id = self._changed.popleft()
            for other in self._caches.values():
                other.invalidate(trial_id)
        cache = self._caches.get(study_id) or TrialCache(study_id, self._observed)
        skip = () if self._buffer is None else self._buffer.trial_ids

        def read() -> None:
            with self._connection.transaction(reads_only=True) as connection:
                cache.sync(connection, version=_data_version(connection), skip=skip)

        try:
            with paused_garbage_collection():
                self._retrier.retry(read)
        except SHAPE_ERRORS as error:
            self._caches.pop(study_id, None)
            raise self._database.read(lambda c: find_damage(c, study_id)) from error
        except BaseException:
            self._caches.pop(study_id, None)
            raise
        self._caches[study_id] = cache

    def _cache(self, study_id: int) -> TrialCache | None:
        """Return the cache to read a study from; None if the database has to be read.

        Outside a batch the cache is synced first, and inside a batch if it has expired. During the
        batch of another thread, the cache holds writes that are not committed, so the database is
        read.
        """
        if not self._lock.acquire(blocking=False):
            return None
        try:
            cache = self._caches.get(study_id)
            if self._buffer is None or (cache is not None and cache.is_expired):
                self._sync(study_id)
            return self._caches.get(study_id)
        finally:
            self._lock.release()

    # --- reading trials --------------------------------------------------------------------------

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        cache = self._cache(study_id)
        if cache is None:
            return super().get_all_trials(study_id, deepcopy, states)
        found = list(cache.trials)
        if states is not None:
            found = [trial for trial in found if trial.state in states]
        return copy.deepcopy(found) if deepcopy else found

    def get_trial(self, trial_id: int) -> FrozenTrial:
        holder = next((cache for cache in list(self._caches.values()) if trial_id in cache), None)
        is_in_batch = self._own_buffer() is not None
        cache = holder if holder is None or is_in_batch else self._cache(holder.study_id)
        if cache is None:
            return super().get_trial(trial_id)
        # A copy, since Optuna's Trial changes its FrozenTrial.
        return copy_trial(cache[trial_id])

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        cache = self._cache(study_id)
        if cache is None or not 0 <= trial_number < len(cache.trials):
            return super().get_trial_id_from_study_id_trial_number(study_id, trial_number)
        return cache.trials[trial_number]._trial_id

    # --- writing to trials -----------------------------------------------------------------------

    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        if (buffer := self._own_buffer()) is not None:
            buffer.set_parameter(trial_id, param_name, param_value_internal, distribution)
            return
        super().set_trial_param(trial_id, param_name, param_value_internal, distribution)
        self._changed.append(trial_id)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        if (buffer := self._own_buffer()) is not None:
            return buffer.finish(trial_id, state, values)
        self._changed.append(trial_id)
        return super().set_trial_state_values(trial_id, state, values)

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        if (buffer := self._own_buffer()) is not None:
            buffer.report(trial_id, step, intermediate_value)
            return
        super().set_trial_intermediate_value(trial_id, step, intermediate_value)
        self._changed.append(trial_id)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        if (buffer := self._own_buffer()) is not None:
            buffer.set_user_attribute(trial_id, key, value)
            return
        super().set_trial_user_attr(trial_id, key, value)
        self._changed.append(trial_id)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        if (buffer := self._own_buffer()) is not None:
            buffer.set_system_attribute(trial_id, key, value)
            return
        super().set_trial_system_attr(trial_id, key, value)
        self._changed.append(trial_id)

    # --- calls outside batches only --------------------------------------------------------------

    def _refuse_in_batch(self, what: str) -> None:
        if self._own_buffer() is not None:
            raise RuntimeError(f"{what} inside a batch: end the batch first")

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        self._refuse_in_batch("a trial can be claimed, but not created,")
        return super().create_new_trial(study_id, template_trial)

    def create_new_study(
        self, directions: Sequence[StudyDirection], study_name: str | None = None
    ) -> int:
        self._refuse_in_batch("a study cannot be created")
        return super().create_new_study(directions, study_name)

    def delete_study(self, study_id: int) -> None:
        self._refuse_in_batch("a study cannot be deleted")
        super().delete_study(study_id)
        with self._lock:
            self._caches.pop(study_id, None)
            self._ledgers.pop(study_id, None)


def _data_version(connection: Connection) -> int | None:
    """Return a number that changes if another connection writes; None if the database has none."""
    if connection.dialect.name != "sqlite":
        return None
    return int(connection.exec_driver_sql("PRAGMA data_version").scalar_one())


def _reopen(url: str, observed: Observed = EVERYTHING) -> BatchedStorage:
    return BatchedStorage(open_database(url), observed)
