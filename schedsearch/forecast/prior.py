"""The results of earlier studies as a prior, which fades with the trials of a study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from schedsearch.forecast.forecast import PlanForecast
from schedsearch.forecast.gaussian_process import Array
from schedsearch.storage import EarlierStudy

#: Plans that an earlier study needs to tell anything.
MIN_PLANS = 5
#: Trials of a study that tell whether an earlier one contradicts it; fewer do not count.
_MIN_TRIALS = 3
#: The correlation that is expected between two studies, and how many trials this counts as.
_EXPECTED, _EXPECTED_TRIALS = 0.5, 5
#: After so many trials of a study, the weight of the earlier ones is half.
_HALF_LIFE = 30


@dataclass(frozen=True)
class _EarlierForecast:
    """The forecast of one earlier study: a score of each path, lower is better.

    Attributes:
        columns: the hyperparameters of a path that both studies search.
        forecast: predicts normal scores: values of an earlier study at its ranks.
    """

    columns: list[int]
    forecast: PlanForecast

    @classmethod
    def of(cls, study: EarlierStudy, names: Sequence[str]) -> _EarlierForecast:
        order = [study.names.index(name) for name in names if name in study.names]
        paths = np.array(study.paths)[..., order]
        columns = [i for i, name in enumerate(names) if name in study.names]
        return cls(columns, PlanForecast.fit(paths, ndtri(np.array(study.ranks))))

    def scores(self, paths: Array) -> Array:
        return self.forecast.optimistic(paths[..., self.columns], 0.0)

    def optimistic(self, paths: Array, trained: Array) -> Array:
        """Return lower bounds of the scores, as if some paths had the scores that are forecast."""
        forecast = self.forecast
        if len(trained):
            forecast = forecast.assuming(trained[..., self.columns])
        return forecast.optimistic(paths[..., self.columns])


@dataclass(frozen=True)
class EarlierTrend:
    """The weighted sum of the scores of earlier studies.

    Attributes:
        studies: the forecasts of the earlier studies.
        weights: of their scores, in units of the objective's scale.
    """

    studies: tuple[_EarlierForecast, ...]
    weights: tuple[float, ...]

    def __call__(self, paths: Array) -> Array:
        """Return an offset for each path."""
        total = np.zeros(len(paths))
        for study, weight in zip(self.studies, self.weights, strict=True):
            if weight > 0:
                total += weight * study.scores(paths)
        return total


class EarlierResults:
    """The results of earlier studies.

    Within each earlier study only the ranks of its plans count, as normal scores z, so its scale
    does not matter. Of n trials of this study, an earlier one has the weight

        w = max(0, (5 * 0.5 + n r) / (5 + n)) * 30 / (30 + n) / (number of earlier studies)

    where r is the correlation between what it expects of these trials and their own normal scores.
    So it fades with the trials of this study, and sooner if they contradict it: after 5 trials if r
    is -1/2. Fewer than 3 trials do not count.

    Args:
        earlier: what a study records of them.
        names: the hyperparameters of a path, in its order.
    """

    def __init__(self, earlier: Sequence[EarlierStudy], names: Sequence[str]) -> None:
        known = [study for study in earlier if len(study.ranks) >= MIN_PLANS]
        shared = [study for study in known if set(study.names) & set(names)]
        self._studies = tuple(_EarlierForecast.of(study, names) for study in shared)

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return bool(self._studies)

    def trend(self, paths: Array, targets: Array) -> EarlierTrend:
        """Return what is expected, on the scale of the targets.

        Args:
            paths: of the plans that this study has trained, shape (plans, times, names).
            targets: their values; lower is better.
        """
        scale = float(targets.std()) if len(targets) else 0.0
        weights = self._weights(paths, targets)
        return EarlierTrend(self._studies, tuple(scale * weight for weight in weights))

    def may_propose(self, paths: Array, targets: Array) -> bool:
        """Return whether 3 results or more are known, and do not contradict all of them."""
        return len(targets) >= _MIN_TRIALS and any(self._weights(paths, targets))

    def optimistic(self, candidates: Array, begun: Array, targets: Array) -> Array:
        """Return lower bounds of the scores of paths, for a study without a forecast of its plans.

        Args:
            candidates: the paths.
            begun: the paths of all plans that this study has begun, the finished ones first.
            targets: the values of those that have finished.
        """
        weights = self._weights(begun[: len(targets)], targets)
        bounds: Array = np.zeros(len(candidates))
        for study, weight in zip(self._studies, weights, strict=True):
            if weight > 0:
                bounds += weight * study.optimistic(candidates, begun)
        return bounds

    def _weights(self, paths: Array, targets: Array) -> list[float]:
        count, own = len(targets), normal_scores(targets)
        fade = _HALF_LIFE / (_HALF_LIFE + count) / len(self._studies)
        weights = []
        for study in self._studies:
            seen = count if count >= _MIN_TRIALS else 0
            agreement = _correlation(study.scores(paths), own) if seen else 0.0
            shrunk = (_EXPECTED_TRIALS * _EXPECTED + seen * agreement) / (_EXPECTED_TRIALS + seen)
            weights.append(max(0.0, shrunk) * fade)
        return weights


def ranks_of(values: Array) -> Array:
    """Return for each value the share of values that are smaller, in (0, 1).

    (i + 1/2) / n for the i-th smallest of n values, from 0; equal values have their mean.

    >>> ranks_of(np.array([3.0, 1.0, 2.0, 2.0])).tolist()
    [0.875, 0.125, 0.5, 0.5]
    """
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    shares: Array = ((np.cumsum(counts) - counts / 2) / len(values))[places]
    return shares


def normal_scores(values: Array) -> Array:
    """Return the quantiles of the normal distribution at the ranks of values."""
    scores: Array = ndtri(ranks_of(values)) if len(values) else np.zeros(0)
    return scores


def _correlation(x: Array, y: Array) -> float:
    """Return Pearson's correlation; 0 if either does not vary."""
    x, y = x - x.mean(), y - y.mean()
    norm = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float((x * y).sum() / norm) if norm > 1e-12 else 0.0
