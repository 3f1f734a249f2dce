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
from schedsearch.space import Space


def is_chosen(draw: int, share: float) -> bool:
    """Tell whether a share of all draws, spread evenly, holds this one.

    >>> [draw for draw in range(20) if is_chosen(draw, 0.15)]
    [6, 13, 19]
    """
    return math.floor((draw + 1) * share) > math.floor(draw * share)


def is_trained_in_full(space: Space, draw: int, plan: Plan) -> bool:
    """Tell whether a draw belongs to the constants that a search compares its schedules with.

    They are those of the stratum; a grid has none, so there they are the constants of the grid.
    """
    options = space.search.sampler
    if options.name == "grid":
        return space.holds_constant(plan.to_tables())
    return is_chosen(draw, options.constants)


def is_audited(space: Space, draw: int) -> bool:
    """Tell whether a draw is among those that the pruner is audited by.

    They are a share of the draws that compete, so of those that are not the stratum's.
    """
    sampler, pruner = space.search.sampler, space.search.pruner
    in_stratum = 0 if sampler.name == "grid" else math.floor(draw * sampler.constants)
    return pruner.name != "none" and is_chosen(draw - in_stratum, pruner.audit)


class ConstantShareSampler(BaseSampler):
    """Gives the stratum of constants a sampler of its own.

    The best constants are to be found in their own right: a learning rate that suits a schedule
    need not suit them.

    Args:
        schedules: draws the trials of the competition.
        constants: draws the trials of the stratum.
        share: the stratum's share of the study's draws.
    """

    def __init__(self, schedules: BaseSampler, constants: BaseSampler, share: float) -> None:
        self._schedules, self._constants, self._share = schedules, constants, share

    def _of(self, trial: FrozenTrial) -> BaseSampler:
        draw = trial.user_attrs.get("draw")
        in_stratum = draw is not None and is_chosen(draw, self._share)
        return self._constants if in_stratum else self._schedules

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Ask the trial's sampler."""
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Ask the trial's sampler."""
        return self._of(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Ask the trial's sampler."""
        return self._of(trial).sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Pass on."""
        self._of(trial).before_trial(study, trial)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Pass on."""
        self._of(trial).after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        """Pass on."""
        self._schedules.reseed_rng()
        self._constants.reseed_rng()
