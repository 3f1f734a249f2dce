"""Sampling over one fixed set of parameters: that of one family for each hyperparameter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from schedsearch.errors import InputError
from schedsearch.space import Space
from schedsearch.storage.pruned_view import as_pruned


class DistributionCollector:
    """Records the distributions that a walk through a space asks for, choosing given families."""

    def __init__(self, families: Mapping[str, str]) -> None:
        self._families = families
        self.distributions: dict[str, BaseDistribution] = {}

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        self.distributions[name] = FloatDistribution(low, high, step=step, log=log)
        return low

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        self.distributions[name] = IntDistribution(low, high, step=step, log=log)
        return low

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        if name in self._families:
            return self._families[name]
        self.distributions[name] = CategoricalDistribution(choices)
        return choices[0]


def moving_families(space: Space) -> dict[str, str]:
    """Return the one non-constant family of each searched hyperparameter that has a choice.

    Raises:
        InputError: a hyperparameter has several, so that its trials do not share parameters.
    """
    chosen: dict[str, str] = {}
    for name, families in space.searched().items():
        moving = [family for family in families.options if family != "constant"]
        if len(moving) > 1:
            raise InputError(
                "the samplers gp, cmaes and qmc model one fixed set of parameters, so they need "
                f"one non-constant family for each hyperparameter, but {name} has "
                f"{', '.join(moving)}: keep one of them, or use tpe, random or grid"
            )
        if moving and len(families.options) > 1:
            chosen[f"{name}.family"] = moving[0]
    return chosen


class OneFamilySampler(BaseSampler):
    """Draws the parameters of one given family for each hyperparameter, all jointly.

    Args:
        inner: the sampler that draws them.
        space: what is searched.
        families: the family, by the name of the parameter that chooses it.
        seed: of what the inner sampler leaves to be drawn at random.
    """

    def __init__(
        self, inner: BaseSampler, space: Space, families: Mapping[str, str], seed: int
    ) -> None:
        self._inner = inner
        self._families = families
        collector = DistributionCollector(families)
        space.draw(collector)
        self._distributions = collector.distributions
        self._random = optuna.samplers.RandomSampler(seed)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the parameters of the given families: the same set for every trial."""
        return self._distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Ask the inner sampler."""
        if not search_space:
            return {}
        return self._inner.sample_relative(as_pruned(study), trial, search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Choose the given family, and draw at random what was not drawn jointly."""
        if param_name in self._families:
            return self._families[param_name]
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def reseed_rng(self) -> None:
        """Pass on."""
        self._inner.reseed_rng()
        self._random.reseed_rng()


class ComparableTrialsSampler(BaseSampler):
    """Shows a sampler only the complete trials that have every parameter it models.

    Schedules lack the parameters of constants, and constants those of schedules. Optuna's gp fails
    on a trial that lacks one.
    """

    def __init__(self, inner: BaseSampler) -> None:
        self._inner = inner

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Pass on."""
        return self._inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Ask the inner sampler on a copy of the study that holds the comparable trials."""
        view = optuna.create_study(direction=study.direction, sampler=self._inner)
        for other in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            if search_space.keys() <= other.params.keys():
                view.add_trial(other)
        return dict(view.ask(search_space).params)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Pass on."""
        return self._inner.sample_independent(study, trial, param_name, param_distribution)
