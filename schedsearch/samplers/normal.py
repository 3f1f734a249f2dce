"""The normal distribution on arrays: NumPy has no error function, and SciPy is optional."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numpy.polynomial import Chebyshev, Polynomial

Array = npt.NDArray[np.float64]

# The scale of the change of variable, and the degree at which only rounding errors remain.
_SCALE = 3.75
_DEGREE = 20


def _scaled_erfc(z: float) -> float:
    """Return exp(z²) erfc(z), by a continued fraction where erfc would underflow.

    Source: Abramowitz and Stegun 1964, 7.1.14.
    """
    if z < 2.0:
        return math.exp(z * z) * math.erfc(z)
    fraction = z
    for k in range(120, 0, -1):
        fraction = z + k / 2 / fraction
    return 1 / (fraction * math.sqrt(math.pi))


def _coefficients() -> list[float]:
    """Return the coefficients of R (see `erfc`) as a polynomial in 2t - 1."""

    def ratio(nodes: Array) -> Array:
        return np.array([_scaled_erfc(_SCALE / t - _SCALE) / t for t in nodes])

    fitted = Chebyshev.interpolate(ratio, _DEGREE, domain=[0, 1])
    return list(fitted.convert(kind=Polynomial, domain=[0, 1], window=[-1, 1]).coef)


_COEFFICIENTS = _coefficients()


def erfc(x: Array) -> Array:
    """Return the complementary error function, with a relative error of 1e-12 down to 1e-290.

    erfc(z) = t exp(-z²) R(t), t = c / (c + z), z >= 0; erfc(-z) = 2 - erfc(z)

    R is smooth over the whole half-line, so one polynomial approximates it everywhere.

    R is interpolated at Chebyshev nodes (c = 3.75, degree 20) when the module is imported.

    Source: Shepherd and Laframboise 1981, for the change of variable (up to its sign).
    """
    z = np.abs(x)
    t = _SCALE / (_SCALE + z)
    total = np.full_like(t, _COEFFICIENTS[-1])
    s = 2.0 * t - 1.0
    for coefficient in _COEFFICIENTS[-2::-1]:
        total *= s
        total += coefficient
    total *= t * np.exp(-z * z)
    return np.where(x < 0, 2.0 - total, total)


def log_mass(low: Array, high: Array) -> Array:
    """Return the logarithm of the standard normal probability of intervals.

    log(Φ(high) - Φ(low)), low < high; probabilities below 1e-300 count as 1e-300.
    """
    # Mirror the left tail, where the difference of two numbers near 2 would cancel.
    left = low + high < 0
    ends = np.stack((np.where(left, -high, low), np.where(left, -low, high)))
    near, far = erfc(ends * math.sqrt(0.5))
    return np.asarray(np.log(np.maximum((near - far) / 2, 1e-300)))
