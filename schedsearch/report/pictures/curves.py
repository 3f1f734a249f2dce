"""The curves of a trial: its values by epoch or by step, its metric, and its loss terms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial

from schedsearch.epoch_values import evaluate_epochs
from schedsearch.errors import StudyError
from schedsearch.report.preview import each_step, points_per_epoch
from schedsearch.schedules import Feedback
from schedsearch.space import Space
from schedsearch.storage import plan_of
from schedsearch.storage.attributes import EVERY, TERMS, VALUES
from schedsearch.storage.recorded_values import recorded_values


@dataclass(frozen=True)
class Curves:
    """The curves of a trial, by epoch.

    Attributes:
        schedules: the values in force of the hyperparameters that change; of those that change at
            each step, several values for each epoch.
        constants: the values of the hyperparameters that do not change.
        metric: the objective after each epoch; NaN where it is unknown.
        terms: the means of the loss terms.
    """

    schedules: Mapping[str, Sequence[float]]
    constants: Mapping[str, float]
    metric: Sequence[float]
    terms: Mapping[str, Sequence[float]]

    @property
    def epochs(self) -> int:
        """The number of trained epochs."""
        return len(self.metric)


def curves_of(space: Space, trial: FrozenTrial) -> Curves:
    """Return the curves in a trial's attributes.

    The attributes have values by epoch. Those that change within epochs are evaluated again, with
    the recorded metric and loss terms as feedback, where this gives the recorded values.

    Raises:
        StudyError: the trial has no finished epoch, or has not ended.
    """
    reported = [trial.intermediate_values[step] for step in sorted(trial.intermediate_values)]
    values = trial.user_attrs.get(VALUES)
    every = trial.user_attrs.get(EVERY, 1)
    if not reported or values is None:
        raise StudyError(
            f"trial {trial.number} has no curve to draw: its state is {trial.state.name.lower()}"
        )
    epochs = len(reported)
    recorded, terms = (_trained(trial, key, epochs) for key in (VALUES, TERMS))
    by_step = _within_epochs(space, trial, Curves(recorded, {}, reported, terms), every)
    changing = {name for name, v in values.items() if isinstance(v, list)} | by_step.keys()
    schedules = {name: v for name, v in (recorded | by_step).items() if name in changing}
    return Curves(
        schedules=schedules,
        constants={name: v[0] for name, v in recorded.items() if name not in changing},
        metric=reported,
        terms=terms,
    )


def _within_epochs(
    space: Space, trial: FrozenTrial, recorded: Curves, every: int
) -> dict[str, list[float]]:
    """Return the values of each step where the recorded values at the beginnings result again.

    They do not where a closed-loop schedule reacted to the results of several seeds.
    """
    plan = plan_of(trial).resolve(space.horizon, space.search.seed)
    known = recorded.schedules
    found: dict[str, list[float]] = {
        name: [] for name in plan.moving if len(known.get(name, ())) == recorded.epochs
    }
    steps = points_per_epoch(recorded.epochs)
    feedback = (_feedback(space, recorded, epoch) for epoch in range(recorded.epochs))
    for epoch, values in enumerate(evaluate_epochs(plan, feedback) if found else ()):
        by_name = values.by_step(steps)
        for name in list(found):
            within = each_step(by_name[name], steps)
            is_recorded = epoch % every == 0
            if is_recorded and not math.isclose(within[0], known[name][epoch], rel_tol=1e-5):
                del found[name]
            else:
                found[name].extend(within)
    return {name: values for name, values in found.items() if len(set(values)) > 1}


def _feedback(space: Space, recorded: Curves, epoch: int) -> Feedback:
    metric = recorded.metric[epoch]
    terms = {name: values[epoch] for name, values in recorded.terms.items() if values[epoch:]}
    return Feedback(space.objective.to_minimize(metric), {space.objective.metric: metric}, terms)


def _trained(trial: FrozenTrial, key: str, epochs: int) -> dict[str, list[float]]:
    """Return what a trial recorded, without epochs in which its first seed did not train."""
    stored, every = trial.user_attrs.get(key, {}), trial.user_attrs.get(EVERY, 1)
    return {
        name: held[: len(stored[name]) * every] if isinstance(stored[name], list) else held
        for name, held in recorded_values(trial.user_attrs, key, epochs).items()
    }
