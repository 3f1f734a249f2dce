"""Gaussian process regression with one length scale for each group of features."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.linalg.lapack import dpotrf, dpotri, dpotrs, dtrtrs
from scipy.optimize import minimize
from threadpoolctl import ThreadpoolController

Array: TypeAlias = npt.NDArray[np.float64]
#: The columns of the features that share a length scale.
Groups: TypeAlias = tuple[slice, ...]

#: Mean and standard deviation of the normal priors of the logarithms of the length scales, the
#: amplitude and the noise, for targets with the standard deviation 1; and the limits of each.
_LENGTH_PRIOR, _LENGTH_LIMITS = (0.7, 1.0), (-3.0, 4.0)
_AMPLITUDE_PRIOR, _AMPLITUDE_LIMITS = (0.0, 0.7), (-2.0, 2.0)
_NOISE_PRIOR, _NOISE_LIMITS = (-1.0, 1.0), (-4.0, 1.0)
_ITERATIONS = 30
#: The fit ends when an iteration improves the posterior by less than this share: its data decide
#: the kernel far less exactly.
_PRECISION = 1e-4
#: The matrices are small: several threads of BLAS would only take cores from training.
_BLAS = ThreadpoolController()
#: Added to the diagonal, since equal rows would make the matrix singular; more if it still is.
_JITTER, _MAX_JITTER = 1e-6, 1.0


@dataclass(frozen=True)
class Kernel:
    """A Matérn 5/2 kernel, and the noise of a target.

    k(x, y) = a² (1 + r + r²/3) exp(-r),    r² = 5 sum_g mean_{i in g} (x_i - y_i)² / l_g²

    Attributes:
        groups: the columns of each group g.
        lengths: the length scale l_g of each group.
        amplitude: a, the standard deviation of the values.
        noise: the standard deviation of a target around its value.

    Source: Rasmussen and Williams 2006, Gaussian Processes for Machine Learning, section 4.2.
    """

    groups: Groups
    lengths: tuple[float, ...]
    amplitude: float
    noise: float

    def covariances(self, x: Array, y: Array) -> Array:
        """Return the covariances of values, shape (rows of x, rows of y)."""
        weights = self._weights
        r = np.sqrt(_squared_distances(x * weights, y * weights))
        covariances: Array = self.amplitude**2 * (1 + r + r * r / 3) * np.exp(-r)
        return covariances

    @cached_property
    def _weights(self) -> Array:
        """The factor of each column: r is the distance of rows that are multiplied by it."""
        weights = np.empty(self.groups[-1].stop)
        for group, length in zip(self.groups, self.lengths, strict=True):
            columns = weights[group]
            columns[:] = math.sqrt(5 / len(columns)) / length
        return weights


@dataclass(frozen=True)
class GaussianProcess:
    """A Gaussian process given rows of features and their targets.

    Attributes:
        kernel: for targets that have the mean 0 and the standard deviation 1.
        features: shape (rows, columns).
        targets: shape (rows,).
        mean: of the targets that the kernel was fitted to.
        scale: their standard deviation.
    """

    kernel: Kernel
    features: Array = field(repr=False)
    targets: Array = field(repr=False)
    mean: float
    scale: float

    @classmethod
    def fit(cls, features: Array, targets: Array, groups: Groups) -> GaussianProcess:
        """Fit the kernel (maximum a posteriori) to rows of features and targets."""
        mean, scale = float(targets.mean()), spread(targets)
        with _BLAS.limit(limits=1, user_api="blas"):
            distances = np.stack([_mean_squared_distances(features[:, g]) for g in groups])
            kernel = _fit_kernel(distances, (targets - mean) / scale)
        lengths = tuple(np.exp(kernel[:-2]).tolist())
        amplitude, noise = np.exp(kernel[-2:]).tolist()
        return cls(Kernel(groups, lengths, amplitude, noise), features, targets, mean, scale)

    def given(self, features: Array, targets: Array) -> GaussianProcess:
        """Return a process with the same kernel, given other rows."""
        return replace(self, features=features, targets=targets)

    def with_fantasies(self, features: Array) -> GaussianProcess:
        """Condition further on rows whose targets are assumed to be as predicted.

        The predictions stay the same, and their uncertainty shrinks near these rows.
        """
        targets, _ = self.predict(features)
        return self.given(
            np.concatenate([self.features, features]), np.append(self.targets, targets)
        )

    def predict(self, features: Array) -> tuple[Array, Array]:
        """Return the means and the standard deviations of the values, without noise."""
        with _BLAS.limit(limits=1, user_api="blas"):
            factor, weights = self._solution
            covariances = self.kernel.covariances(features, self.features)
            solved, _ = dtrtrs(factor, covariances.T, lower=1)
        explained = np.einsum("ij,ij->j", solved, solved)
        variances = np.maximum(self.kernel.amplitude**2 - explained, 1e-12)
        means: Array = self.mean + self.scale * (covariances @ weights)
        return means, self.scale * np.sqrt(variances)

    @property
    def noise(self) -> float:
        """The standard deviation of a target around its value."""
        return self.scale * self.kernel.noise

    @cached_property
    def _solution(self) -> tuple[Array, Array]:
        """The lower Cholesky factor of the covariances of targets, and its solution for them."""
        covariances = self.kernel.covariances(self.features, self.features)
        diagonal = np.diag_indices_from(covariances)
        covariances[diagonal] += self.kernel.noise**2 + _JITTER
        jitter = _JITTER
        while (factor := _cholesky(covariances)) is None and jitter < _MAX_JITTER:
            covariances[diagonal] += 9 * jitter
            jitter *= 10
        if factor is None:
            raise np.linalg.LinAlgError("the covariances are not finite")
        weights, _ = dpotrs(factor, (self.targets - self.mean) / self.scale, lower=1)
        return factor, weights


def spread(values: Array) -> float:
    """Return the standard deviation; 1 where all values are equal, but for rounding.

    >>> spread(np.full(100, 0.1)), spread(np.array([1.0, 3.0]))
    (1.0, 1.0)
    """
    deviation = float(values.std())
    return deviation if deviation > 1e-12 * float(np.abs(values).max()) else 1.0


def _squared_distances(x: Array, y: Array) -> Array:
    """Return the squared distances of all pairs of rows, by a matrix product."""
    squares = (x * x).sum(axis=1)[:, None] + (y * y).sum(axis=1) - 2 * x @ y.T
    distances: Array = np.maximum(squares, 0)
    return distances


def _mean_squared_distances(x: Array) -> Array:
    """Return the mean over columns of (x_i - y_i)², for all pairs of rows of x."""
    distances: Array = _squared_distances(x, x) / x.shape[1]
    return distances


def _cholesky(matrix: Array) -> Array | None:
    """Return the lower Cholesky factor of a matrix; None if it is not positive definite."""
    factor: Array
    factor, failed = dpotrf(matrix, lower=1, clean=1)
    return None if failed else factor


def _fit_kernel(distances: Array, targets: Array) -> Array:
    """Return the logarithms of the length scales, the amplitude and the noise."""
    count = len(distances)
    priors = np.array([_LENGTH_PRIOR] * count + [_AMPLITUDE_PRIOR, _NOISE_PRIOR])
    limits = [_LENGTH_LIMITS] * count + [_AMPLITUDE_LIMITS, _NOISE_LIMITS]
    found = minimize(
        _negative_log_posterior,
        priors[:, 0],
        args=(distances, targets, priors),
        jac=True,
        method="L-BFGS-B",
        bounds=limits,
        options={"maxiter": _ITERATIONS, "ftol": _PRECISION},
    )
    logarithms: Array = found.x
    return logarithms


def _negative_log_posterior(
    logarithms: Array, distances: Array, targets: Array, priors: Array
) -> tuple[float, Array]:
    """Return the negative logarithm of the posterior up to a constant, and its gradient.

    Source: Rasmussen and Williams 2006, equations 5.8 and 5.9.
    """
    inverse_squares = np.exp(-2 * logarithms[:-2])
    amplitude, noise = np.exp(2 * logarithms[-2:])
    deviations = (logarithms - priors[:, 0]) / priors[:, 1]
    r = np.sqrt(5 * np.tensordot(inverse_squares, distances, 1))
    decay = amplitude * np.exp(-r)
    slope = (1 + r) * decay
    covariances = slope + r * r / 3 * decay
    of_targets = covariances.copy()
    of_targets[np.diag_indices_from(of_targets)] += noise + _JITTER
    if (factor := _cholesky(of_targets)) is None:
        return math.inf, deviations
    weights, _ = dpotrs(factor, targets, lower=1)
    value = 0.5 * targets @ weights + np.log(factor.diagonal()).sum()
    # All matrices are symmetric, so of the inverse a half counts twice.
    half, _ = dpotri(factor, lower=1)
    outer = 2 * half.T
    outer[np.diag_indices_from(outer)] /= 2
    outer -= np.outer(weights, weights)
    # d k / d log l_g = 5/3 a² (1 + r) exp(-r) d_g / l_g²
    lengths = 5 / 6 * inverse_squares * np.tensordot(distances, outer * slope, 2)
    gradient = [*lengths, np.vdot(outer, covariances), outer.trace() * noise]
    return (
        float(value + 0.5 * deviations @ deviations),
        np.array(gradient) + deviations / priors[:, 1],
    )


def clip_worse(targets: Array, leads: float) -> Array:
    """Return targets, of which lower is better, with those far worse than the median moved closer.

    min(y, median + leads * (median - best))

    A model that has to resolve differences among failed trainings blurs those among good ones. If
    the median is the best, nothing is clipped.

    >>> clip_worse(np.array([1.0, 2.0, 3.0, 100.0, 4.0]), 3).tolist()
    [1.0, 2.0, 3.0, 9.0, 4.0]
    """
    median, best = float(np.median(targets)), float(targets.min())
    if median == best:
        return targets
    clipped: Array = np.minimum(targets, median + leads * (median - best))
    return clipped


def clip_outliers(values: Array) -> Array:
    """Return values, with those far from the middle eight tenths moved closer.

    Three times the width of the middle is far; if that is 0, nothing is clipped.

    >>> float(clip_outliers(np.append(np.arange(11.0), 100.0))[-1].round(1))
    36.3
    """
    low, high = np.quantile(values, (0.1, 0.9))
    far = 3 * (high - low)
    clipped: Array = np.clip(values, low - far, high + far) if far else values
    return clipped
