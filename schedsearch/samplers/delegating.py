"""A base class for samplers that change part of another sampler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState


class DelegatingSampler(BaseSampler):
    """Forwards each call to the sampler of the trial.

    Args:
        samplers: the samplers that may be used; the first is the default.
    """

    def __init__(self, *samplers: BaseSampler) -> None:
        self._samplers = samplers

    def _sampler_of(self, trial: FrozenTrial) -> BaseSampler:
        return self._samplers[0]

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the joint search space of the trial's sampler."""
        return self._sampler_of(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Sample jointly with the trial's sampler."""
        return self._sampler_of(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Sample one parameter with the trial's sampler."""
        sampler = self._sampler_of(trial)
        return sampler.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Notify the trial's sampler."""
        self._sampler_of(trial).before_trial(study, trial)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Notify the trial's sampler."""
        self._sampler_of(trial).after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        """Reseed all samplers."""
        for sampler in self._samplers:
            sampler.reseed_rng()
