"""An earlier study as the space of a new one sees it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.trial import FixedTrial, FrozenTrial

from schedsearch.errors import InputError, StudyError
from schedsearch.plan import Plan
from schedsearch.space import Space
from schedsearch.storage import (
    PATH_LIMIT,
    PATH_POINTS,
    EarlierStudy,
    StudyHandle,
    most_plans,
    plan_of,
)
from schedsearch.user_plans import override_baseline

if TYPE_CHECKING:
    from schedsearch.forecast import TrainedPlans
    from schedsearch.forecast.gaussian_process import Array

#: Plans of one earlier study whose results the forecast gets, at most.
_MAX_PLANS = 60
#: The plans to choose from are the best fifth of a study, and at least so many for each choice.
_BEST_SHARE, _CHOICES = 0.2, 3
#: The highest rank below 1 that four digits can write.
_WORST_RANK = 0.9999


@dataclass(frozen=True)
class TakenPlan:
    """A plan of an earlier study, for this one.

    Attributes:
        study: the name of the earlier study.
        trial: the number of its trial.
        plan: with the schedules of that trial where both studies search.
        parameters: the Optuna parameters of the plan, if it lies in the space of this study.
        clipped: the hyperparameters whose values go beyond the bounds of this study.
        constant: whether it keeps constant all that this study searches.
    """

    study: str
    trial: int
    plan: Plan
    parameters: Mapping[str, Any]
    clipped: tuple[str, ...]
    constant: bool


class Source:
    """An earlier study, as a space sees it."""

    def __init__(self, study: StudyHandle, space: Space) -> None:
        self._study, self._space = study, space
        shared = searched_names(space) & searched_names(study.space)
        self._names = tuple(sorted(shared))

    def check(self) -> None:
        """Raise an error if nothing can be taken of the study."""
        name, follows = self._study.name, self._study.follows
        if follows is not None:
            raise StudyError(
                f"study `{name}` {follows.purpose.attribute} study `{follows.study}`: give that "
                "study in --from"
            )
        if not self._names:
            mine = ", ".join(sorted(searched_names(self._space))) or "none"
            theirs = ", ".join(sorted(searched_names(self._study.space))) or "none"
            raise InputError(
                f"study `{name}` shares no searched hyperparameter with the space: it searches "
                f"{theirs}, the space {mine}"
            )
        if not self._study.ranked_plans():
            raise self._study.no_complete_trial()

    # --- what is recorded ------------------------------------------------------------------------

    def record(self) -> EarlierStudy:
        """Return what the new study records."""
        # scipy takes a while to load, and most commands do not need it.
        from schedsearch.forecast import coarse, representative
        from schedsearch.forecast.prior import ranks_of

        plans = self._history.plans
        space = self._study.space
        ranks = ranks_of(np.array([plan.final for plan in plans])) if plans else np.zeros(0)
        ranked = [replace(p, final=float(r)) for p, r in zip(plans, ranks, strict=True)]
        most = min(_MAX_PLANS, most_plans(len(self._names), PATH_POINTS))
        found = [
            (plan.final, coarse(plan.path[None])[0][:, self._columns])
            for plan in representative(ranked, most)
            if plan.known_path is not None
        ]
        # A plan of a study without bounds may overflow.
        kept = [(rank, path) for rank, path in found if (np.abs(path) < PATH_LIMIT).all()]
        return EarlierStudy(
            self._study.name,
            space.task,
            space.objective.metric,
            space.horizon,
            len(plans),
            self._names,
            tuple(min(float(f"{rank:.4g}"), _WORST_RANK) for rank, _ in kept),
            tuple(
                tuple(tuple(float(f"{value:.4g}") for value in point) for point in path.tolist())
                for _, path in kept
            ),
        )

    @cached_property
    def _history(self) -> TrainedPlans:
        from schedsearch.forecast import TrainedPlans

        history = TrainedPlans(self._study.space)
        history.update(self._study.rows())
        return history

    @property
    def _columns(self) -> list[int]:
        return [self._history.names.index(name) for name in self._names]

    # --- which plans are tried first -------------------------------------------------------------

    def take(self, left_out: list[str], count: int, *, constant: bool) -> list[TakenPlan]:
        """Return some of the best plans: the best one, then those that differ most in their values.

        Args:
            left_out: receives the reason for each plan that does not fit the space.
            count: how many.
            constant: whether to take constants or other plans.
        """
        ranked = self._study.ranked_plans(constant=constant)
        most = max(_CHOICES * count, math.ceil(_BEST_SHARE * len(ranked)))
        found: dict[Plan, tuple[TakenPlan, Array]] = {}
        for plan in ranked[:most]:
            trained = self._history.read(plan.trial)
            if trained is None or trained.known_path is None:
                continue
            path = trained.path[:, self._columns]
            try:
                taken = self._adopt(plan.trial, path)
            except InputError as error:
                left_out.append(str(error))
                continue
            if taken.constant == constant and taken.plan != self._space.baseline():
                found.setdefault(taken.plan, (taken, path))
        plans = list(found.values())
        order = _spread(np.array([path for _, path in plans]), count) if plans else []
        return [plans[i][0] for i in order]

    def _adopt(self, trial: FrozenTrial, path: Array) -> TakenPlan:
        """Return the plan of a trial for the space; raise InputError if it does not fit."""
        given = self._tables(plan_of(trial).to_tables())
        version = plan_of(trial).version
        plan = override_baseline(self._space, given, version)
        # Durations that are shares are those of the new horizon.
        plan.resolve(self._space.horizon, self._space.search.seed)
        bounds = self._space.document.hyperparameters
        clipped = tuple(
            name
            for name, values in zip(self._names, path.T, strict=True)
            if name in bounds and _leaves(values, bounds[name].bounds)
        )
        constant = self._space.is_constant_plan(plan.to_tables())
        parameters = self._parameters(trial, plan)
        return TakenPlan(self._study.name, trial.number, plan, parameters, clipped, constant)

    def _tables(self, tables: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the space takes of the tables of an earlier plan."""
        names = {name for name in self._names if self._takes_schedules(name)}
        baseline = self._space.baseline_tables()
        hyperparameters: dict[str, Any] = {}
        for name in self._names:
            table = tables["hyperparameters"].get(name, {})
            if "families" not in table or (
                name not in names and "constant" not in table["families"]
            ):
                continue
            own = baseline["hyperparameters"].get(name, {})
            taken = {"families", "interval"} | ({"bounds"} - own.keys())
            kept = {key: own[key] for key in ("round",) if key in own}
            hyperparameters[name] = {k: v for k, v in table.items() if k in taken} | kept
        groups = {
            name: group
            for name, group in tables.get("groups", {}).items()
            if names.issuperset(group["members"])
        }
        is_of_another_task = self._space.task != self._study.space.task
        if is_of_another_task and any(_terms([*hyperparameters.values(), *groups.values()])):
            raise InputError("they follow loss terms of another task")
        earlier = {name: table["value"] for name, table in tables.get("arguments", {}).items()}
        arguments = {
            name: {"value": value}
            for name, value in earlier.items()
            if name in self._space.arguments
            and self._space.argument_parameters(name, value) is not None
        }
        return {
            "hyperparameters": hyperparameters,
            "groups": groups,
            "arguments": baseline.get("arguments", {}) | arguments,
        }

    def _takes_schedules(self, name: str) -> bool:
        """Return whether the space lets a hyperparameter be anything but constant."""
        families = self._space.families
        of_groups = (
            families[group]
            for group, table in self._space.document.groups.items()
            if name in table.members
        )
        found = families.get(name) or next(of_groups)
        return found.options.keys() != {"constant"}

    def _parameters(self, trial: FrozenTrial, plan: Plan) -> Mapping[str, Any]:
        """Return the parameters of a trial, if the space gives the same plan with them."""
        fixed = FixedTrial(dict(trial.params))
        with warnings.catch_warnings(), suppress(ValueError, InputError):
            warnings.simplefilter("ignore")  # a value out of its range, which is checked below
            same = self._space.suggest(fixed) == plan
            if same and all(
                each._contains(each.to_internal_repr(fixed.params[name]))
                for name, each in fixed.distributions.items()
            ):
                return fixed.params
        return {}


def _terms(tables: Any) -> Iterator[str]:
    """Yield the loss terms that the families in nested tables follow."""
    if isinstance(tables, Mapping):
        for key, value in tables.items():
            if key == "term" and isinstance(value, str) and value:
                yield value
            yield from _terms(value)
    elif isinstance(tables, list):
        for value in tables:
            yield from _terms(value)


def _leaves(values: Array, bounds: tuple[float, float] | None) -> bool:
    return bounds is not None and bool(values.min() < bounds[0] or values.max() > bounds[1])


def _spread(paths: Array, count: int) -> list[int]:
    """Return the first path, and then each time the one that is farthest from those before."""
    from schedsearch.forecast.paths import Scaling

    features = Scaling.of(paths).apply(paths)
    chosen = [0]
    nearest = np.full(len(features), np.inf)
    while len(chosen) < min(count, len(features)):
        distances = ((features - features[chosen[-1]]) ** 2).sum(axis=1)
        nearest = np.minimum(nearest, distances)
        farthest = int(nearest.argmax())
        if nearest[farthest] == 0:
            break
        chosen.append(farthest)
    return chosen[:count]


def searched_names(space: Space) -> set[str]:
    """Return the hyperparameters that a space searches, those of groups included."""
    groups = space.document.groups
    return {
        member
        for name in space.searched()
        for member in (groups[name].members if name in groups else [name])
    }
