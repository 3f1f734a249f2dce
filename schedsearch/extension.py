"""Extending a study: another study trains its best plans for more epochs."""

from __future__ import annotations

from dataclasses import dataclass, replace

from optuna.trial import FrozenTrial, TrialState, create_trial

from schedsearch.argument_values import ArgumentKey, argument_key
from schedsearch.engines import Engine, closest_numerics
from schedsearch.epoch_values import evaluate_epochs, values_within_epoch
from schedsearch.errors import InputError, StudyError
from schedsearch.plan import Plan
from schedsearch.space import Space
from schedsearch.space.synthetic_feedback import synthetic_feedback
from schedsearch.storage import StudyHandle, create_study, plan_of
from schedsearch.storage.attributes import PARENT, PLAN, STRETCHED, UNPRUNED
from schedsearch.study_task import engine_for, load_study_task
from schedsearch.task import Task, TrainFunction
from schedsearch.training import search_seeds
from schedsearch.trajectories import TrajectoryStore
from schedsearch.trajectories.cached_runs import CachedRuns


@dataclass(frozen=True)
class ExtendedStudy:
    """A study that extends another one, and how many of its epochs are cached.

    Attributes:
        study: its queue holds the parent's best plans, after its own trial 0.
        plans: the number of plans that it continues.
        epochs: all epochs of all queued runs, trial 0 included.
        cached: how many of these epochs need no training.
        settled: how many plans change, but no longer after the parent's horizon.
    """

    study: StudyHandle
    plans: int
    epochs: int
    cached: int
    settled: int


def extend_study(
    parent: StudyHandle, *, horizon: int, top: int, stretch: bool, store: TrajectoryStore | None
) -> ExtendedStudy:
    """Create or open the study NAME@HORIZON, whose queue holds the parent's best distinct plans.

    Args:
        parent: the study whose best complete trials are continued.
        horizon: in epochs; longer than the parent's.
        top: how many plans to queue.
        stretch: keep durations as shares of the horizon; otherwise keep them in epochs.
        store: the cached trajectories; None trains every epoch.

    Raises:
        InputError: the horizon is not longer than the parent's.
        StudyError: the parent has no complete trial, its task changed, or the study exists with
            another `stretch`.
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
    task = load_study_task(parent)
    record = replace(parent.record, space=space, trials=1 + len(plans))
    study = create_study(parent.database, record)
    _queue(study, parent, plans, stretch=stretch)
    continued = [plan for _, plan in plans]
    settled = sum(_is_settled(plan, study.space, parent.space.horizon) for plan in continued)
    queued = [study.space.baseline(), *continued]
    return ExtendedStudy(study, len(plans), *_count_cached(study, task, queued, store), settled)


def _best_plans(parent: StudyHandle, top: int, *, stretch: bool) -> list[tuple[FrozenTrial, Plan]]:
    found: dict[Plan, FrozenTrial] = {}
    for ranked in parent.ranked_plans():
        plan = plan_of(ranked.trial)
        if not stretch:
            plan = plan.resolve(parent.space.horizon, parent.space.search.seed)
        found.setdefault(plan, ranked.trial)
        if len(found) == top:
            break
    if not found:
        raise parent.no_complete_trial()
    return [(trial, Plan.from_tables(plan.to_tables())) for plan, trial in found.items()]


def _queue(
    study: StudyHandle, parent: StudyHandle, plans: list[tuple[FrozenTrial, Plan]], *, stretch: bool
) -> None:
    """Queue the plans, unless an earlier call has done so."""
    storage = study.database.optuna
    with study.database.creation_lock():
        attributes = study.attributes(PARENT, STRETCHED)
        if PARENT in attributes:
            if attributes.get(STRETCHED, False) != stretch:
                created, change = ("without", "leave it out") if stretch else ("with", "add it")
                raise StudyError(
                    f"study `{study.name}` was created {created} --stretch: {change}, or delete "
                    f"the study with `schedsearch delete {study.name}`"
                )
            return
        study.queue.enqueue(
            [
                create_trial(
                    state=TrialState.WAITING,
                    user_attrs={PLAN: plan.to_tables(), PARENT: trial.number, UNPRUNED: True},
                )
                for trial, plan in plans
            ]
        )
        storage.set_study_user_attr(study.study_id, STRETCHED, stretch)
        storage.set_study_user_attr(study.study_id, PARENT, parent.name)


def _count_cached(
    study: StudyHandle,
    task: Task | TrainFunction,
    plans: list[Plan],
    store: TrajectoryStore | None,
) -> tuple[int, int]:
    """Return how many epochs the runs of all plans have, and how many of these are cached."""
    space, numerics = study.space, closest_numerics(study.record.numerics)
    runs = CachedRuns(store, space=space, fingerprint=study.record.fingerprint, numerics=numerics)
    cached, engines = 0, dict[ArgumentKey, Engine]()
    for plan in plans:
        key = argument_key(plan.arguments)
        if key not in engines:
            engines[key] = engine_for(space, task, numerics, plan.arguments)
        engine = engines[key]
        for seed in search_seeds(space):
            run = runs.begin(engine, plan, seed)
            while run.replay_epoch():
                pass
            cached += run.epochs_replayed
            runs.end(run)
    return space.horizon * len(plans) * space.search.seeds, cached


def _is_settled(plan: Plan, space: Space, epochs: int) -> bool:
    """Return whether a plan changes, but keeps its values after the epoch that follows `epochs`.

    That epoch still counts: a schedule with a duration of `epochs` reaches its final value there.
    """
    seed = space.search.seed
    try:
        by_epoch = evaluate_epochs(
            plan.resolve(space.horizon, seed), synthetic_feedback(space, seed)
        )
        values = [values_within_epoch(epoch) for epoch in by_epoch]
    except InputError:
        return False  # for example growth that overflows: its trial will be refused
    changes = [epoch for epoch in range(1, space.horizon) if values[epoch] != values[epoch - 1]]
    for epoch, by_name in enumerate(values):
        if any(isinstance(value, tuple) for value in by_name.values()):
            changes.append(epoch + 1)  # it changes until the end of the epoch
    return bool(changes) and max(changes) <= epochs
