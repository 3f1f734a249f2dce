"""What a worker's runs know of all that was trained before, and what they add to it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from schedsearch.engines import Engine
from schedsearch.plan import Plan
from schedsearch.space.sharing import Sharing, expected_sharing
from schedsearch.storage import Round, StudyHandle
from schedsearch.training import Run
from schedsearch.trajectories import Store, Trail, root_of
from schedsearch.trajectories.placement import Placement, rungs

#: An epoch of a run that takes less is trained again sooner than it is kept and found.
_CHEAP_EPOCH = 0.005
#: The least share of a search's epochs for which cheap ones are kept nevertheless.
_WORTH_KEEPING = 0.01
#: Plans that are drawn to see what those of the space have in common.
_DRAWN = 200
#: A lost run trains at most this share of its horizon again.
_LOST = 0.1


class Reuse:
    """Lets runs follow what is known, and trains no epoch at two places at once.

    Args:
        study: whose trials.
        store: of the study's database; None: every run trains every epoch.
    """

    def __init__(self, study: StudyHandle, store: Store | None) -> None:
        self._study, self._store = study, store
        self._trails: dict[Run, Trail] = {}
        self._sharing = Sharing(0.0, frozenset(), ())
        if store is not None:
            self._sharing = expected_sharing(study.space, _DRAWN, seed=0)
        self._placement = _placement(study, self._sharing)

    def run(self, engine: Engine, plan: Plan, seed: int) -> Run:
        """Return a run of a plan, at the beginning of its trail."""
        space = self._study.space
        if self._store is None:
            return Run(engine, space=space, plan=plan, seed=seed)
        trail = self._store.path(root_name(self._study, seed))
        run = Run(engine, space=space, plan=plan, seed=seed, trail=trail, placement=self._placement)
        self._trails[run] = trail
        return run

    def follow(self, run: Run) -> bool:
        """Go on by an epoch that is known; False if it is to be trained."""
        trail = self._trails.get(run)
        if trail is None or run.ended or trail.holds(_next_key(run)):
            return False
        return run.follow()

    def granted(self, runs: Iterable[Run]) -> set[Run]:
        """Return which runs may train their next epoch now; another run trains that of the rest."""
        waiting = set(runs)
        if self._store is None:
            return waiting
        wanted = {self._trails[run]: _next_key(run) for run in waiting if run in self._trails}
        granted = self._store.lease(wanted)
        return {run for run in waiting if self._trails.get(run) in (*granted, None)}

    def end(self, run: Run) -> None:
        """Let go of what a run held; what it trained is kept."""
        if (trail := self._trails.pop(run, None)) is not None:
            trail.end()

    def write_with(self, written: Round, runs: Iterable[Run]) -> None:
        """Write in a round's transaction what was trained, and ask for what these train next."""
        if self._store is None:
            return
        for run in runs:
            if run in self._trails and not run.ended:
                self._trails[run].ask(_next_key(run))
        written.also(self._store.write, self._store.written)

    def renew(self) -> None:
        """Say that the runs that hold something are alive."""
        if self._store is not None:
            self._store.renew()

    def close(self) -> None:
        """Write what waits, and let go of everything."""
        if self._store is not None:
            self._store.flush()

    def weigh(self, seconds: float, runs: Collection[Run]) -> None:
        """Keep nothing more if an epoch of these runs, which took so long, is cheap to repeat."""
        cheap = seconds < _CHEAP_EPOCH * len(runs)
        if self._store is not None and cheap and self._sharing.reuse < _WORTH_KEEPING:
            for run, trail in self._trails.items():
                run.forget_trail()
                trail.end()
            self._store.flush()
            self._trails.clear()
            self._store = None


def root_name(study: StudyHandle, seed: int) -> str:
    """Return the name of a study's runs with this seed before their first epoch."""
    record = study.record
    is_loop = record.numerics["engine"] == "loop"
    horizon = study.space.horizon if is_loop else None
    return root_of(record.fingerprint, seed, record.numerics, horizon)


def _next_key(run: Run) -> bytes:
    return run.engine.key(run.next_values)


def _placement(study: StudyHandle, sharing: Sharing) -> Placement:
    space = study.space
    pruner: Any = space.search.pruner
    stops = (
        frozenset(rungs(pruner.min_epochs, pruner.reduction_factor, space.horizon))
        if pruner.name in ("asha", "hyperband")
        else frozenset()
    )
    # Where plans part at most epochs, the rule of changing values says enough.
    few = len(sharing.branches) <= space.horizon / 3
    return Placement(
        horizon=space.horizon,
        rungs=stops,
        branches=sharing.branches if few else frozenset(),
        spacing=max(1, round(_LOST * space.horizon)),
    )
