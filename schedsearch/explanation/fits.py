"""The nearest schedule of each simple family to a path, by least squares over the epochs.

All values of a fit lie between the lowest and the highest value of the path, so that a
learning rate stays positive. A path has the values at the beginning of each epoch; at the interval
"step" a fit goes on until the horizon, where the next epoch would begin.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import scipy  # `scipy.optimize` loads when it is first used, since most commands do not need it

from schedsearch.explanation.paths import Path, rounded
from schedsearch.schedules import Constant, Cosine, Interval, Linear, Schedule, Step

#: So many step sizes are tried, and of a longer path also the epochs at which it changes most.
_SIZES, _CHANGES = 500, 40
#: So many decay rates are tried for each size, before refinement.
_RATES = 41
_SMALLEST_STEP = 1e-3


def fit_constant(path: Path, version: int, interval: Interval = "epoch") -> Schedule:
    """Return the constant that is nearest to a path: its mean.

    >>> fit_constant(np.array([1.0, 2.0, 3.0]), 2)
    Constant(value=2.0)
    """
    return Constant(rounded(path.mean()), version=version)


def fit_linear(path: Path, version: int, interval: Interval = "epoch") -> Linear:
    """Return the straight line from the first to the last epoch that is nearest to a path.

    At the interval "step" it ends at the horizon.

    >>> fit = fit_linear(np.array([1.0, 0.9, 0.8, 0.7, 0.6]), 2).resolve(5, 0)
    >>> [round(fit.at(epoch), 3) for epoch in range(5)]
    [1.0, 0.9, 0.8, 0.7, 0.6]
    """
    initial, final = _ends(path, 1 - _over(path, interval), interval)
    return Linear(initial, final, endpoint=interval == "epoch", version=version)


def fit_cosine(path: Path, version: int, interval: Interval = "epoch") -> Schedule:
    """Return the half cosine from the first to the last epoch that is nearest to a path.

    At the interval "step" it ends at the horizon.
    """
    weight = (1 + np.cos(math.pi * _over(path, interval))) / 2
    initial, final = _ends(path, weight, interval)
    return Cosine(initial, final, endpoint=interval == "epoch", version=version)


def _over(path: Path, interval: Interval) -> Path:
    """Return which share of a schedule is over at the beginning of each epoch."""
    last = len(path) if interval == "step" else max(1, len(path) - 1)
    return np.arange(len(path)) / last


def _ends(path: Path, weight: Path, interval: Interval) -> tuple[float, float]:
    """Return the ends of weight * initial + (1 - weight) * final, within the range of the path."""
    values = np.append(path, _next(path)) if interval == "step" else path
    low, high = values.min(), np.nextafter(values.max(), math.inf)
    found = scipy.optimize.lsq_linear(
        np.stack([weight, 1 - weight], axis=1), path, bounds=(low, high), method="bvls"
    ).x
    initial, final = np.clip(found, values.min(), values.max())
    return rounded(initial), rounded(final)


def _next(path: Path) -> float:
    """Return the value at the horizon if a path goes on; not below 0 if no other value is."""
    value = float(2 * path[-1] - path[-2]) if len(path) > 1 else float(path[-1])
    return max(value, 0.0) if path.min() >= 0 else value


@dataclass(frozen=True)
class _Steps:
    size: int
    rate: float
    initial: float
    error: float


def fit_step(path: Path, version: int, interval: Interval = "epoch") -> Schedule:
    """Return the steps of equal length and of one factor that are nearest to a path.

    >>> fit_step(np.array([1.0, 1.0, 0.5, 0.5, 0.25, 0.25]), 2)
    Step(initial=1.0, decay_rate=0.5, step_size=2)
    """
    best = min((_fit_steps(path, size) for size in _sizes(path)), key=lambda steps: steps.error)
    return Step(rounded(best.initial), rounded(best.rate), best.size, version=version)


def _sizes(path: Path) -> list[int]:
    """Return the step sizes to try: all of them, or those at which the path changes, and others."""
    longest = max(1, len(path) - 1)
    if longest <= _SIZES:
        return list(range(1, longest + 1))
    spread = np.geomspace(1, longest, _SIZES).round().astype(int)
    changes = np.abs(np.diff(path))
    changed = 1 + np.concatenate([changes.nonzero()[0][:1], np.argsort(-changes)[:_CHANGES]])
    return sorted({*spread.tolist(), *changed.tolist()})


def _fit_steps(path: Path, size: int) -> _Steps:
    steps: Path = np.array([float(epoch // size) for epoch in range(len(path))])
    count = max(1, int(steps[-1]))
    magnitudes = np.abs(path[path != 0])
    # The values at the first and at the last step differ by no more than those of the path.
    ratio = magnitudes.max() / magnitudes.min() if path.all() else 1 / _SMALLEST_STEP
    most = max(math.log(ratio) / count, 1e-9)
    rates = np.linspace(-most, most, _RATES)
    best = rates[int(np.argmin([_steps(path, steps, size, rate).error for rate in rates]))]
    width = rates[1] - rates[0]
    found = scipy.optimize.minimize_scalar(
        lambda rate: _steps(path, steps, size, rate).error,
        bounds=(max(-most, best - width), min(most, best + width)),
        method="bounded",
        options={"xatol": 1e-9},
    )
    return min(
        (_steps(path, steps, size, rate) for rate in (best, float(found.x))),
        key=lambda candidate: candidate.error,
    )


def _steps(path: Path, steps: Path, size: int, log_rate: float) -> _Steps:
    """Return the steps of a size and a factor whose initial value is the best one."""
    factors = np.exp(log_rate * steps)
    last = factors[-1]
    low, high = sorted((path.min() / last, path.max() / last))
    # Both ends lie in the range of the path, unless that leaves nothing.
    low, high = max(low, path.min()), min(high, path.max())
    initial = float(factors @ path / (factors @ factors))
    initial = min(max(initial, low), high) if low <= high else initial
    error = float(((factors * initial - path) ** 2).sum())
    return _Steps(size, math.exp(log_rate), initial, error if low <= high else math.inf)


#: The simple families, the simplest first.
FITS: Mapping[str, Callable[[Path, int, Interval], Schedule]] = {
    "constant": fit_constant,
    "linear": fit_linear,
    "cosine": fit_cosine,
    "step": fit_step,
}


def simpler_fits(
    path: Path, family: str, version: int, interval: Interval = "epoch"
) -> dict[str, Schedule]:
    """Return the nearest schedule of each family that is simpler than a given one.

    A path that does not change has only the constant.

    >>> list(simpler_fits(np.array([1.0, 0.5, 0.1]), "cosine", 2))
    ['constant', 'linear']
    """
    order = list(FITS)
    names = order[: order.index(family)] if family in order else order
    if np.ptp(path) <= 1e-6 * np.abs(path).max():
        names = names[:1]
    return {name: FITS[name](path, version, interval) for name in names}
