"""Schedules of the user's own, raced against a search: queued as trials, trained in full."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.trial import TrialState, create_trial

from schedsearch.compatibility import validate_against_task
from schedsearch.errors import InputError
from schedsearch.plan import Plan
from schedsearch.space import Space
from schedsearch.space.suggesters import FixedSuggester
from schedsearch.storage import OWN, UNPRUNED, StudyHandle, plan_of


@dataclass(frozen=True)
class UserPlan:
    """A plan of the user's own, and the file that it comes from."""

    label: str
    plan: Plan


def read_user_plan(path: Path, space: Space) -> UserPlan:
    """Read a config's schedules as a plan for a study's space.

    Its task, horizon and objective are the study's; what it does not name is as in trial 0. It may
    use families and values that the space does not search.

    Raises:
        InputError: it is no config, or names something that the task does not have.
    """
    given = Space.load(path)
    if not given.is_config:
        raise InputError(
            f"{path}: something is left to choose in {', '.join(given.searched())}, but --also "
            "races one plan: give one family, and one value for each parameter"
        )
    document = space.to_document()
    ours = {key: document[key] for key in ("task", "arguments", "horizon", "objective")}
    own = Space.from_document({**given.to_document(), **ours}, str(path))
    defaults = {
        name: table.default
        for name, table in space.document.hyperparameters.items()
        if table.default is not None
    }
    plan = _in_baseline(space, validate_against_task(own.with_defaults(defaults), str(path)))
    try:
        plan.resolve(space.horizon, space.search.seed)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return UserPlan(path.name, plan)


def _in_baseline(space: Space, own: Space) -> Plan:
    """Return trial 0's plan with a config's schedules in the place of its own."""
    baseline, given = space.baseline_tables(), own.suggest_tables(FixedSuggester({}))
    grouped = {member for group in given["groups"].values() for member in group["members"]}
    moved = grouped | given["hyperparameters"].keys()
    tables: dict[str, Any] = {}
    for name, table in baseline["hyperparameters"].items():
        tables[name] = {k: v for k, v in table.items() if k != "families" or name not in moved}
    for name, table in given["hyperparameters"].items():
        tables[name] = {**tables.get(name, {}), **table}
    kept = {
        name: group
        for name, group in baseline["groups"].items()
        if moved.isdisjoint(group["members"])
    }
    groups = {f"own {name}": group for name, group in given["groups"].items()}
    return Plan.from_tables({"hyperparameters": tables, "groups": {**kept, **groups}})


def queue_user_plans(study: StudyHandle, user_plans: Iterable[UserPlan]) -> None:
    """Queue the plans that the study does not have yet, and raise its total where it is full."""
    storage = study.database.optuna
    with study.database.creating():
        known = [plan_of(trial) for trial in study.trials() if OWN in trial.user_attrs]
        for user_plan in user_plans:
            if user_plan.plan in known:
                continue
            known.append(user_plan.plan)
            # No pruner: what the user asks about is to have an answer.
            attributes = {"plan": user_plan.plan.to_tables(), OWN: user_plan.label, UNPRUNED: True}
            queued = create_trial(state=TrialState.WAITING, user_attrs=attributes)
            storage.create_new_trial(study.study_id, queued)
        chains = study.queue.counts().chains
        if chains > study.total():
            storage.set_study_user_attr(study.study_id, "trials", chains)
