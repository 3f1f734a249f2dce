"""Reuse of trained epochs by a worker's runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from heapq import heappop, heappush
from typing import Any

from schedsearch.engines import Engine
from schedsearch.plan import Plan
from schedsearch.run import Run
from schedsearch.space.prefix_sharing import estimate_prefix_sharing
from schedsearch.storage import Batch, StudyHandle
from schedsearch.trajectories import TrajectoryStore
from schedsearch.trajectories.cached_runs import CachedRuns

#: The expected share of reused epochs from which on cheap epochs are cached too.
_WORTH_CACHING = 0.01
#: The number of a worker's best trials that are saved even if their epochs are cheap.
_BEST_SAVED = 20
#: Plans sampled to estimate how many epochs the plans of the space share.
_SAMPLED_PLANS = 200


class Reuse:
    """Lets a worker's runs replay cached epochs, and lets no two runs train the same epoch.

    Args:
        study: of the trials.
        store: of the study's database; None: every run trains every epoch.
        numerics: of this worker, if they differ from those of the study.
    """

    def __init__(
        self,
        study: StudyHandle,
        store: TrajectoryStore | None,
        numerics: Mapping[str, Any] | None = None,
    ) -> None:
        self._expected_reuse, branches = 0.0, frozenset[int]()
        # The plans of a confirmation are few and known: none are drawn from the space.
        if store is not None and study.confirms is None:
            sharing = estimate_prefix_sharing(study.space, _SAMPLED_PLANS, seed=0)
            self._expected_reuse, branches = sharing.reuse, sharing.branch_epochs
        self._runs = CachedRuns(
            store,
            space=study.space,
            fingerprint=study.record.fingerprint,
            numerics=numerics or study.record.numerics,
            branches=branches,
        )
        # A heap of the negated ranks of the best trials: the worst of them is first.
        self._ranks: list[float] = []

    def begin(self, engine: Engine, plan: Plan, seed: int, *, keep_best: bool = False) -> Run:
        """Return a run of a plan before its first epoch."""
        return self._runs.begin(engine, plan, seed, keep_best=keep_best)

    def end(self, run: Run) -> None:
        """Release the leases and pins of a run; what it trained stays cached."""
        self._runs.end(run)

    def replay_epoch(self, run: Run) -> bool:
        """Advance a run by one cached epoch; return False if the epoch has to be trained."""
        return self._runs.replay_epoch(run)

    def lease(self, runs: Iterable[Run]) -> set[Run]:
        """Return the runs that may train their next epoch now; other runs train the others' epochs.

        A run that is not returned waits, and finds its epoch cached once it is trained.
        """
        return self._runs.lease(runs)

    def save_if_among_best(self, runs: Sequence[Run], rank: float) -> None:
        """Save the runs of a complete trial with cheap epochs, if it is among the worker's best.

        A longer study, `train` and `confirm` are likely to continue from such a trial.

        Args:
            runs: in their lanes.
            rank: of the trial's value; lower is better.
        """
        if not self._runs.epochs_are_cheap:
            return
        heappush(self._ranks, -rank)
        if len(self._ranks) > _BEST_SAVED and -heappop(self._ranks) <= rank:
            return
        for run in runs:
            self._runs.save_whole_run(run)

    def add_to_batch(self, batch: Batch, runs: Iterable[Run]) -> None:
        """Write what was trained in a batch's transaction, and request leases for these runs."""
        self._runs.request_leases(runs)
        self._runs.add_to_batch(batch)

    def renew_leases(self) -> None:
        """Extend the leases and pins of all runs."""
        self._runs.renew_leases()

    def flush(self) -> None:
        """Write what the runs trained in a separate transaction."""
        self._runs.flush()

    def record_epoch_time(self, seconds: float, runs: int) -> None:
        """Cache no more epochs if this one was cheap and plans of the space share few epochs."""
        if self._expected_reuse < _WORTH_CACHING:
            self._runs.record_epoch_time(seconds, runs)
