"""Runs that begin where something is known: of a study's search, and of `confirm` and `train`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schedsearch.engines import Engine
from schedsearch.plan import Plan
from schedsearch.run import Run
from schedsearch.space import Space
from schedsearch.trajectories import Store, Trail, root_of
from schedsearch.trajectories.placement import Placement, rungs

#: An epoch of a run that takes less is trained again sooner than it is kept and found.
_CHEAP_EPOCH = 0.002
#: A lost run trains at most this share of its horizon again.
_LOST = 0.1


class KnownRuns:
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
        store: Store | None,
        *,
        space: Space,
        fingerprint: str,
        numerics: Mapping[str, Any],
        branches: frozenset[int] = frozenset(),
    ) -> None:
        self.store, self._space = store, space
        self._fingerprint, self._numerics = fingerprint, numerics
        self._placement = _placement(space, branches)
        self.trails: dict[Run, Trail] = {}
        self.are_cheap = False

    def begin(self, engine: Engine, plan: Plan, seed: int, *, keep_best: bool = False) -> Run:
        """Return a run at the beginning of its trail.

        One that is to keep the best epoch's model has none, since checkpoints are elsewhere.
        """
        space = self._space
        if self.store is None or (keep_best and space.objective.value == "best"):
            return Run(engine, space=space, plan=plan, seed=seed, keep_best=keep_best)
        trail = self._trail(self.store, seed)
        placement = None if self.are_cheap else self._placement
        run = Run(engine, space=space, plan=plan, seed=seed, trail=trail, placement=placement)
        self.trails[run] = trail
        return run

    def _trail(self, store: Store, seed: int) -> Trail:
        horizon = self._space.horizon if self._numerics["engine"] == "loop" else None
        return store.path(root_of(self._fingerprint, seed, self._numerics, horizon))

    def keep_whole(self, run: Run) -> None:
        """Keep a run that stands in its lane at its end, though its epochs were cheap."""
        if self.store is not None and run.lane is not None and not run.is_behind:
            trail = self._trail(self.store, run.seed)
            run.keep_whole(trail)
            trail.end()

    def end(self, run: Run) -> None:
        """Let go of what a run held; what it trained is kept."""
        if (trail := self.trails.pop(run, None)) is not None:
            trail.end()

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
            for run in list(self.trails):
                self.let_go(run)
            self.flush()

    def let_go(self, run: Run) -> None:
        """Let a run train every epoch from here on, and keep nothing of it."""
        run.forget_trail()
        self.end(run)


def _placement(space: Space, branches: frozenset[int]) -> Placement:
    pruner = space.search.pruner
    stops: frozenset[int] = frozenset()
    if pruner.name in ("asha", "hyperband"):
        stops = frozenset(rungs(pruner.min_epochs, pruner.reduction_factor, space.horizon))
    # Where plans part at most epochs, the rule of changing values says enough.
    few = len(branches) <= space.horizon / 3
    return Placement(
        horizon=space.horizon,
        rungs=stops,
        branches=branches if few else frozenset(),
        spacing=max(1, round(_LOST * space.horizon)),
    )
