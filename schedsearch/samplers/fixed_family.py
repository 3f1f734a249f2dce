"""Samplers for one fixed set of parameters: those of one family for each hyperparameter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from schedsearch.errors import InputError
from schedsearch.samplers.delegating import DelegatingSampler
from schedsearch.samplers.distributions import DistributionCollector
from schedsearch.space import Space


def schedule_families(space: Space) -> dict[str, str]:
    """Return the only family besides `constant` of each hyperparameter, by Optuna parameter.

    Raises:
        InputError: a hyperparameter has several such families, so trials differ in parameters.
    """
    families: dict[str, str] = {}
    for name, searched in space.searched().items():
        schedules = [family for family in searched.options if family != "constant"]
        if len(schedules) > 1:
            raise InputError(
                "the samplers gp, cmaes and qmc need one family besides `constant` for each "
                f"hyperparameter, but {name} has {', '.join(schedules)}: keep one of them, or use "
                "tpe, random or grid"
            )
        if schedules and len(searched.options) > 1:
            families[f"{name}.family"] = schedules[0]
    return families


class FixedFamilySampler(DelegatingSampler):
    """Samples the parameters of one fixed family for each hyperparameter jointly.

    Args:
        sampler: samples the parameters.
        space: the search space.
        families: the family, by the name of the parameter that chooses it.
        seed: for parameters that the sampler leaves to independent random sampling.
    """

    def __init__(
        self, sampler: BaseSampler, space: Space, families: Mapping[str, str], seed: int
    ) -> None:
        self._random = optuna.samplers.RandomSampler(seed)
        super().__init__(sampler, self._random)
        self._families = families
        collector = DistributionCollector(families)
        space.suggest_tables(collector)
        self._distributions = collector.distributions

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the parameters of the fixed families: the same set for every trial."""
        return self._distributions

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Return the fixed family, or a random value if the parameter was not sampled jointly."""
        if param_name in self._families:
            return self._families[param_name]
        return self._random.sample_independent(study, trial, param_name, param_distribution)


class CompleteCaseSampler(DelegatingSampler):
    """Gives a sampler only the complete trials that have every parameter it models.

    Schedules and constants have different parameters, and Optuna's GPSampler fails if a trial
    lacks a parameter.
    """

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Sample jointly on a copy of the study that has only these trials."""
        view = optuna.create_study(direction=study.direction, sampler=self._sampler_of(trial))
        for other in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            if search_space.keys() <= other.params.keys():
                view.add_trial(other)
        return dict(view.ask(search_space).params)
