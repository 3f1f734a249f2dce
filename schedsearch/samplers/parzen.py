"""A multivariate Parzen estimator: a mixture of one kernel around each observation, and a prior.

A kernel is a product over the parameters: truncated normal distributions for numbers, smoothed
indicators for choices. So the mixture keeps the dependence between parameters.

Source: Bergstra et al. 2011 (the estimator); Falkner et al. 2018 (its multivariate form); Watanabe
2023 (its constants). The constants are those of optuna.samplers.TPESampler.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from schedsearch.samplers.normal import Array, log_mass

#: The minimum bandwidth is 1 / (number of kernels + 1), but not below 1 / this.
_MAX_BANDWIDTH_DIVISOR = 100


@dataclass(frozen=True)
class NumericAxis:
    """A range of numbers, mapped to [0, 1]; half a step is added at each end."""

    low: float
    high: float
    step: float | None
    log: bool

    def _ends(self) -> tuple[float, float]:
        half = (self.step or 0.0) / 2
        low, high = self.low - half, self.high + half
        return (math.log(low), math.log(high)) if self.log else (low, high)

    def to_unit(self, values: Array) -> Array:
        """Return values as positions in [0, 1]; values outside the range are clipped."""
        low, high = self._ends()
        values = np.minimum(np.maximum(values, self.low), self.high)
        # The position of the only value of a range is arbitrary.
        return ((np.log(values) if self.log else values) - low) / (high - low or 1.0)

    def from_unit(self, positions: Array) -> Array:
        """Return the values at positions in [0, 1], rounded to steps and clipped to the range."""
        low, high = self._ends()
        values = low + positions * (high - low)
        if self.log:
            values = np.exp(values)
        if self.step:
            values = self.low + np.round((values - self.low) / self.step) * self.step
        return np.minimum(np.maximum(values, self.low), self.high)

    def cells(self, values: Array) -> tuple[Array, Array]:
        """Return the ends in [0, 1] of the interval that is rounded to each value."""
        low, high = self._ends()
        half = (self.step or 0.0) / 2
        left, right = values - half, values + half
        if self.log:
            left, right = np.log(left), np.log(right)
        return (left - low) / (high - low), (right - low) / (high - low)


@dataclass(frozen=True)
class CategoricalAxis:
    """A number of unordered choices, by index."""

    count: int


Axis = NumericAxis | CategoricalAxis


def axis_of(distribution: BaseDistribution) -> Axis:
    """Return the axis of an Optuna distribution."""
    if isinstance(distribution, CategoricalDistribution):
        return CategoricalAxis(len(distribution.choices))
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = float(distribution.low), float(distribution.high)
    return NumericAxis(low, high, distribution.step, distribution.log)


@dataclass(frozen=True)
class ParzenEstimator:
    """A density of points, with a column per axis: the value of a number, the index of a choice.

    p(x) = sum_k w_k prod_j K(x_j; c_kj, b_kj)

    Args:
        axes: the axis of each column.
        weights: of the kernels, shape (kernels,), with sum 1; the last kernel is the prior.
        centres: positions in [0, 1] or indices, shape (kernels, axes).
        widths: standard deviations, in units of the range, shape (kernels, axes).
        smoothing: the weight of each choice in a kernel, before normalisation; the observed choice
            has 1 more.
    """

    axes: Sequence[Axis]
    weights: Array
    centres: Array
    widths: Array
    smoothing: float

    def sample(self, rng: np.random.Generator, size: int) -> Array:
        """Return random points, shape (size, axes)."""
        cumulative = np.cumsum(self.weights)
        kernels = np.searchsorted(cumulative, rng.random(size) * cumulative[-1], side="right")
        points = np.empty((size, len(self.axes)))
        for j, column in enumerate(self.axes):
            if isinstance(column, CategoricalAxis):
                points[:, j] = self._sample_choices(rng, kernels, j, column.count)
            else:
                centres, widths = self.centres[kernels, j], self.widths[kernels, j]
                points[:, j] = column.from_unit(sample_truncated_normal(rng, centres, widths))
        return points

    def _sample_choices(
        self, rng: np.random.Generator, kernels: npt.NDArray[np.intp], j: int, count: int
    ) -> Array:
        any_choice = rng.integers(count, size=len(kernels))
        evenly = count * self.smoothing / (1 + count * self.smoothing)
        prior = kernels == len(self.weights) - 1
        smoothed = prior | (rng.random(len(kernels)) < evenly)
        return np.where(smoothed, any_choice, self.centres[kernels, j])

    def log_density(self, points: Array) -> Array:
        """Return log p, shape (points,), at points of shape (points, axes).

        The density is per unit range of each axis; stepped axes have probabilities instead.
        """
        smooth = [j for j, a in enumerate(self.axes) if isinstance(a, NumericAxis) and not a.step]
        total = np.log(self.weights) - self._log_normalizers()
        logs = self._log_normal(points, smooth) + total if smooth else total
        for j, column in enumerate(self.axes):
            if isinstance(column, CategoricalAxis):
                logs = logs + self._log_choice(points[:, j], j, column.count)
            elif column.step:
                logs = logs + self._log_cells(points[:, j], j, column)
        top = logs.max(axis=1)
        return np.asarray(np.log(np.exp(logs - top[:, None]).sum(axis=1)) + top)

    def _log_normalizers(self) -> Array:
        """Return the logarithm of each kernel's probability within all numeric ranges."""
        numbers = [j for j, column in enumerate(self.axes) if isinstance(column, NumericAxis)]
        centres, widths = self.centres[:, numbers], self.widths[:, numbers]
        return np.asarray(log_mass(-centres / widths, (1 - centres) / widths).sum(axis=1))

    def _log_normal(self, points: Array, columns: list[int]) -> Array:
        """Return the logarithms of untruncated normal densities, shape (points, kernels)."""
        ranges = [a for a in self.axes if isinstance(a, NumericAxis) and not a.step]
        x = np.stack([r.to_unit(points[:, j]) for r, j in zip(ranges, columns, strict=True)], 1)
        c, b = self.centres[:, columns], self.widths[:, columns]
        # ((x - c) / b)² expanded, so that sums over the axes become matrix products.
        precision = b**-2.0
        square = (x**2) @ precision.T - (2 * x) @ (c * precision).T + (c**2 * precision).sum(axis=1)
        norms = np.log(b * math.sqrt(2 * math.pi)).sum(axis=1)
        return np.asarray(-square / 2 - norms)

    def _log_cells(self, values: Array, j: int, column: NumericAxis) -> Array:
        """Return the logarithms of the probabilities of stepped values under normal kernels."""
        distinct, inverse = np.unique(values, return_inverse=True)
        low, high = (ends[:, None] for ends in column.cells(distinct))
        c, b = self.centres[:, j], self.widths[:, j]
        logs: Array = log_mass((low - c) / b, (high - c) / b)[inverse]
        return logs

    def _log_choice(self, chosen: Array, j: int, count: int) -> Array:
        """Return the logarithms of the probabilities of choices under each kernel."""
        total = 1 + count * self.smoothing
        hit, miss = math.log((1 + self.smoothing) / total), math.log(self.smoothing / total)
        logs: Array = np.where(chosen[:, None] == self.centres[:, j], hit, miss)
        logs[:, -1] = -math.log(count)
        return logs


def fit_parzen(axes: Sequence[Axis], observations: Array, weights: Array) -> ParzenEstimator:
    """Return the estimator of observations, shape (n, axes), with weights of shape (n,).

    The prior has weight 1: on a range, a normal kernel around its middle with the range as its
    standard deviation; on choices, the uniform distribution.
    """
    n = len(observations)
    centres = np.full((n + 1, len(axes)), 0.5)
    for j, column in enumerate(axes):
        values = observations[:, j]
        centres[:n, j] = column.to_unit(values) if isinstance(column, NumericAxis) else values
    widths = np.ones_like(centres)
    widths[:n] = bandwidths(centres[:n])
    mixture = np.append(weights, 1.0)
    return ParzenEstimator(axes, mixture / mixture.sum(), centres, widths, smoothing=1 / (n + 1))


def bandwidths(positions: Array) -> Array:
    """Return the bandwidths of kernels at positions in [0, 1], shape (n, columns), by column.

    The bandwidth is the distance to the farther of the two neighbours, at least
    1 / min(100, n + 2). The ends of the range are neighbours only of a single position.

    >>> bandwidths(np.array([[0.1], [0.8], [0.2]])).ravel().round(3).tolist()
    [0.2, 0.6, 0.6]
    """
    n = len(positions)
    if n == 0:
        return positions
    order = np.argsort(positions, axis=0)
    ends = np.zeros((1, positions.shape[1]))
    gaps = np.diff(np.take_along_axis(positions, order, 0), axis=0, prepend=ends, append=ends + 1)
    farther = np.maximum(gaps[:-1], gaps[1:])
    if n > 1:
        farther[0], farther[-1] = gaps[1], gaps[-2]
    widths = np.empty_like(positions)
    np.put_along_axis(widths, order, farther, 0)
    return np.clip(widths, 1 / min(_MAX_BANDWIDTH_DIVISOR, n + 2), 1.0)


def sample_truncated_normal(rng: np.random.Generator, centres: Array, widths: Array) -> Array:
    """Sample normal distributions truncated to [0, 1], one for each centre in [0, 1].

    By rejection, which is exact. For widths of at most 1, at least Φ(1) - Φ(0), a third, of the
    samples are accepted.
    """
    samples = np.full(len(centres), np.nan)
    while (left := np.flatnonzero(np.isnan(samples))).size:
        tries = centres[left] + widths[left] * rng.standard_normal((8, left.size))
        accepted = (tries >= 0) & (tries <= 1)
        first = accepted.argmax(axis=0), np.arange(left.size)
        samples[left] = np.where(accepted[first], tries[first], np.nan)
    return samples
