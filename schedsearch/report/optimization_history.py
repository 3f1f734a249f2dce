"""The course of a search, as numbers to draw: its best so far, its families, what mattered."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from schedsearch.space import Objective, Space
from schedsearch.storage import OWN

#: With fewer complete trials of a family nobody can tell which of its parameters matter.
FEWEST = 20


@dataclass(frozen=True)
class FinishedTrial:
    """A trial that ended, where it stands in the search.

    Attributes:
        number: the trial's.
        ended: how many trials had ended, this one included.
        epochs: how many epochs of all runs had been trained until then, its own included.
        value: what it counts for; None unless it is complete.
        constant: whether it held constant all that is searched.
    """

    number: int
    ended: int
    epochs: int
    value: float | None
    constant: bool


def optimization_history(space: Space, trials: Sequence[FrozenTrial]) -> list[FinishedTrial]:
    """Return the trials that ended, complete or pruned, in the order in which they did."""
    states = (TrialState.COMPLETE, TrialState.PRUNED)
    ended = [trial for trial in trials if trial.state in states]
    ended.sort(key=lambda trial: (trial.datetime_complete or datetime.min, trial.number))
    found: list[FinishedTrial] = []
    epochs = 0
    for count, trial in enumerate(ended, start=1):
        asked = len(trial.intermediate_values) * space.search.seeds
        epochs += trial.user_attrs.get("trained", asked)
        constant = space.is_constant_plan(trial.user_attrs.get("plan", {}))
        found.append(FinishedTrial(trial.number, count, epochs, _value(trial), constant))
    return found


def improvements(ends: Sequence[FinishedTrial], objective: Objective) -> list[FinishedTrial]:
    """Return those that were better than all that had ended before them."""
    found: list[FinishedTrial] = []
    best = math.inf
    for end in ends:
        if end.value is not None and (lower := objective.to_minimize(end.value)) < best:
            best = lower
            found.append(end)
    return found


def by_family(space: Space, trials: Sequence[FrozenTrial]) -> dict[str, dict[str, list[float]]]:
    """Return the values of complete trials by hyperparameter or group, and by its family.

    Only what has several families is there, with all of them; one that never completed is empty.
    Plans of the user's own are left out: they may have families that are not searched.
    """
    found: dict[str, dict[str, list[float]]] = {
        name: {family: [] for family in families.options}
        for name, families in space.searched().items()
        if len(families.options) > 1
    }
    for trial in trials:
        if (value := _value(trial)) is None or OWN in trial.user_attrs:
            continue
        for name, families in found.items():
            families[family_of(space, trial, name)].append(value)
    return found


def family_of(space: Space, trial: FrozenTrial, name: str) -> str:
    """Return the family that a trial's plan has for a hyperparameter or a group."""
    plan: Mapping[str, Any] = trial.user_attrs["plan"]
    if name in space.document.groups:
        members = space.document.groups[name].members
        tables = (g for g in plan.get("groups", {}).values() if g["members"] == members)
    else:
        tables = (table for table in [plan["hyperparameters"][name]])
    # Where a group is held constant, the plan has its members one by one.
    return next((str(next(iter(table["families"]))) for table in tables), "constant")


def importances(space: Space, trials: Sequence[FrozenTrial]) -> dict[str, dict[str, float]]:
    """Return how much each parameter mattered, from 0 to 1, by hyperparameter and family.

    A family's parameters are held against each other, over the complete trials of that family: all
    of these have them. A share of 1 is all that PED-ANOVA can tell of what the best tenth has in
    common (Watanabe et al. 2023). Families with fewer than `FEWEST` trials, or a single parameter,
    are left out.
    """
    found: dict[str, dict[str, float]] = {}
    for name, families in space.searched().items():
        for family in families.options:
            shares = _shares(space.objective, trials, f"{name}.{family}.")
            if shares:
                found[f"{name}: {family}"] = shares
    return found


def _shares(objective: Objective, trials: Sequence[FrozenTrial], prefix: str) -> dict[str, float]:
    chosen = [
        trial
        for trial in trials
        if _value(trial) is not None and any(name.startswith(prefix) for name in trial.params)
    ]
    common = set.intersection(*(set(trial.params) for trial in chosen)) if chosen else set()
    names = sorted(name for name in common if name.startswith(prefix))
    if len(chosen) < FEWEST or len(names) < 2:
        return {}
    study = optuna.create_study(direction=objective.direction)
    study.add_trials(chosen)
    shares = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(), params=names)
    return {name.removeprefix(prefix): share for name, share in _known(shares)}


def _known(shares: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    """Yield the shares; none, where all trials were alike."""
    yield from (item for item in shares.items() if math.isfinite(item[1]))


def _value(trial: FrozenTrial) -> float | None:
    """Return what a complete trial counts for; None of one that has no finite value."""
    if trial.state is not TrialState.COMPLETE or trial.value is None:
        return None
    return trial.value if math.isfinite(trial.value) else None
