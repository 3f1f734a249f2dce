"""Population-based training as a sampler: piecewise plans that branch off from good ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial

from schedsearch.samplers.parzen import Numbers, axis, sample_within_unit
from schedsearch.samplers.segments import Course, Segments, segments_of
from schedsearch.space import Space
from schedsearch.storage import FROM_EPOCH, PARENT
from schedsearch.storage.pruned_view import as_pruned

#: The standard deviation of a perturbation, as a share of the range.
_PERTURBATION = 0.1


class PopulationSampler(BaseSampler):
    """Copies a good trial's values up to an epoch, and goes on from there with other ones.

    While there are fewer than `population` plans, constants are drawn at random: what such a plan
    has reached at some epoch says something about its values. Each later plan leaves, at the
    beginning of a segment s >= 1 chosen at random, a parent chosen at random among the best
    `truncation` of all that came so far, by their metric at that epoch:

    values[i] = parent's values[i]  for i < s,    the same new value  for i >= s

    The new value of each hyperparameter is resampled with probability `resample`, or else
    values[s - 1] moved by a normal step of a tenth of the range, in the logarithm where `log`, cut
    off at the ends; where there are steps or levels, by one at least. (The usual factors of 0.8 and
    1.25 alone would never leave 0, and repeat themselves.) Trials that were alike until then are
    one parent, or one plan's descendants would soon be all of the best. The stratum of constants
    takes part, where it has the ranges of the segments.

    A trial says from where it branched off by its attributes `parent`, a trial's number, and
    `from_epoch`. What was reported is used at once, so trials need not wait for each other. A
    sampler serves one study.

    Args:
        space: what is searched, see `segments_of`.
        seed: of all draws.

    Raises:
        InputError: the space has other families than piecewise ones of the same segments.

    Source: Jaderberg et al. 2017, Population Based Training of Neural Networks.
    """

    def __init__(self, space: Space, seed: int) -> None:
        self._segments = segments_of(space)
        self._options = space.search.sampler
        self._rng = np.random.default_rng(seed)
        self._tree = Tree(self._segments)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the values of all segments: the same set for every trial."""
        return {
            name: distribution
            for names in self._segments.names
            for name, distribution in zip(names, self._segments.distributions, strict=True)
        }

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Propose a plan, and note in the trial where it comes from."""
        self._tree.update(as_pruned(study).get_trials(deepcopy=False), study.direction)
        course = self._proposal(study, trial)
        return {
            name: search_space[name].to_external_repr(value)
            for names, segment in zip(self._segments.names, course, strict=True)
            for name, value in zip(names, segment, strict=True)
        }

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Choose the family: nothing else is left to be drawn."""
        return "piecewise"

    def reseed_rng(self) -> None:
        """Draw from another sequence than the sampler that this one is a copy of."""
        self._rng = np.random.default_rng()

    def _proposal(self, study: Study, trial: FrozenTrial) -> Course:
        count = len(self._segments.names)
        reached = [s for s in self._segments.branches if self._tree.parents[s]]
        if self._tree.plans < self._options.population or not reached:
            return (tuple(map(self._resampled, self._segments.distributions)),) * count
        s = reached[self._rng.integers(len(reached))]
        best = self._tree.best(s, self._options.truncation)
        prefix, parent = best[self._rng.integers(len(best))]
        # Optuna's own samplers write attributes this way too: a frozen trial cannot.
        for key, value in ((PARENT, parent), (FROM_EPOCH, self._segments.branches[s])):
            study._storage.set_trial_user_attr(trial._trial_id, key, value)
        changed = tuple(map(self._changed, self._segments.distributions, prefix[-1]))
        return prefix + (changed,) * (count - s)

    def _changed(self, distribution: BaseDistribution, value: float) -> float:
        if self._rng.random() < self._options.resample:
            return self._resampled(distribution)
        return perturbed(self._rng, distribution, value)

    def _resampled(self, distribution: BaseDistribution) -> float:
        return float(_numbers(distribution).from_unit(self._rng.random(1))[0])


def perturbed(rng: np.random.Generator, distribution: BaseDistribution, value: float) -> float:
    """Return another value of a range, a tenth of it away or, where there are steps, one step."""
    numbers = _numbers(distribution)
    at = np.array([value])
    left, right = numbers.cells(at)
    width = np.maximum(_PERTURBATION, right - left)
    drawn = value
    while drawn == value:
        drawn = float(numbers.from_unit(sample_within_unit(rng, numbers.to_unit(at), width))[0])
    return drawn


def _numbers(distribution: BaseDistribution) -> Numbers:
    numbers = axis(distribution)
    assert isinstance(numbers, Numbers)
    return numbers


class Tree:
    """The plans that were tried, as a tree: where they were alike, they are one.

    Attributes:
        parents: for each segment, what was trained until it begins, in which trial first, and the
            metric it had there, lower being better.
    """

    def __init__(self, segments: Segments) -> None:
        self._segments = segments
        self._courses: set[Course] = set()
        self._ended: set[int] = set()
        self.parents: dict[int, dict[Course, tuple[float, int]]] = {
            s: {} for s in segments.branches
        }

    @property
    def plans(self) -> int:
        """The number of distinct plans."""
        return len(self._courses)

    def update(self, trials: Sequence[FrozenTrial], direction: StudyDirection) -> None:
        """Take in what the trials of a study reported since the last time.

        What a trial reported is true whatever became of it.
        """
        sign = -1.0 if direction is StudyDirection.MAXIMIZE else 1.0
        for trial in trials:
            if trial.number in self._ended:
                continue
            if trial.state.is_finished():
                self._ended.add(trial.number)
            course = self._segments.course(trial.params)
            if course is None:
                continue
            self._courses.add(course)
            for s, epoch in self._segments.branches.items():
                value = trial.intermediate_values.get(epoch, math.nan)
                if math.isfinite(value):
                    self.parents[s].setdefault(course[:s], (sign * value, trial.number))

    def best(self, s: int, share: float) -> list[tuple[Course, int]]:
        """Return the best share of what was trained until a segment, with the trial of each."""
        ranked = sorted(self.parents[s].items(), key=lambda parent: parent[1])
        return [
            (prefix, number) for prefix, (_, number) in ranked[: math.ceil(share * len(ranked))]
        ]
