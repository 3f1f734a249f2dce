"""The tree-structured Parzen estimator, at a cost that is small beside a fast training."""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial

from schedsearch.samplers.normal import Array
from schedsearch.samplers.observations import Observations, Rows
from schedsearch.samplers.parzen import axis_of, fit_parzen

#: The largest number of trials below the split, and the number of newest trials of full weight.
_MAX_BELOW = 25
_CANDIDATES = 24


class TreeParzenSampler(BaseSampler):
    """Proposes parameters that are likely among the best trials and unlikely among the others.

    argmax of l(x) / g(x) over 24 candidates x sampled from l

    l is the density of the best tenth of the trials (25 at most), and g that of all others. Running
    trials count for g, which keeps parallel proposals apart. Both densities are multivariate over
    the parameters that occur together, as those of one family do. The first request for a parameter
    samples its whole group, so families that are not chosen cost nothing.

    The rules are those of optuna.samplers.TPESampler(group=True, constant_liar=True), which reads
    all trials again for each proposal. Constraints are not supported.

    Args:
        seed: of the random numbers.
        startup_trials: the number of finished trials before the model is used; until then
            parameters are random.
        max_above: the largest number of finished trials in g, see `subsample`.

    Source: Bergstra et al. 2011; Watanabe 2023.
    """

    def __init__(self, seed: int, startup_trials: int = 10, max_above: int = 400) -> None:
        self._rng = np.random.default_rng(seed)
        self._random = RandomSampler(seed)
        self._startup_trials = startup_trials
        self._max_above = max_above
        # By storage and study id, since hyperband passes a new view of the study at each call.
        self._caches: weakref.WeakKeyDictionary[BaseStorage, dict[Any, _StudyCache]] = (
            weakref.WeakKeyDictionary()
        )
        self._lock = threading.Lock()

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return nothing: groups are sampled when one of their parameters is requested.

        Raises:
            ValueError: the study has several objectives.
        """
        with self._lock:
            self._cache_of(study)
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Sample given parameters jointly, from the trials that have all of them."""
        if not search_space:
            return {}
        with self._lock:
            observations = self._cache_of(study).update(study)
            ranked = np.array(observations.best_rows(), dtype=np.intp)
            ranked = ranked[observations.has_all(search_space)[ranked]]
            if len(ranked) < self._startup_trials:
                return {}
            best = ranked[: below_count(len(ranked))].tolist()
            return self._propose(observations, search_space, best)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Sample a parameter with its group, or return its value if the group was sampled."""
        with self._lock:
            cache = self._cache_of(study)
            proposed = cache.proposed.setdefault(trial.number, {})
            if param_name in proposed:
                distribution, value = proposed.pop(param_name)
                if distribution == param_distribution:
                    return value
            observations = cache.update(study)
            if observations.count >= self._startup_trials:
                group = {param_name: param_distribution}
                names = observations.parameter_group(param_name)
                for name in names - trial.params.keys() - group.keys():
                    group[name] = observations.distributions[name]
                best = observations.best_rows(below_count(observations.count))
                values = self._propose(observations, group, best)
                proposed |= {name: (group[name], value) for name, value in values.items()}
                return proposed.pop(param_name)[1]
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def reseed_rng(self) -> None:
        """Reseed the random generators, so that a copy of this sampler proposes other trials."""
        self._rng = np.random.default_rng()
        self._random.reseed_rng()

    def _cache_of(self, study: Study) -> _StudyCache:
        caches = self._caches.setdefault(study._storage, {})
        key = study._study_id, getattr(study, "_bracket_id", None)
        if key not in caches:
            if len(study.directions) > 1:
                raise ValueError(f"TreeParzenSampler needs one objective, not {study.directions}")
            caches[key] = _StudyCache(study)
        return caches[key]

    def _propose(
        self,
        observations: Observations,
        distributions: Mapping[str, BaseDistribution],
        best: Sequence[int],
    ) -> dict[str, Any]:
        """Return values of parameters that occur together, given the rows of the best trials."""
        names = sorted(distributions)
        axes = [axis_of(distributions[name]) for name in names]
        below, above = split_below_above(observations, names, best)
        likely = fit_parzen(axes, observations.values(names, below), recency_weights(len(below)))
        kept, weights = subsample(above, observations.is_running(above), self._max_above)
        unlikely = fit_parzen(axes, observations.values(names, kept), weights)
        candidates = likely.sample(self._rng, _CANDIDATES)
        acquisition = likely.log_density(candidates) - unlikely.log_density(candidates)
        proposal = candidates[np.argmax(acquisition)].tolist()
        return {
            name: distributions[name].to_external_repr(value)
            for name, value in zip(names, proposal, strict=True)
        }


class _StudyCache:
    """The observations of one study, and proposed values that were not requested yet."""

    def __init__(self, study: Study) -> None:
        self.observations = Observations(study.directions[0])
        self.proposed: dict[int, dict[str, tuple[BaseDistribution, Any]]] = {}

    def update(self, study: Study) -> Observations:
        """Read what changed in the study, and return the observations."""
        self.observations.update(study.get_trials(deepcopy=False))
        for number in [n for n in self.proposed if self.observations.has_finished(n)]:
            del self.proposed[number]
        return self.observations


def below_count(finished: int) -> int:
    """Return how many of the finished trials are below the split: a tenth, 25 at most.

    >>> [below_count(n) for n in (0, 1, 11, 1000)]
    [0, 1, 2, 25]
    """
    return min(math.ceil(0.1 * finished), _MAX_BELOW)


def split_below_above(
    observations: Observations, names: Sequence[str], best: Sequence[int]
) -> tuple[Rows, Rows]:
    """Return the rows of the best and of all other trials that have the parameters, in order."""
    has_all = observations.has_all(names)
    below = np.array(sorted(row for row in best if has_all[row]), dtype=np.intp)
    has_all[below] = False
    return below, np.flatnonzero(has_all)


def recency_weights(n: int) -> Array:
    """Return the weights of n trials, oldest first: 1 for the newest 25, less with age.

    >>> recency_weights(28).tolist()[:5]
    [0.03571428571428571, 0.5178571428571429, 1.0, 1.0, 1.0]
    """
    weights = np.ones(n)
    if n > _MAX_BELOW:
        weights[:-_MAX_BELOW] = np.linspace(1 / n, 1, n - _MAX_BELOW)
    return weights


def subsample(rows: Rows, running: npt.NDArray[np.bool_], limit: int) -> tuple[Rows, Array]:
    """Return a sample of rows, oldest first, with weights that add up to those of all rows.

    Of more than `limit` rows, it keeps the running trials and the newest `limit // 2`. As many of
    the rest, evenly spaced, are kept with the weight of all the rest.

    >>> subsample(np.arange(100), np.arange(100) == 7, 8)[0].tolist()
    [0, 7, 32, 64, 95, 96, 97, 98, 99]
    """
    weights = recency_weights(len(rows))
    if len(rows) <= limit:
        return rows, weights
    kept = running | (np.arange(len(rows)) >= len(rows) - limit // 2)
    rest = np.flatnonzero(~kept)
    sampled = rest[np.linspace(0, len(rest) - 1, min(limit // 2, len(rest))).round().astype(int)]
    weights[sampled] *= weights[rest].sum() / weights[sampled].sum()
    kept[sampled] = True
    return rows[kept], weights[kept]
