"""The tree-structured Parzen estimator, at a cost that a fast training does not notice."""

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
from schedsearch.samplers.parzen import axis, fit

#: How many trials count as good at most, and how many of the newest weigh the same.
_MOST_GOOD = 25
_CANDIDATES = 24


class TreeParzenSampler(BaseSampler):
    """Proposes what is likely among the good trials and unlikely among the others.

    argmax of l(x) / g(x) over 24 draws x from l

    l is the density of the best tenth of the trials, 25 at most, and g that of all others, running
    ones included, so that trials in flight keep each other apart. Both are multivariate over the
    parameters that occur together, as those of one family do. A group of them is drawn when its
    first is asked for, so that families not chosen cost nothing.

    The rules are those of optuna.samplers.TPESampler(group=True, constant_liar=True), which reads
    all trials again for each proposal. Constraints are not read.

    Args:
        seed: of all draws.
        startup_trials: how many trials must have finished before the first proposal; until then
            parameters are drawn at random.
        history: of how many trials g is made at most, beside running ones: see `thinned`.

    Source: Bergstra et al. 2011; Watanabe 2023.
    """

    def __init__(self, seed: int, startup_trials: int = 10, history: int = 400) -> None:
        self._rng = np.random.default_rng(seed)
        self._random = RandomSampler(seed)
        self._startup_trials = startup_trials
        self._most = history
        # Under hyperband a proposal is asked for on a view of the study, made anew each time.
        self._memories: weakref.WeakKeyDictionary[BaseStorage, dict[Any, _Memory]] = (
            weakref.WeakKeyDictionary()
        )
        self._lock = threading.Lock()

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return nothing: which groups are needed shows as the parameters are asked for.

        Raises:
            ValueError: the study has several objectives.
        """
        with self._lock:
            self._memory(study)
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw given parameters jointly, learning from the trials alone that have them all."""
        wanted = {name: d for name, d in search_space.items() if not d.single()}
        if not wanted:
            return {}
        with self._lock:
            history = self._memory(study).updated(study)
            ranked = np.array(history.ranked(), dtype=np.intp)
            ranked = ranked[history.holding(wanted)[ranked]]
            if len(ranked) < self._startup_trials:
                return {}
            return self._propose(history, wanted, ranked[: good(len(ranked))].tolist())

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Draw a parameter with its group, or return what was drawn with the group's first."""
        with self._lock:
            memory = self._memory(study)
            drawn = memory.drawn.setdefault(trial.number, {})
            if param_name in drawn:
                distribution, value = drawn.pop(param_name)
                if distribution == param_distribution:
                    return value
            history = memory.updated(study)
            if history.finished >= self._startup_trials:
                wanted = {param_name: param_distribution}
                for name in history.group(param_name) - trial.params.keys() - wanted.keys():
                    wanted[name] = history.distributions[name]
                best = history.ranked(good(history.finished))
                values = self._propose(history, wanted, best)
                drawn |= {name: (wanted[name], value) for name, value in values.items()}
                return drawn.pop(param_name)[1]
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def reseed_rng(self) -> None:
        """Draw from another sequence than the sampler that this one is a copy of."""
        self._rng = np.random.default_rng()
        self._random.reseed_rng()

    def _memory(self, study: Study) -> _Memory:
        memories = self._memories.setdefault(study._storage, {})
        key = study._study_id, getattr(study, "_bracket_id", None)
        if key not in memories:
            if len(study.directions) > 1:
                raise ValueError(f"TreeParzenSampler needs one objective, not {study.directions}")
            memories[key] = _Memory(study)
        return memories[key]

    def _propose(
        self, history: Observations, wanted: Mapping[str, BaseDistribution], best: Sequence[int]
    ) -> dict[str, Any]:
        """Return values of the wanted parameters, given the rows of the best trials."""
        names = sorted(wanted)
        axes = [axis(wanted[name]) for name in names]
        below, above = sides(history, names, best)
        likely = fit(axes, history.values(names, below), recency_weights(len(below)))
        kept, weights = thinned(above, history.is_running(above), self._most)
        unlikely = fit(axes, history.values(names, kept), weights)
        candidates = likely.sample(self._rng, _CANDIDATES)
        ratios = likely.log_density(candidates) - unlikely.log_density(candidates)
        chosen = candidates[np.argmax(ratios)].tolist()
        return {
            name: wanted[name].to_external_repr(value)
            for name, value in zip(names, chosen, strict=True)
        }


class _Memory:
    """What is remembered of one study: its trials, and what was drawn and not yet asked for."""

    def __init__(self, study: Study) -> None:
        self.history = Observations(study.directions[0])
        self.drawn: dict[int, dict[str, tuple[BaseDistribution, Any]]] = {}

    def updated(self, study: Study) -> Observations:
        """Return the history with what happened since."""
        self.history.update(study.get_trials(deepcopy=False))
        for number in [n for n in self.drawn if self.history.has_ended(n)]:
            del self.drawn[number]
        return self.history


def good(finished: int) -> int:
    """Return how many of the finished trials count as good.

    >>> [good(n) for n in (0, 1, 11, 1000)]
    [0, 1, 2, 25]
    """
    return min(math.ceil(0.1 * finished), _MOST_GOOD)


def sides(history: Observations, names: Sequence[str], best: Sequence[int]) -> tuple[Rows, Rows]:
    """Return the rows of the best and of all other trials that have the parameters, in order."""
    held = history.holding(names)
    below = np.array(sorted(row for row in best if held[row]), dtype=np.intp)
    held[below] = False
    return below, np.flatnonzero(held)


def recency_weights(n: int) -> Array:
    """Return the weights of n trials by age: 1 for the newest 25, and the older the less.

    >>> recency_weights(28).tolist()[:5]
    [0.03571428571428571, 0.5178571428571429, 1.0, 1.0, 1.0]
    """
    weights = np.ones(n)
    if n > _MOST_GOOD:
        weights[:-_MOST_GOOD] = np.linspace(1 / n, 1, n - _MOST_GOOD)
    return weights


def thinned(rows: Rows, running: npt.NDArray[np.bool_], most: int) -> tuple[Rows, Array]:
    """Return the rows, oldest first, that stand for all, and their weights.

    Where there are more than `most`, running trials and the newest half of `most` stay, and as many
    of the rest, evenly spaced, carry the weight of all the rest.

    >>> thinned(np.arange(100), np.arange(100) == 7, 8)[0].tolist()
    [0, 7, 32, 64, 95, 96, 97, 98, 99]
    """
    weights = recency_weights(len(rows))
    if len(rows) <= most:
        return rows, weights
    stays = running | (np.arange(len(rows)) >= len(rows) - most // 2)
    rest = np.flatnonzero(~stays)
    chosen = rest[np.linspace(0, len(rest) - 1, min(most // 2, len(rest))).round().astype(int)]
    weights[chosen] *= weights[rest].sum() / weights[chosen].sum()
    stays[chosen] = True
    return rows[stays], weights[stays]
