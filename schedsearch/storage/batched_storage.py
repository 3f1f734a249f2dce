"""A storage in rounds: all that a worker does in one epoch of many trials is one transaction."""

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

from schedsearch.storage.batch import Batch
from schedsearch.storage.claims import claim, lock_study, stored_budget
from schedsearch.storage.database import Database, open_database
from schedsearch.storage.mirror import StudyMirror
from schedsearch.storage.retrying_storage import RetryingStorage
from schedsearch.storage.rows import copy_of
from schedsearch.storage.writes import BatchWrites


class BatchedStorage(RetryingStorage):
    """Optuna's storage behind a local copy of the trials, written to in rounds.

    Outside a round every call reads what is stored, and writes through. Inside, reads are answered
    by the copy as `refresh` left it, and what is written to trials is seen in it at once, but goes
    out when the round ends: in one transaction, whatever the number of trials. What a study itself
    has (its attributes) is read and written through at any time.

    A round belongs to its thread; to every other thread it is like one of another process.

    Args:
        database: where the studies are.
    """

    def __init__(self, database: Database) -> None:
        super().__init__(database.rdb, database.retrier)
        self._database = database
        self._mirrors: dict[int, StudyMirror] = {}
        self._changed: deque[int] = deque()
        self._connection: Connection | None = None
        # Held by who reads or changes the mirrors; a round holds it from its begin to its end.
        self._lock = threading.RLock()
        self._writes: BatchWrites | None = None
        self._owner = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self._database.url,)

    # --- rounds ----------------------------------------------------------------------------------

    def refresh(self, study_id: int) -> None:
        """Read what other workers did since the last time, in one transaction.

        Raises:
            KeyError: there is no such study.
            RuntimeError: inside a round, where nothing changes but by it.
        """
        if self._own_writes() is not None:
            raise RuntimeError("the storage cannot be refreshed inside a round")
        with self._lock:
            self._sync(study_id)

    @contextmanager
    def round(self, study_id: int, worker: str) -> Iterator[Batch]:
        """Keep what is written to this worker's trials until the end, and write it at once.

        An error inside drops it all, and so does one in writing it.

        Raises:
            KeyError: there is no such study.
            RuntimeError: this thread is in a round already.
        """
        found = Batch()
        with self._lock:
            if self._writes is not None:
                raise RuntimeError("a round cannot begin inside another one")
            if study_id not in self._mirrors:
                self._sync(study_id)
            mirror = self._mirrors[study_id]
            self._owner, self._writes = get_ident(), BatchWrites(mirror)
            try:
                yield found
                self._commit(mirror, self._writes, found, worker)
                found.written()
            except BaseException:
                self._writes.undo()
                mirror.invalidate_all()
                raise
            finally:
                self._writes = None

    def _commit(self, mirror: StudyMirror, writes: BatchWrites, found: Batch, worker: str) -> None:
        if not writes.trial_ids and found.asked <= 0 and not found.has_on_commit:
            return
        before = {trial._trial_id for trial in mirror.running_of(worker)}
        tries = itertools.count()

        def write() -> list[FrozenTrial]:
            with self._transaction() as connection:
                lock_study(connection, mirror.study_id)
                again = next(tries) > 0
                owned = writes.owned_by(worker, connection, again=again)
                self._give_up(mirror, writes, found, owned)
                if again:
                    mirror.invalidate_all()
                if found.asked > 0:
                    version = _data_version(connection)
                    mirror.sync(connection, version=version, skip=owned)
                writes.write(connection, owned, again=again)
                found.run_on_commit(connection)
                if found.asked <= 0:
                    return []
                # Claimed by a try that was committed all the same, though nobody could say so.
                claimed = [t for t in mirror.running_of(worker) if t._trial_id not in before]
                budget = stored_budget(connection, mirror.study_id)
                return claimed or claim(connection, mirror, worker, found.asked, budget)

        claimed = self._retrier.retry(write)
        for trial in claimed:
            mirror.put(trial)
        found.claimed = [trial._trial_id for trial in claimed]

    def _give_up(
        self, mirror: StudyMirror, writes: BatchWrites, found: Batch, owned: set[int]
    ) -> None:
        """Drop what was written to trials that are no longer this worker's."""
        lost = set(writes.trial_ids) - owned
        writes.undo(lost)
        for trial_id in lost:
            mirror.invalidate(trial_id)
        found.lost |= lost

    def _own_writes(self) -> BatchWrites | None:
        """Return the round that this thread is in."""
        return self._writes if self._owner == get_ident() else None

    # --- the local copy --------------------------------------------------------------------------

    def _sync(self, study_id: int) -> None:
        while self._changed:
            trial_id = self._changed.popleft()
            for known in self._mirrors.values():
                known.invalidate(trial_id)
        mirror = self._mirrors.get(study_id) or StudyMirror(study_id)

        def read() -> None:
            with self._transaction(reads_only=True) as connection:
                mirror.sync(connection, version=_data_version(connection))

        try:
            self._retrier.retry(read)
        except BaseException:
            self._mirrors.pop(study_id, None)
            raise
        self._mirrors[study_id] = mirror

    def _mirror(self, study_id: int) -> StudyMirror | None:
        """Return a study's copy as it is to be read; None where the database is to be asked."""
        if not self._lock.acquire(blocking=False):
            return None
        try:
            if self._writes is None:
                self._sync(study_id)
            return self._mirrors.get(study_id)
        finally:
            self._lock.release()

    @contextmanager
    def _transaction(self, *, reads_only: bool = False) -> Iterator[Connection]:
        engine = self._database.engine
        if engine.dialect.name != "sqlite":
            with engine.connect() as connection, connection.begin():
                yield connection
            return
        # Kept: SQLite tells a connection whether others wrote since it last asked.
        if self._connection is None:
            self._connection = engine.connect()
        self._connection.execution_options(reads_only=reads_only)
        with self._connection.begin():
            yield self._connection

    # --- reading trials --------------------------------------------------------------------------

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        mirror = self._mirror(study_id)
        if mirror is None:
            return super().get_all_trials(study_id, deepcopy, states)
        found = list(mirror.trials)
        if states is not None:
            found = [trial for trial in found if trial.state in states]
        return copy.deepcopy(found) if deepcopy else found

    def get_trial(self, trial_id: int) -> FrozenTrial:
        holder = next((known for known in list(self._mirrors.values()) if trial_id in known), None)
        mirror = None if holder is None else self._mirror(holder.study_id)
        if mirror is None:
            return super().get_trial(trial_id)
        # A copy, since Optuna's Trial changes what it is given.
        return copy_of(mirror[trial_id])

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        mirror = self._mirror(study_id)
        if mirror is None or not 0 <= trial_number < len(mirror.trials):
            return super().get_trial_id_from_study_id_trial_number(study_id, trial_number)
        return mirror.trials[trial_number]._trial_id

    # --- writing to trials -----------------------------------------------------------------------

    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        if (writes := self._own_writes()) is not None:
            writes.set_parameter(trial_id, param_name, param_value_internal, distribution)
            return
        super().set_trial_param(trial_id, param_name, param_value_internal, distribution)
        self._changed.append(trial_id)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        if (writes := self._own_writes()) is not None:
            return writes.end(trial_id, state, values)
        self._changed.append(trial_id)
        return super().set_trial_state_values(trial_id, state, values)

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        if (writes := self._own_writes()) is not None:
            writes.report(trial_id, step, intermediate_value)
            return
        super().set_trial_intermediate_value(trial_id, step, intermediate_value)
        self._changed.append(trial_id)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        if (writes := self._own_writes()) is not None:
            writes.set_user_attribute(trial_id, key, value)
            return
        super().set_trial_user_attr(trial_id, key, value)
        self._changed.append(trial_id)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        if (writes := self._own_writes()) is not None:
            writes.set_system_attribute(trial_id, key, value)
            return
        super().set_trial_system_attr(trial_id, key, value)
        self._changed.append(trial_id)

    # --- what no round holds ---------------------------------------------------------------------

    def _refuse_inside(self, what: str) -> None:
        if self._own_writes() is not None:
            raise RuntimeError(f"{what} inside a round: end the round first")

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        self._refuse_inside("a trial cannot be created, only asked for,")
        return super().create_new_trial(study_id, template_trial)

    def create_new_study(
        self, directions: Sequence[StudyDirection], study_name: str | None = None
    ) -> int:
        self._refuse_inside("a study cannot be created")
        return super().create_new_study(directions, study_name)

    def delete_study(self, study_id: int) -> None:
        self._refuse_inside("a study cannot be deleted")
        super().delete_study(study_id)
        with self._lock:
            self._mirrors.pop(study_id, None)


def _data_version(connection: Connection) -> int | None:
    """Return what differs from before if another connection wrote; None where it is unknown."""
    if connection.dialect.name != "sqlite":
        return None
    return int(connection.exec_driver_sql("PRAGMA data_version").scalar_one())


def _reopen(url: str) -> BatchedStorage:
    return BatchedStorage(open_database(url))
