"""What a worker's runs know of all that was trained before, and what they add to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from heapq import heappop, heappush
from typing import Any

from schedsearch.engines import Engine
from schedsearch.plan import Plan
from schedsearch.run import Run
from schedsearch.space.sharing import expected_sharing
from schedsearch.storage import Batch, StudyHandle
from schedsearch.trajectories import TrajectoryStore
from schedsearch.trajectories.cached_runs import CachedRuns

#: The least share of a search's epochs for which cheap ones are kept nevertheless.
_WORTH_KEEPING = 0.01
#: So many of a worker's best trials are kept though their epochs are cheap.
_MOST_KEPT = 20
#: Plans that are drawn to see what those of the space have in common.
_DRAWN = 200


class Reuse:
    """Lets a worker's runs follow what is known, and trains no epoch at two places at once.

    Args:
        study: whose trials.
        store: of the study's database; None: every run trains every epoch.
        numerics: those of this worker, where they are not the study's.
    """

    def __init__(
        self,
        study: StudyHandle,
        store: TrajectoryStore | None,
        numerics: Mapping[str, Any] | None = None,
    ) -> None:
        self._expected, branches = 0.0, frozenset[int]()
        if store is not None:
            sharing = expected_sharing(study.space, _DRAWN, seed=0)
            self._expected, branches = sharing.reuse, sharing.branches
        self._known = CachedRuns(
            store,
            space=study.space,
            fingerprint=study.record.fingerprint,
            numerics=numerics or study.record.numerics,
            branches=branches,
        )
        # A heap of the best trials' ranks, negated: the worst of them comes first.
        self._ranks: list[float] = []

    def begin(self, engine: Engine, plan: Plan, seed: int) -> Run:
        """Return a run of a plan, at the beginning of its trail."""
        return self._known.begin(engine, plan, seed)

    def follow(self, run: Run) -> bool:
        """Go on by an epoch that is known; False if it is to be trained."""
        cursor = self._known.cursors.get(run)
        if cursor is None or run.ended or cursor.holds(_next_key(run)):
            return False
        followed = run.follow()
        if not followed and self._known.are_cheap and not run.epochs:
            self._known.let_go(run)  # nothing of it is known
        return followed

    def granted(self, runs: Iterable[Run]) -> set[Run]:
        """Return which runs may train their next epoch now; another run trains that of the rest."""
        waiting, cursors = set(runs), self._known.cursors
        if self._known.store is None or self._known.are_cheap:
            return waiting
        wanted = {cursors[run]: _next_key(run) for run in waiting if run in cursors}
        granted = self._known.store.lease(wanted)
        return {run for run in waiting if cursors.get(run) in (*granted, None)}

    def end(self, run: Run) -> None:
        """Let go of what a run held; what it trained is kept."""
        self._known.end(run)

    def keep_if_good(self, runs: Sequence[Run], rank: float) -> None:
        """Keep the runs of a complete trial whose epochs are cheap, if few have been better.

        Such a trial may go on over a longer horizon, or be trained once more as an exported config.

        Args:
            runs: they stand in their lanes.
            rank: what the trial counts for; lower is better.
        """
        if not self._known.are_cheap:
            return
        heappush(self._ranks, -rank)
        if len(self._ranks) > _MOST_KEPT and -heappop(self._ranks) <= rank:
            return
        for run in runs:
            self._known.keep_whole(run)

    def write_with(self, written: Batch, runs: Iterable[Run]) -> None:
        """Write in a round's transaction what was trained, and ask for what these train next."""
        store = self._known.store
        if store is None:
            return
        for run in () if self._known.are_cheap else runs:
            if (cursor := self._known.cursors.get(run)) is not None and not run.ended:
                cursor.ask(_next_key(run))
        written.on_commit(store.write, store.written)

    def renew(self) -> None:
        """Say that the runs that hold something are alive."""
        if self._known.store is not None:
            self._known.store.renew()

    def close(self) -> None:
        """Write what waits."""
        self._known.flush()

    def weigh(self, seconds: float, runs: int) -> None:
        """Be told what an epoch of so many runs took; see CachedRuns."""
        if self._expected < _WORTH_KEEPING:
            self._known.weigh(seconds, runs)


def _next_key(run: Run) -> bytes:
    return run.engine.key(run.next_values)
