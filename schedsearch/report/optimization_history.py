"""The optimization history as numbers to draw: best values, families, parameter importances."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from schedsearch.report.text import describe_value
from schedsearch.space import Objective, Space
from schedsearch.space.domains import Choices, Levels
from schedsearch.storage import PlanMean, is_race_run, rank_plans
from schedsearch.storage.attributes import (
    EPOCHS_TRAINED,
    PLAN,
    TAKEN_FROM,
    USER_PLAN,
    is_superseded,
    requested_epochs,
)

#: Importances need at least so many complete trials of a family.
MIN_TRIALS = 20
#: Before the name of an argument in the names of what is searched.
_ARGUMENTS = "arguments."


@dataclass(frozen=True)
class FinishedTrial:
    """A trial that ended, with the totals of the search up to its end.

    Attributes:
        number: the trial's number.
        position: its position in the order in which trials ended, from 1.
        epochs: how many epochs all runs had trained until then, this trial included.
        value: the mean over all runs of the trial's plan; None unless the trial is complete, and
            for a further run of a plan.
        is_constant: whether the trial's plan keeps all searched hyperparameters constant.
        place: of the trial's plan in the ranking of all plans, which compares on equal seeds only,
            from 0; None unless the trial is the first complete one with the plan.
        place_of_constants: the same in the ranking of the constants; None for other plans.
    """

    number: int
    position: int
    epochs: int
    value: float | None
    is_constant: bool
    place: int | None
    place_of_constants: int | None


def optimization_history(space: Space, rows: Sequence[FrozenTrial]) -> list[FinishedTrial]:
    """Return the complete and the pruned trials, in the order in which they ended.

    Args:
        space: of the study.
        rows: its trials, with the attempts that were queued again: their epochs were trained too.
    """
    trials = [row for row in rows if not is_superseded(row)]
    ended = [row for row in rows if row.state.is_finished()]
    ended.sort(key=lambda trial: (trial.datetime_complete or datetime.min, trial.number))
    history: list[FinishedTrial] = []
    ranked, constants = rank_plans(space, trials), rank_plans(space, trials, constant=True)
    means, places, places_of_constants = _means(ranked), _places(ranked), _places(constants)
    epochs = 0
    for trial in ended:
        reported = len(trial.intermediate_values)
        requested = requested_epochs(trial, space.search.seeds, reported)
        epochs += trial.user_attrs.get(EPOCHS_TRAINED, requested)
        if trial.state is TrialState.FAIL or is_superseded(trial):
            continue
        is_constant = space.is_constant_plan(trial.user_attrs.get(PLAN, {}))
        history.append(
            FinishedTrial(
                trial.number,
                len(history) + 1,
                epochs,
                means.get(trial.number),
                is_constant,
                places.get(trial.number),
                places_of_constants.get(trial.number),
            )
        )
    return history


def improvements(
    history: Sequence[FinishedTrial], *, constants: bool = False
) -> list[FinishedTrial]:
    """Return the trials whose plans rank before those of all trials that ended earlier.

    The ranking has all runs that are known now. So the last one is the best plan of the study, or
    its best constant. A better plan may have a worse value, as the value of one lucky run is better
    than the mean of several.

    Args:
        history: of the study.
        constants: whether only plans of constants count.
    """
    found: list[FinishedTrial] = []
    best = math.inf
    for trial in history:
        place = trial.place_of_constants if constants else trial.place
        if place is not None and place < best:
            best = place
            found.append(trial)
    return found


def best_so_far_words(improving: Sequence[FinishedTrial], objective: Objective) -> str:
    """Return what `improvements` are: if a later one has a worse value, also why.

    Args:
        improving: the trials.
        objective: of the study.
    """
    values = [objective.to_minimize(one.value) for one in improving if one.value is not None]
    is_worse = any(later > before for before, later in pairwise(values))
    return "best so far" + (", as all runs rank it now" if is_worse else "")


def by_family(space: Space, trials: Sequence[FrozenTrial]) -> dict[str, dict[str, list[float]]]:
    """Return the values of complete trials by hyperparameter or group, and by family.

    Arguments with levels are in it too, by level. The value of a trial is the mean over all runs of
    its plan. Hyperparameters with a single family are left out. A family without a complete trial
    has an empty list. User plans are left out, since they may have families that are not searched;
    and so are plans of earlier studies where they have such a family.
    """
    found: dict[str, dict[str, list[float]]] = {
        name: {family: [] for family in families.options}
        for name, families in space.searched().items()
        if len(families.options) > 1
    }
    found |= {
        f"{_ARGUMENTS}{name}": {describe_value(level): [] for level in domain.values}
        for name, domain in space.arguments.items()
        if isinstance(domain, Levels | Choices)
    }
    means = _means(rank_plans(space, trials))
    for trial in trials:
        if (value := means.get(trial.number)) is None or USER_PLAN in trial.user_attrs:
            continue
        for name, families in found.items():
            family = family_of(space, trial, name)
            if family in families or TAKEN_FROM not in trial.user_attrs:
                families[family].append(value)
    return found


def family_of(space: Space, trial: FrozenTrial, name: str) -> str:
    """Return the family of a hyperparameter or group, or an argument's value, in a trial's plan."""
    plan: Mapping[str, Any] = trial.user_attrs[PLAN]
    argument = name.removeprefix(_ARGUMENTS)
    if argument != name and argument in space.arguments:
        return describe_value(plan["arguments"][argument]["value"])
    if name in space.document.groups:
        members = space.document.groups[name].members
        tables = (g for g in plan.get("groups", {}).values() if g["members"] == members)
    else:
        tables = (table for table in [plan["hyperparameters"].get(name, {})])
    # The plan of a constant group lists its members one by one, and a hyperparameter without
    # families is constant at its default.
    families = next((table.get("families") for table in tables), None)
    return str(next(iter(families))) if families else "constant"


def importances(space: Space, trials: Sequence[FrozenTrial]) -> dict[str, dict[str, float]]:
    """Return the importance of each parameter within its family, by hyperparameter and family.

    Arguments are compared with each other.

    PED-ANOVA (Watanabe et al. 2023) compares the best tenth of the family's complete trials with
    all of them. The importances of a family add up to 1. Families with fewer than `MIN_TRIALS`
    complete trials or with a single parameter are left out.
    """
    found: dict[str, dict[str, float]] = {}
    for name, families in space.searched().items():
        for family in families.options:
            shares = _shares(space.objective, trials, f"{name}.{family}.")
            if shares:
                found[f"{name}: {family}"] = shares
    if space.arguments and (shares := _shares(space.objective, trials, _ARGUMENTS)):
        found["arguments"] = {name.removesuffix(".level"): share for name, share in shares.items()}
    return found


def _shares(objective: Objective, trials: Sequence[FrozenTrial], prefix: str) -> dict[str, float]:
    chosen = [
        trial
        for trial in trials
        if _has_value(trial) and any(name.startswith(prefix) for name in trial.params)
    ]
    common = set.intersection(*(set(trial.params) for trial in chosen)) if chosen else set()
    names = sorted(name for name in common if name.startswith(prefix))
    if len(chosen) < MIN_TRIALS or len(names) < 2:
        return {}
    # It imports scikit-learn, which takes a second, and most searches need no importances yet.
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    study = optuna.create_study(direction=objective.direction)
    study.add_trials(chosen)
    shares = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(), params=names)
    # The importances are not finite if all trials are alike.
    return {
        name.removeprefix(prefix): share for name, share in shares.items() if math.isfinite(share)
    }


def _means(plans: Iterable[PlanMean]) -> dict[int, float]:
    """Return the mean of each complete trial's plan by the number of the trial.

    The further runs of a race are left out.
    """
    return {
        trial.number: plan.mean for plan in plans for trial in plan.trials if not is_race_run(trial)
    }


def _places(ranked: Iterable[PlanMean]) -> dict[int, int]:
    """Return the place of each plan by the number of the trial that stands for it."""
    return {plan.number: place for place, plan in enumerate(ranked)}


def _has_value(trial: FrozenTrial) -> bool:
    """Return whether a trial is complete, with a finite value."""
    is_complete = trial.state is TrialState.COMPLETE and trial.value is not None
    return is_complete and math.isfinite(trial.value or 0.0)
