"""A study that goes on where another one ended: its best plans, with a longer horizon."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState, create_trial

from schedsearch.engines import closest_numerics, make_engine
from schedsearch.errors import InputError, StudyError
from schedsearch.plan import Plan
from schedsearch.space import Space
from schedsearch.space.synthetic_feedback import synthetic_feedback
from schedsearch.storage import PARENT, StudyHandle, StudyRecord, create_study, plan_of
from schedsearch.task import load_task
from schedsearch.training import search_seeds
from schedsearch.trajectories import TrajectoryStore
from schedsearch.trajectories.cached_runs import CachedRuns

#: Of a longer study: whether durations stayed shares of the horizon.
_STRETCHED = "stretched"


@dataclass(frozen=True)
class Extension:
    """A longer study, and how much of what is queued in it is known already.

    Attributes:
        study: has the parent's best plans queued, after its trial 0.
        epochs: of all runs that are queued.
        known: how many of them need not be trained.
        resting: how many of the plans move, but have come to rest where the parent ended.
    """

    study: StudyHandle
    epochs: int
    known: int
    resting: int


def extend(
    parent: StudyHandle, *, horizon: int, top: int, stretch: bool, store: TrajectoryStore | None
) -> Extension:
    """Make the study NAME@HORIZON, or find it, with the parent's best distinct plans queued.

    Args:
        parent: whose best complete trials.
        horizon: in epochs; longer than the parent's.
        top: how many plans.
        stretch: keep durations as shares of the horizon; else they stay what they were in epochs.
        store: what is known; None: nothing.

    Raises:
        InputError: the horizon is no longer than the parent's.
        StudyError: no trial of the parent is complete, or the study was begun with the other
            durations.
    """
    if horizon <= parent.space.horizon:
        raise InputError(
            f"--horizon is {horizon}, but must be more than the {parent.space.horizon} epochs of "
            f"study {parent.name}"
        )
    plans = _best_plans(parent, top, stretch=stretch)
    document = parent.space.to_document()
    document["name"], document["horizon"] = f"{parent.name}@{horizon}", horizon
    document["search"] = {**document["search"], "trials": 1 + len(plans)}
    space = Space.from_document(document, f"study {document['name']}")
    record = StudyRecord(space, 1 + len(plans), parent.record.numerics, parent.record.fingerprint)
    study = create_study(parent.database, record)
    _queue(study, parent, plans, stretch=stretch)
    queued = [plan for _, plan in plans]
    resting = sum(_rests(plan, study.space, parent.space.horizon) for plan in queued)
    return Extension(study, *_known(study, queued, store), resting)


def _best_plans(parent: StudyHandle, top: int, *, stretch: bool) -> list[tuple[FrozenTrial, Plan]]:
    found: dict[Plan, FrozenTrial] = {}
    for trial in parent.complete():
        plan = plan_of(trial)
        if not stretch:
            plan = plan.resolve(parent.space.horizon, parent.space.search.seed)
        found.setdefault(plan, trial)
        if len(found) == top:
            break
    if not found:
        raise StudyError(
            f"study {parent.name} has no complete trial yet: `schedsearch start` goes on"
        )
    return [(trial, Plan.from_tables(plan.to_tables())) for plan, trial in found.items()]


def _queue(
    study: StudyHandle, parent: StudyHandle, plans: list[tuple[FrozenTrial, Plan]], *, stretch: bool
) -> None:
    """Queue the plans, unless an earlier call did."""
    storage = study.database.optuna
    with study.database.creating():
        attributes = storage.get_study_user_attrs(study.study_id)
        if PARENT in attributes:
            if attributes.get(_STRETCHED, False) != stretch:
                raise StudyError(
                    f"study `{study.name}` was begun {'without' if stretch else 'with'} --stretch: "
                    f"go on so, or throw it away with `schedsearch delete {study.name}`"
                )
            return
        for trial, plan in plans:
            carried: dict[str, Any] = {"plan": plan.to_tables(), PARENT: trial.number}
            queued = create_trial(state=TrialState.WAITING, user_attrs=carried)
            storage.create_new_trial(study.study_id, queued)
        storage.set_study_user_attr(study.study_id, _STRETCHED, stretch)
        storage.set_study_user_attr(study.study_id, PARENT, parent.name)


def _known(study: StudyHandle, plans: list[Plan], store: TrajectoryStore | None) -> tuple[int, int]:
    """Return how many epochs the runs of plans have, and how many of them are known."""
    space, numerics = study.space, closest_numerics(study.record.numerics)
    task = load_task(space.task, space.document.arguments)
    engine = make_engine(task, horizon=space.horizon, numerics=numerics)
    runs = CachedRuns(store, space=space, fingerprint=study.record.fingerprint, numerics=numerics)
    known = 0
    for plan in plans:
        for seed in search_seeds(space):
            run = runs.begin(engine, plan, seed)
            while run.replay_epoch():
                known += 1
            runs.end(run)
    return space.horizon * len(plans) * space.search.seeds, known


def _rests(plan: Plan, space: Space, epochs: int) -> bool:
    """Tell whether a plan has come to rest in the epoch after so many.

    A duration of all of them ends there: its final value is that of the epoch that follows.
    """
    seed, values = space.search.seed, []
    try:
        plan = plan.resolve(space.horizon, seed)
        state = plan.start()
        for feedback in synthetic_feedback(space, seed):
            values.append(plan.values(state))
            state = plan.update(state, feedback)
    except InputError:
        return False  # its trial is refused, as growth that overflows is
    moved = [epoch for epoch in range(1, space.horizon) if values[epoch] != values[epoch - 1]]
    return bool(moved) and moved[-1] <= epochs
