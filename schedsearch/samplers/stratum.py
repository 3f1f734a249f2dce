"""The stratum of constants: a share of the trials, spread over the study, tries constants only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from schedsearch.plan import Plan
from schedsearch.schedules import Constant
from schedsearch.space import Space


def is_chosen(draw: int, share: float) -> bool:
    """Tell whether a share of all draws, spread evenly, holds this one.

    >>> [draw for draw in range(20) if is_chosen(draw, 0.15)]
    [6, 13, 19]
    """
    return math.floor((draw + 1) * share) > math.floor(draw * share)


def in_stratum(trial: FrozenTrial, share: float) -> bool:
    """Tell whether a trial tries constants only; its `draw` counts the study's draws from 0."""
    return is_chosen(trial.user_attrs["draw"], share)


def is_trained_in_full(space: Space, draw: int, plan: Plan) -> bool:
    """Tell whether a draw belongs to the constants that a search compares its schedules with.

    They are those of the stratum; a grid has none, so there they are the constants of the grid.
    """
    options = space.search.sampler
    if options.name == "grid":
        return all(isinstance(schedule, Constant) for schedule in plan.schedules.values())
    return is_chosen(draw, options.constants)


class ConstantStratum(BaseSampler):
    """Lets a sampler draw everything but the families of the stratum's trials.

    Args:
        inner: the sampler that draws the rest.
        family_choices: the names of the parameters that choose a hyperparameter's family.
        share: the share of the study's trials whose families are all `constant`.
    """

    def __init__(self, inner: BaseSampler, family_choices: frozenset[str], share: float) -> None:
        self._inner = inner
        self._family_choices = family_choices
        self._share = share

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return what the inner sampler draws jointly."""
        return self._inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw jointly, without the families where the stratum says them."""
        drawn = self._inner.sample_relative(study, trial, search_space)
        if not in_stratum(trial, self._share):
            return drawn
        return {name: value for name, value in drawn.items() if name not in self._family_choices}

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Draw one parameter; a family is `constant` in the stratum."""
        if param_name in self._family_choices and in_stratum(trial, self._share):
            return "constant"
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Pass on."""
        self._inner.before_trial(study, trial)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Pass on."""
        self._inner.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        """Pass on."""
        self._inner.reseed_rng()
