"""Population-based training as a sampler: new piecewise plans branch off from the best ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial

from schedsearch.samplers.parzen import NumericAxis, axis_of, sample_truncated_normal
from schedsearch.samplers.piecewise_space import (
    PiecewiseSpace,
    SegmentValues,
    to_piecewise_space,
)
from schedsearch.space import Space
from schedsearch.storage.attributes import FROM_EPOCH, PARENT, STOPPED_AFTER

#: The standard deviation of a perturbation, as a share of the range.
_PERTURBATION = 0.1

#: The values before a segment, and the Optuna parameters of the arguments.
_Parent = tuple[SegmentValues, tuple[tuple[str, Any], ...]]


class PbtSampler(BaseSampler):
    """Copies the values of a good trial up to an epoch (exploit) and changes the rest (explore).

    The first `population` plans are random constants. Each later plan branches off at the beginning
    of a random segment s >= 1 from a random parent: one of the best `truncation` of all plans so
    far, by their metric at that epoch.

    values[i] = parent's values[i]  for i < s,    the same new value  for i >= s

    The new value of each hyperparameter is resampled with probability `resample`. Otherwise it is
    values[s - 1] plus a normal step with a standard deviation of a tenth of the range (in the
    logarithm where `log`), truncated to the range, and at least one step of a stepped range. (The
    usual factors of 0.8 and 1.25 never leave 0, and revisit the same values.) Trials that are equal
    up to an epoch are one parent; otherwise the descendants of one plan would soon be all of the
    best. The constant share is part of the population if it has the range of the segments.

    The attributes `parent` (a trial number) and `from_epoch` of a trial record its origin. Reports
    of running trials are used at once, so trials need not wait for each other. Use one sampler per
    study.

    Args:
        space: the search space, see `to_piecewise_space`.
        seed: of the random numbers.

    Raises:
        InputError: the space does not have the same piecewise segments for all hyperparameters.

    Source: Jaderberg et al. 2017, Population Based Training of Neural Networks.
    """

    def __init__(self, space: Space, seed: int) -> None:
        self._space = to_piecewise_space(space)
        self._options = space.search.sampler
        self._rng = np.random.default_rng(seed)
        self._arguments = tuple(space.searched_arguments())
        self._population = Population(self._space, self._arguments)
        #: Draws the arguments of the first plans.
        self._random = RandomSampler(seed)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the values of all segments: the same set for every trial."""
        return {
            name: distribution
            for names in self._space.names
            for name, distribution in zip(names, self._space.distributions, strict=True)
        }

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Propose a plan, and record its parent in the trial."""
        self._population.update(study.get_trials(deepcopy=False), study.direction)
        plan = self._propose(study, trial)
        return {
            name: search_space[name].to_external_repr(value)
            for names, segment in zip(self._space.names, plan, strict=True)
            for name, value in zip(names, segment, strict=True)
        }

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Return the family, or an argument: that of the parent, or a random one."""
        if not is_argument(param_name, self._arguments):
            return "piecewise"
        # Proposed in `sample_relative`, with the plan.
        parent = trial.user_attrs.get(PARENT)
        if parent is None:
            parent = study._storage.get_trial(trial._trial_id).user_attrs.get(PARENT)
        kept = {} if parent is None else study.get_trials(deepcopy=False)[parent].params
        if param_name in kept:
            return kept[param_name]
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def reseed_rng(self) -> None:
        """Reseed the random generator, so that a copy of this sampler proposes other plans."""
        self._rng = np.random.default_rng()
        self._random.reseed_rng()

    def _propose(self, study: Study, trial: FrozenTrial) -> SegmentValues:
        count = len(self._space.names)
        reached = [s for s in self._space.branch_epochs if self._population.parents[s]]
        if self._population.size < self._options.population or not reached:
            return (tuple(map(self._resample, self._space.distributions)),) * count
        s = reached[self._rng.integers(len(reached))]
        best = self._population.best(s, self._options.truncation)
        prefix, parent = best[self._rng.integers(len(best))]
        # Through the storage, as in Optuna's samplers: a frozen trial has no setter.
        for key, value in ((PARENT, parent), (FROM_EPOCH, self._space.branch_epochs[s])):
            study._storage.set_trial_user_attr(trial._trial_id, key, value)
        explored = tuple(map(self._explore, self._space.distributions, prefix[-1]))
        return prefix + (explored,) * (count - s)

    def _explore(self, distribution: BaseDistribution, value: float) -> float:
        if self._rng.random() < self._options.resample:
            return self._resample(distribution)
        return perturb(self._rng, distribution, value)

    def _resample(self, distribution: BaseDistribution) -> float:
        return float(_numeric_axis(distribution).from_unit(self._rng.random(1))[0])


def perturb(rng: np.random.Generator, distribution: BaseDistribution, value: float) -> float:
    """Return another value nearby: a tenth of the range away, or one step of a stepped range."""
    numbers = _numeric_axis(distribution)
    center = np.array([value])
    left, right = numbers.cells(center)
    width = np.maximum(_PERTURBATION, right - left)
    perturbed = value
    while perturbed == value:
        position = sample_truncated_normal(rng, numbers.to_unit(center), width)
        perturbed = float(numbers.from_unit(position)[0])
    return perturbed


def _numeric_axis(distribution: BaseDistribution) -> NumericAxis:
    numbers = axis_of(distribution)
    assert isinstance(numbers, NumericAxis)
    return numbers


def is_argument(parameter: str, arguments: Sequence[str]) -> bool:
    """Return whether an Optuna parameter chooses one of the arguments, `arguments.NAME`."""
    return parameter.removesuffix(".level") in arguments or parameter in arguments


class Population:
    """The plans that were tried so far, and what they can be copied for.

    Attributes:
        parents: for each segment but the first, the distinct prefixes trained until it begins, each
            with its metric there (lower is better) and the number of the first such trial. Plans
            with other arguments are other parents.
    """

    def __init__(self, space: PiecewiseSpace, arguments: Sequence[str] = ()) -> None:
        self._space, self._arguments = space, arguments
        self._plans: set[_Parent] = set()
        self._finished: set[int] = set()
        self.parents: dict[int, dict[_Parent, tuple[float, int]]] = {
            s: {} for s in space.branch_epochs
        }

    @property
    def size(self) -> int:
        """The number of distinct plans."""
        return len(self._plans)

    def update(self, trials: Sequence[FrozenTrial], direction: StudyDirection) -> None:
        """Add what the trials of a study reported since the last update.

        A report counts whatever the trial's final state.
        """
        sign = -1.0 if direction is StudyDirection.MAXIMIZE else 1.0
        for trial in trials:
            if trial.number in self._finished:
                continue
            if trial.state.is_finished():
                self._finished.add(trial.number)
            plan = self._space.segment_values(trial.params)
            if plan is None:
                continue
            arguments = tuple(
                (name, value)
                for name, value in sorted(trial.params.items())
                if is_argument(name, self._arguments)
            )
            self._plans.add((plan, arguments))
            # Children of a trial that stopped would repeat it, so it is no parent beyond its end.
            end = trial.user_attrs.get(STOPPED_AFTER, math.inf)
            for s, epoch in self._space.branch_epochs.items():
                if epoch >= end:
                    continue
                value = trial.intermediate_values.get(epoch, math.nan)
                if math.isfinite(value):
                    parent = plan[:s], arguments
                    self.parents[s].setdefault(parent, (sign * value, trial.number))

    def best(self, s: int, share: float) -> list[tuple[SegmentValues, int]]:
        """Return the best share of the prefixes before a segment, each with its trial's number."""
        ranked = sorted(self.parents[s].items(), key=lambda parent: parent[1])
        return [
            (prefix, number)
            for (prefix, _), (_, number) in ranked[: math.ceil(share * len(ranked))]
        ]
