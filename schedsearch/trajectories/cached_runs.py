"""Runs that begin where something is known: of a study's search, and of `confirm` and `train`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schedsearch.engines import Engine
from schedsearch.plan import Plan
from schedsearch.run import Run
from schedsearch.space import Space
from schedsearch.trajectories import TrajectoryStore, TrieCursor, root_of
from schedsearch.trajectories.checkpoint_policy import CheckpointPolicy, rungs

#: An epoch of a run that takes less is trained again sooner than it is kept and found.
_CHEAP_EPOCH = 0.002
#: A lost run trains at most this share of its horizon again.
_LOST = 0.1


class CachedRuns:
    """Makes runs with a trail each, and writes what they train.

    Runs whose epochs are cheap only look for what is known when they begin, and keep nothing.

    Args:
        store: what is known; None: every run trains every epoch.
        space: says the horizon, and where the pruner stops runs.
        fingerprint: of the task.
        numerics: under which the runs train.
        branches: after how many epochs plans of the space are likely to part.
    """

    def __init__(
        self,
        store: TrajectoryStore | None,
        *,
        space: Space,
        fingerprint: str,
        numerics: Mapping[str, Any],
        branches: frozenset[int] = frozenset(),
    ) -> None:
        self.store, self._space = store, space
        self._fingerprint, self._numerics = fingerprint, numerics
        self._checkpoint_policy = _checkpoint_policy(space, branches)
        self.cursors: dict[Run, TrieCursor] = {}
        self.are_cheap = False

    def begin(self, engine: Engine, plan: Plan, seed: int, *, keep_best: bool = False) -> Run:
        """Return a run at the beginning of its trail.

        One that is to keep the best epoch's model has none, since checkpoints are elsewhere.
        """
        space = self._space
        if self.store is None or (keep_best and space.objective.value == "best"):
            return Run(engine, space=space, plan=plan, seed=seed, keep_best=keep_best)
        cursor = self._cursor(self.store, seed)
        checkpoint_policy = None if self.are_cheap else self._checkpoint_policy
        run = Run(
            engine,
            space=space,
            plan=plan,
            seed=seed,
            cursor=cursor,
            checkpoint_policy=checkpoint_policy,
        )
        self.cursors[run] = cursor
        return run

    def _cursor(self, store: TrajectoryStore, seed: int) -> TrieCursor:
        horizon = self._space.horizon if self._numerics["engine"] == "loop" else None
        return store.path(root_of(self._fingerprint, seed, self._numerics, horizon))

    def keep_whole(self, run: Run) -> None:
        """Keep a run that stands in its lane at its end, though its epochs were cheap."""
        if self.store is not None and run.lane is not None and not run.is_behind:
            cursor = self._cursor(self.store, run.seed)
            run.keep_whole(cursor)
            cursor.end()

    def end(self, run: Run) -> None:
        """Let go of what a run held; what it trained is kept."""
        if (cursor := self.cursors.pop(run, None)) is not None:
            cursor.end()

    def flush(self) -> None:
        """Write what the runs trained since the last time."""
        if self.store is not None:
            self.store.flush()

    def weigh(self, seconds: float, runs: int) -> None:
        """Be told what an epoch of so many runs took: keep no more of them if it was cheap.

        One epoch tells: compiling or a busy machine make others slower, but none is ever quicker.
        """
        if not self.are_cheap and seconds < _CHEAP_EPOCH * runs:
            self.are_cheap = True
            for run in list(self.cursors):
                self.let_go(run)
            self.flush()

    def let_go(self, run: Run) -> None:
        """Let a run train every epoch from here on, and keep nothing of it."""
        run.detach_cursor()
        self.end(run)


def _checkpoint_policy(space: Space, branches: frozenset[int]) -> CheckpointPolicy:
    pruner = space.search.pruner
    stops: frozenset[int] = frozenset()
    if pruner.name in ("asha", "hyperband"):
        stops = frozenset(rungs(pruner.min_epochs, pruner.reduction_factor, space.horizon))
    # Where plans part at most epochs, the rule of changing values says enough.
    few = len(branches) <= space.horizon / 3
    return CheckpointPolicy(
        horizon=space.horizon,
        rungs=stops,
        branches=branches if few else frozenset(),
        spacing=max(1, round(_LOST * space.horizon)),
    )
