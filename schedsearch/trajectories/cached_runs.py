"""Runs that replay cached epochs, and cache what they train: for searches, `confirm`, `train`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from heapq import heappop, heappush
from typing import Any, Self

from schedsearch.engines import Engine
from schedsearch.plan import Plan
from schedsearch.run import CheckpointPolicy, Run, RunCache
from schedsearch.space import Space
from schedsearch.space.prefix_sharing import estimate_prefix_sharing
from schedsearch.space.rungs import rungs
from schedsearch.storage import Batch, StudyHandle
from schedsearch.trajectories.node_hashes import root_hash
from schedsearch.trajectories.store import TrajectoryStore, TrieCursor
from schedsearch.trajectories.trial_directories import TrialDirectory

#: Seconds: training an epoch of a run again takes less than caching and finding a longer one.
_CHEAP_EPOCH = 0.002
#: The largest share of the horizon that a lost run trains again.
_MAX_LOST = 0.1
#: The expected share of reused epochs from which on cheap epochs are cached too.
_WORTH_CACHING = 0.01
#: The number of the best trials that are saved even if their epochs are cheap.
_BEST_SAVED = 20
#: Plans sampled to estimate how many epochs the plans of a space share.
_SAMPLED_PLANS = 200


@dataclass(frozen=True)
class TrialRow:
    """A row of the table of trials: a trial that is queued again has another one.

    Attributes:
        trial_id: its key.
        number: its number in the study.
        first: the number of the row with which the trial began.
    """

    trial_id: int
    number: int
    first: int


class CachedRuns:
    """Creates runs with a cache, and writes what they train.

    No two runs train the same epoch: leases say which run trains it. Where epochs are cheap, the
    cache is read-only: runs replay cached epochs at their beginning, and add none.

    Args:
        store: of cached epochs; None: every run trains every epoch.
        space: has the horizon, and the rungs of the pruner.
        fingerprint: of the task.
        numerics: of the trainings.
        branches: the epochs after which plans of the space are likely to branch.
        cache_cheap: cache cheap epochs too, as if they were not cheap.
        study_id: of the study whose trials are trained; None: runs have only temporary folders.
    """

    def __init__(
        self,
        store: TrajectoryStore | None,
        *,
        space: Space,
        fingerprint: str,
        numerics: Mapping[str, Any],
        branches: frozenset[int] = frozenset(),
        cache_cheap: bool = False,
        study_id: int | None = None,
    ) -> None:
        self._store, self._space, self._study_id = store, space, study_id
        self._fingerprint, self._numerics = fingerprint, numerics
        self._checkpoint_policy = _checkpoint_policy(space, branches)
        self._cursors: dict[Run, TrieCursor] = {}
        self._cache_cheap = cache_cheap
        # A heap of the negated ranks of the best trials: the worst of them is first.
        self._ranks: list[float] = []
        self.epochs_are_cheap = False

    @classmethod
    def of_study(
        cls,
        study: StudyHandle,
        store: TrajectoryStore | None,
        numerics: Mapping[str, Any] | None = None,
    ) -> Self:
        """Return the runs of a study's trials.

        Args:
            study: the study.
            store: of the study's database; None: every run trains every epoch.
            numerics: of the trainings here, if they differ from those of the study.
        """
        reuse, branches = 0.0, frozenset[int]()
        # The plans of such a study are few and known: none are sampled from the space.
        if store is not None and study.follows is None:
            sharing = estimate_prefix_sharing(study.space, _SAMPLED_PLANS, seed=0)
            reuse, branches = sharing.reuse, sharing.branch_epochs
        return cls(
            store,
            space=study.space,
            fingerprint=study.record.fingerprint,
            numerics=numerics or study.record.numerics,
            branches=branches,
            cache_cheap=reuse >= _WORTH_CACHING,
            study_id=study.study_id,
        )

    def begin(
        self,
        engine: Engine,
        plan: Plan,
        seed: int,
        *,
        keep_best: bool = False,
        row: TrialRow | None = None,
    ) -> Run:
        """Return a run of a plan before its first epoch.

        A run that keeps the best epoch's model has no cache: it has to train that epoch.

        Args:
            engine: trains the run.
            plan: the schedules.
            seed: of the run.
            keep_best: keep the model of the best epoch, if the objective counts that epoch.
            row: of the run's trial; None: it has none, and its folder is temporary.
        """
        space = self._space
        directory = None if row is None else self._directory(plan, seed, row)
        run = partial(Run, engine, space=space, plan=plan, seed=seed, directory=directory)
        if self._store is None or (keep_best and space.objective.value == "best"):
            return run(keep_best=keep_best)
        trial_id = None if row is None else row.trial_id
        cursor = self._store.cursor(self._root(plan, seed), trial_id)
        cache = RunCache(cursor, None if self.epochs_are_cheap else self._checkpoint_policy)
        cached = run(cache=cache)
        self._cursors[cached] = cursor
        return cached

    def time_of_last_epoch(self, run: Run) -> datetime | None:
        """Return when the last epoch of a replayed run was trained; None if that is not known."""
        cursor = self._cursors.get(run)
        seconds = None if cursor is None else cursor.time_of_node()
        try:
            return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
        except (ArithmeticError, OSError, TypeError, ValueError):
            return None  # a damaged database may hold any value

    def end(self, run: Run) -> None:
        """Release the leases and pins of a run; what it trained stays cached."""
        if (cursor := self._cursors.pop(run, None)) is not None:
            cursor.end()

    # --- replaying and training ------------------------------------------------------------------

    def replay_epoch(self, run: Run) -> bool:
        """Advance a run by one cached epoch; return False if the epoch has to be trained."""
        if run.is_behind_lane:
            return run.replay_epoch()
        cursor = self._cursors.get(run)
        if cursor is None or run.ended or cursor.has_lease(_next_key(run)):
            return False
        replayed = run.replay_epoch()
        if not replayed and self.epochs_are_cheap and not run.epochs:
            self._stop_caching(run)  # no other run began like this one
        return replayed

    def lease(self, runs: Iterable[Run]) -> set[Run]:
        """Return the runs that may train their next epoch now; other runs train the others' epochs.

        A run that is not returned waits, and finds its epoch cached once it is trained. Runs whose
        epochs are cheap, or that have no cache, need no lease.
        """
        waiting = set(runs)
        if self._store is None or self.epochs_are_cheap:
            return waiting
        wanted = {self._cursors[run]: _next_key(run) for run in waiting if run in self._cursors}
        granted = self._store.lease(wanted)
        return {run for run in waiting if self._cursors.get(run) in (*granted, None)}

    def request_leases(self, runs: Iterable[Run]) -> None:
        """Request a lease on each run's next epoch, to be granted in the next write."""
        if self.epochs_are_cheap:
            return
        for run in runs:
            if (cursor := self._cursors.get(run)) is not None and not run.ended:
                cursor.request_lease(_next_key(run))

    def renew_leases(self) -> None:
        """Extend the leases and pins of all runs."""
        if self._store is not None:
            self._store.renew()

    # --- cheap epochs ----------------------------------------------------------------------------

    def record_epoch_time(self, seconds: float, runs: int) -> None:
        """Make the cache read-only if an epoch of so many runs was cheap and `cache_cheap` is off.

        One cheap epoch is enough: compiling and a busy machine make epochs slower, but nothing
        makes one faster.
        """
        if self._cache_cheap or self.epochs_are_cheap:
            return
        if seconds < _CHEAP_EPOCH * runs:
            self.epochs_are_cheap = True
            for run in list(self._cursors):
                self._stop_caching(run)
            self.flush()

    def save_if_among_best(self, runs: Sequence[Run], rank: float) -> None:
        """Save the runs of a complete trial with cheap epochs, if it is one of the best trials.

        An extended study, `train` and `confirm` are likely to continue from such a trial.

        Args:
            runs: in their lanes.
            rank: of the trial's value; lower is better.
        """
        if not self.epochs_are_cheap:
            return
        heappush(self._ranks, -rank)
        if len(self._ranks) > _BEST_SAVED and -heappop(self._ranks) <= rank:
            return
        for run in runs:
            self._save_whole_run(run)

    def _save_whole_run(self, run: Run) -> None:
        """Cache all epochs of a run that is in its lane at its end, though they were cheap."""
        if self._store is not None and run.lane is not None and not run.is_catching_up:
            cursor = self._store.cursor(self._root(run.plan, run.seed))
            run.save_all_epochs(cursor)
            cursor.end()

    # --- writing ---------------------------------------------------------------------------------

    def add_to_batch(self, batch: Batch) -> None:
        """Write what the runs trained in the transaction of a batch."""
        if self._store is not None and self._store.has_pending:
            batch.add_write(self._store.write, self._store.mark_committed)

    def flush(self) -> None:
        """Write what the runs trained in a separate transaction."""
        if self._store is not None:
            self._store.flush()

    # ---------------------------------------------------------------------------------------------

    def _directory(self, plan: Plan, seed: int, row: TrialRow) -> TrialDirectory | None:
        if self._store is None or self._store.directories is None or self._study_id is None:
            return None
        root = self._root(plan, seed)
        return self._store.directories.of_run(self._study_id, row.first, root, plan, row.number)

    def _root(self, plan: Plan, seed: int) -> str:
        horizon = self._space.horizon if self._numerics["engine"] == "loop" else None
        return root_hash(self._fingerprint, seed, self._numerics, horizon, plan.arguments)

    def _stop_caching(self, run: Run) -> None:
        run.stop_caching()
        self.end(run)


def _next_key(run: Run) -> bytes:
    return run.engine.key(run.next_values, run.seed)


def _checkpoint_policy(space: Space, branches: frozenset[int]) -> CheckpointPolicy:
    pruner = space.search.pruner
    stops: frozenset[int] = frozenset()
    if pruner.name in ("asha", "hyperband"):
        stops = frozenset(rungs(space))
    # If plans branch at most epochs, checkpoints where a constant value changes are enough.
    few = len(branches) <= space.horizon / 3
    return CheckpointPolicy(
        horizon=space.horizon,
        rungs=stops,
        branches=branches if few else frozenset(),
        spacing=max(1, round(_MAX_LOST * space.horizon)),
    )
