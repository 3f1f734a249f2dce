"""A multivariate Parzen estimator: a mixture of one kernel around each observation, and a prior.

Numbers have normal kernels, cut off at the ends of their range; choices have smoothed indicators.
A kernel is their product over the parameters, so that what goes together in the observations goes
together in the mixture.

Source: Bergstra et al. 2011 (the estimator); Falkner et al. 2018 (the multivariate one); Watanabe
2023 (each constant). The constants are those of optuna.samplers.TPESampler.
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

#: A kernel is at least as wide as the range over the kernels and one, or over this many.
_MOST_KERNELS_ABREAST = 100


@dataclass(frozen=True)
class Numbers:
    """A range of numbers, mapped to [0, 1]: in the logarithm where `log`, half a step wider."""

    low: float
    high: float
    step: float | None
    log: bool

    def _ends(self) -> tuple[float, float]:
        half = (self.step or 0.0) / 2
        low, high = self.low - half, self.high + half
        return (math.log(low), math.log(high)) if self.log else (low, high)

    def to_unit(self, values: Array) -> Array:
        """Return the places of values in [0, 1]; what lies outside the range counts at its end."""
        low, high = self._ends()
        values = np.minimum(np.maximum(values, self.low), self.high)
        # A range of one value has all its mass there, whatever the place is called.
        return ((np.log(values) if self.log else values) - low) / (high - low or 1.0)

    def from_unit(self, places: Array) -> Array:
        """Return the values at places in [0, 1], rounded to whole steps and held in the range."""
        low, high = self._ends()
        values = low + places * (high - low)
        if self.log:
            values = np.exp(values)
        if self.step:
            values = self.low + np.round((values - self.low) / self.step) * self.step
        return np.minimum(np.maximum(values, self.low), self.high)

    def cells(self, values: Array) -> tuple[Array, Array]:
        """Return the ends, in [0, 1], of what is rounded to each value."""
        low, high = self._ends()
        half = (self.step or 0.0) / 2
        left, right = values - half, values + half
        if self.log:
            left, right = np.log(left), np.log(right)
        return (left - low) / (high - low), (right - low) / (high - low)


@dataclass(frozen=True)
class Choices:
    """A number of choices without order, by index."""

    count: int


Axis = Numbers | Choices


def axis(distribution: BaseDistribution) -> Axis:
    """Return what an estimator needs to know of one of Optuna's distributions."""
    if isinstance(distribution, CategoricalDistribution):
        return Choices(len(distribution.choices))
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = float(distribution.low), float(distribution.high)
    return Numbers(low, high, distribution.step, distribution.log)


@dataclass(frozen=True)
class Parzen:
    """A density over points: one column for each axis, values of numbers and indices of choices.

    p(x) = sum_k w_k prod_j K(x_j; c_kj, b_kj)

    Args:
        axes: what each column is.
        weights: of the kernels, shape (kernels,); they add up to 1, and the last is the prior's.
        centres: places in [0, 1] and indices, shape (kernels, axes).
        widths: standard deviations, in units of the range, shape (kernels, axes).
        smoothing: what a kernel around an observed choice gives to each choice, that one included,
            before they are normalised.
    """

    axes: Sequence[Axis]
    weights: Array
    centres: Array
    widths: Array
    smoothing: float

    def sample(self, rng: np.random.Generator, size: int) -> Array:
        """Draw points, shape (size, axes)."""
        cumulative = np.cumsum(self.weights)
        drawn = np.searchsorted(cumulative, rng.random(size) * cumulative[-1], side="right")
        points = np.empty((size, len(self.axes)))
        for j, column in enumerate(self.axes):
            if isinstance(column, Choices):
                points[:, j] = self._sample_choices(rng, drawn, j, column.count)
            else:
                centres, widths = self.centres[drawn, j], self.widths[drawn, j]
                points[:, j] = column.from_unit(sample_within_unit(rng, centres, widths))
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
        """Return log p at points of shape (points, axes), per unit of the range of each axis.

        What is stepped has its probability, not a density. Shape (points,).
        """
        smooth = [j for j, a in enumerate(self.axes) if isinstance(a, Numbers) and not a.step]
        total = np.log(self.weights) - self._log_normalizers()
        logs = self._log_normal(points, smooth) + total if smooth else total
        for j, column in enumerate(self.axes):
            if isinstance(column, Choices):
                logs = logs + self._log_choice(points[:, j], j, column.count)
            elif column.step:
                logs = logs + self._log_cells(points[:, j], j, column)
        top = logs.max(axis=1)
        return np.asarray(np.log(np.exp(logs - top[:, None]).sum(axis=1)) + top)

    def _log_normalizers(self) -> Array:
        """Return the logarithm of each kernel's mass within all ranges of numbers."""
        numbers = [j for j, column in enumerate(self.axes) if isinstance(column, Numbers)]
        centres, widths = self.centres[:, numbers], self.widths[:, numbers]
        return np.asarray(log_mass(-centres / widths, (1 - centres) / widths).sum(axis=1))

    def _log_normal(self, points: Array, columns: list[int]) -> Array:
        """Return the logarithms of normal densities over the whole line, (points, kernels)."""
        ranges = [a for a in self.axes if isinstance(a, Numbers) and not a.step]
        x = np.stack([r.to_unit(points[:, j]) for r, j in zip(ranges, columns, strict=True)], 1)
        c, b = self.centres[:, columns], self.widths[:, columns]
        # ((x - c) / b)² multiplied out: sums over the axes become matrix products.
        precision = b**-2.0
        square = (x**2) @ precision.T - (2 * x) @ (c * precision).T + (c**2 * precision).sum(axis=1)
        norms = np.log(b * math.sqrt(2 * math.pi)).sum(axis=1)
        return np.asarray(-square / 2 - norms)

    def _log_cells(self, values: Array, j: int, column: Numbers) -> Array:
        """Return the logarithms of what normal kernels give to stepped values."""
        distinct, place = np.unique(values, return_inverse=True)
        low, high = (ends[:, None] for ends in column.cells(distinct))
        c, b = self.centres[:, j], self.widths[:, j]
        logs: Array = log_mass((low - c) / b, (high - c) / b)[place]
        return logs

    def _log_choice(self, chosen: Array, j: int, count: int) -> Array:
        """Return the logarithms of the probabilities that kernels give to choices."""
        whole = 1 + count * self.smoothing
        hit, miss = math.log((1 + self.smoothing) / whole), math.log(self.smoothing / whole)
        logs: Array = np.where(chosen[:, None] == self.centres[:, j], hit, miss)
        logs[:, -1] = -math.log(count)
        return logs


def fit(axes: Sequence[Axis], observations: Array, weights: Array) -> Parzen:
    """Return the estimator of observations, shape (n, axes), with weights of shape (n,).

    The prior weighs 1: over a range a normal kernel as wide as the range, around its middle, and
    over choices the same for each.
    """
    n = len(observations)
    centres = np.full((n + 1, len(axes)), 0.5)
    for j, column in enumerate(axes):
        values = observations[:, j]
        centres[:n, j] = column.to_unit(values) if isinstance(column, Numbers) else values
    widths = np.ones_like(centres)
    widths[:n] = bandwidths(centres[:n])
    weighed = np.append(weights, 1.0)
    return Parzen(axes, weighed / weighed.sum(), centres, widths, smoothing=1 / (n + 1))


def bandwidths(places: Array) -> Array:
    """Return the width of the kernel around each of some places in [0, 1], column by column.

    The distance to the farther of the two neighbours, the ends counted as such only to a place
    alone, and at least 1 / min(100, n + 2). Shapes (n, columns).

    >>> bandwidths(np.array([[0.1], [0.8], [0.2]])).ravel().round(3).tolist()
    [0.2, 0.6, 0.6]
    """
    n = len(places)
    if n == 0:
        return places
    order = np.argsort(places, axis=0)
    ends = np.zeros((1, places.shape[1]))
    gaps = np.diff(np.take_along_axis(places, order, 0), axis=0, prepend=ends, append=ends + 1)
    farther = np.maximum(gaps[:-1], gaps[1:])
    if n > 1:
        farther[0], farther[-1] = gaps[1], gaps[-2]
    widths = np.empty_like(places)
    np.put_along_axis(widths, order, farther, 0)
    return np.clip(widths, 1 / min(_MOST_KERNELS_ABREAST, n + 2), 1.0)


def sample_within_unit(rng: np.random.Generator, centres: Array, widths: Array) -> Array:
    """Draw from normal distributions cut off outside [0, 1], one for each centre within it.

    By rejection, which is exact. A centre within the interval and a width of at most 1 keep at
    least Φ(1) - Φ(0), a third, of what is drawn.
    """
    drawn = np.full(len(centres), np.nan)
    while (left := np.flatnonzero(np.isnan(drawn))).size:
        tries = centres[left] + widths[left] * rng.standard_normal((8, left.size))
        within = (tries >= 0) & (tries <= 1)
        first = within.argmax(axis=0), np.arange(left.size)
        drawn[left] = np.where(within[first], tries[first], np.nan)
    return drawn
