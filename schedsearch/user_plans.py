"""User plans: schedules that `start --also` trains in full, beside the trials of the search."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.trial import TrialState, create_trial

from schedsearch.compatibility import validate_against_task
from schedsearch.errors import InputError
from schedsearch.plan import Plan
from schedsearch.space import Space
from schedsearch.space.cut_phases import cut_phase_warnings
from schedsearch.space.suggesters import FixedSuggester
from schedsearch.storage import StudyHandle, plan_of
from schedsearch.storage.attributes import PLAN, UNPRUNED, USER_PLAN


@dataclass(frozen=True)
class UserPlan:
    """A plan that the user gives.

    Attributes:
        file: the name of its file.
        plan: its schedules.
        warnings: of schedules that the horizon of the study cuts.
    """

    file: str
    plan: Plan
    warnings: tuple[str, ...] = ()


def read_user_plan(path: Path, space: Space) -> UserPlan:
    """Read a config's schedules as a plan for a study's space.

    The study's task, horizon and objective replace those of the file. Hyperparameters that the
    file leaves out are as in trial 0. Families and values may lie outside the search space.

    Raises:
        InputError: the file is not a config, or names a hyperparameter that the task does not have.
    """
    given = Space.load(path)
    if not given.is_config:
        raise InputError(
            f"{path}: {', '.join(given.choices)} can take several values, but --also needs one "
            "plan: give one family, and one value for each parameter"
        )
    document = space.to_document()
    fixed = {key: document[key] for key in ("task", "horizon", "objective")}
    fixed["arguments"] = _own_arguments(space, given)
    config = Space.from_document({**given.to_document(), **fixed}, str(path))
    defaults = {
        name: table.default
        for name, table in space.document.hyperparameters.items()
        if table.default is not None
    }
    config = validate_against_task(config.with_defaults(defaults), str(path))
    plan = override_baseline(
        space, config.suggest_tables(FixedSuggester({})), config.schedule_version
    )
    try:
        plan.resolve(space.horizon, space.search.seed)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return UserPlan(path.name, plan, tuple(cut_phase_warnings(config)))


def _own_arguments(space: Space, given: Space) -> dict[str, Any]:
    """Return the arguments of a study, with the values of a config for those of the plan."""
    own = {**space.baseline().arguments, **given.arguments_of(given.plan())}
    defaults = space.default_arguments
    chosen = {
        name: {"value": own.get(name), "default": defaults.get(name)} for name in space.arguments
    }
    return dict(space.document.arguments) | chosen


def override_baseline(space: Space, given: Mapping[str, Any], version: int) -> Plan:
    """Return trial 0's plan, with other schedules where there are any.

    Args:
        space: of the study.
        given: the tables of these schedules, as in a config.
        version: of the rules that they follow.
    """
    baseline = space.baseline_tables()
    grouped = {member for group in given["groups"].values() for member in group["members"]}
    overridden = grouped | given["hyperparameters"].keys()
    tables: dict[str, Any] = {}
    for name, table in baseline["hyperparameters"].items():
        replaced = {"families", "interval", "round"} if name in overridden else set()
        tables[name] = {key: value for key, value in table.items() if key not in replaced}
    for name, table in given["hyperparameters"].items():
        tables[name] = {**tables.get(name, {}), **table}
    kept_groups = {
        name: group
        for name, group in baseline["groups"].items()
        if overridden.isdisjoint(group["members"])
    }
    groups = {f"own {name}": group for name, group in given["groups"].items()}
    return Plan.from_tables(
        {
            "hyperparameters": tables,
            "groups": {**kept_groups, **groups},
            "schedule_version": version,
            "arguments": given.get("arguments", {}),
        }
    )


def queue_user_plans(study: StudyHandle, user_plans: Iterable[UserPlan]) -> None:
    """Queue the plans that the study does not have yet, and raise its total if it is full.

    A grid trains them beside all of its points.
    """
    with study.database.creation_lock():
        trials = (trial for trial in study.trials() if USER_PLAN in trial.user_attrs)
        # Of a file without a version, an older study has version 1.
        queued_plans = {plan_of(trial).at_version(1) for trial in trials}
        templates = []
        for user_plan in user_plans:
            if (plan := user_plan.plan.at_version(1)) in queued_plans:
                continue
            queued_plans.add(plan)
            # No pruner: the user asked for the result of this plan.
            attributes = {
                PLAN: user_plan.plan.to_tables(),
                USER_PLAN: user_plan.file,
                UNPRUNED: True,
            }
            templates.append(create_trial(state=TrialState.WAITING, user_attrs=attributes))
        is_grid = study.space.search.sampler.name == "grid"
        study.queue.enqueue(templates, extra=len(templates) if is_grid else 0)
