"""The base class of samplers that give a trial its parameters one by one."""

from __future__ import annotations

from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial


class IndependentSampler(BaseSampler):
    """A sampler whose `sample_independent` returns each parameter, and which samples none jointly.

    Optuna asks it for each parameter when the trial suggests it, so the parameters of a trial may
    depend on the families that were chosen before.
    """

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return nothing."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return nothing."""
        return {}
