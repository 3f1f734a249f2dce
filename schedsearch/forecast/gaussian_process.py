"""Gaussian process regression with one length scale for each group of features."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError, cho_factor, cho_solve
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
#: The matrices are small: several threads of BLAS would only take cores from training.
_BLAS = ThreadpoolController()
#: Added to the diagonal, since equal rows would make the matrix singular.
_JITTER = 1e-6


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
        inverse_squares = np.array(self.lengths) ** -2.0
        r = np.sqrt(5 * np.tensordot(inverse_squares, _distances(x, y, self.groups), 1))
        covariances: Array = self.amplitude**2 * (1 + r + r * r / 3) * np.exp(-r)
        return covariances


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
        mean, scale = float(targets.mean()), float(targets.std()) or 1.0
        with _BLAS.limit(limits=1, user_api="blas"):
            kernel = _fit_kernel(_distances(features, features, groups), (targets - mean) / scale)
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
            explained = np.einsum("ij,ji->i", covariances, cho_solve(factor, covariances.T))
        variances = np.maximum(self.kernel.amplitude**2 - explained, 1e-12)
        means: Array = self.mean + self.scale * (covariances @ weights)
        return means, self.scale * np.sqrt(variances)

    @property
    def noise(self) -> float:
        """The standard deviation of a target around its value."""
        return self.scale * self.kernel.noise

    @cached_property
    def _solution(self) -> tuple[tuple[Array, bool], Array]:
        covariances = self.kernel.covariances(self.features, self.features)
        covariances[np.diag_indices_from(covariances)] += self.kernel.noise**2 + _JITTER
        factor = cho_factor(covariances, lower=True)
        return factor, cho_solve(factor, (self.targets - self.mean) / self.scale)


def _distances(x: Array, y: Array, groups: Groups) -> Array:
    """Return the mean squared distances within each group, shape (groups, rows of x and of y)."""
    return np.stack([_mean_squared_distances(x[:, group], y[:, group]) for group in groups])


def _mean_squared_distances(x: Array, y: Array) -> Array:
    """Return the mean over columns of (x_i - y_i)², for all pairs of rows, by a matrix product."""
    squares = (x * x).sum(axis=1)[:, None] + (y * y).sum(axis=1) - 2 * x @ y.T
    distances: Array = np.maximum(squares, 0) / x.shape[1]
    return distances


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
        options={"maxiter": _ITERATIONS},
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
    r = np.sqrt(5 * np.tensordot(inverse_squares, distances, 1))
    decay = np.exp(-r)
    covariances = amplitude * (1 + r + r * r / 3) * decay
    deviations = (logarithms - priors[:, 0]) / priors[:, 1]
    identity = np.eye(len(targets))
    try:
        factor = cho_factor(covariances + (noise + _JITTER) * identity, lower=True)
    except LinAlgError:
        return math.inf, deviations
    weights = cho_solve(factor, targets)
    outer = cho_solve(factor, identity) - np.outer(weights, weights)
    value = 0.5 * targets @ weights + np.log(np.diag(factor[0])).sum()
    # d k / d log l_g = 5/3 a² (1 + r) exp(-r) d_g / l_g²
    common = outer * (5 / 3 * amplitude * (1 + r) * decay)
    gradient = [
        0.5 * (common * d).sum() * i for i, d in zip(inverse_squares, distances, strict=True)
    ]
    gradient += [(outer * covariances).sum(), np.trace(outer) * noise]
    return (
        float(value + 0.5 * deviations @ deviations),
        np.array(gradient) + deviations / priors[:, 1],
    )


def clip_worse(targets: Array, spread: float) -> Array:
    """Return targets, of which lower is better, with those far worse than the median moved closer.

    min(y, median + spread * (median - best))

    A model that has to resolve differences among failed trainings blurs those among good ones.

    >>> clip_worse(np.array([1.0, 2.0, 3.0, 100.0, 4.0]), 3).tolist()
    [1.0, 2.0, 3.0, 9.0, 4.0]
    """
    median = float(np.median(targets))
    clipped: Array = np.minimum(targets, median + spread * (median - float(targets.min())))
    return clipped
