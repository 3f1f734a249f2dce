"""The mean path of a plan: the values that its hyperparameters took over several runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial

from schedsearch.schedules import Constant, Interval, Knots, Schedule
from schedsearch.storage.attributes import VALUES
from schedsearch.storage.recorded_values import recorded_values

#: Positive values that span more than this factor are averaged in their logarithm.
_LOGARITHMIC_SPAN = 10.0
#: The most knots of a schedule: a plan must fit into an attribute of a database.
_KNOTS = 200

Path = NDArray[np.float64]


def mean_paths(runs: Sequence[FrozenTrial], names: Sequence[str], horizon: int) -> dict[str, Path]:
    """Return the mean value of each hyperparameter in each epoch over some runs.

    It is the geometric mean if all values are positive and span more than a factor of 10, so that
    one run that is late to lower a learning rate does not hide the others. A run that stopped keeps
    its last value.

    Args:
        runs: complete trials of one seed each; at least one.
        names: the hyperparameters.
        horizon: the number of epochs.
    """
    paths = [recorded_values(run.user_attrs, VALUES, horizon) for run in runs]
    return {name: _mean([path[name] for path in paths]) for name in names}


def _mean(paths: Sequence[Sequence[float]]) -> Path:
    stacked = np.array(paths)
    if stacked.min() > 0 and stacked.max() > _LOGARITHMIC_SPAN * stacked.min():
        stacked = np.log(stacked)
        return np.array(np.exp(stacked.mean(axis=0)))
    return np.array(stacked.mean(axis=0))


def knots_of(path: Path, version: int) -> Knots | Constant:
    """Return an open-loop schedule that takes a path, epoch by epoch.

    Of a path over more than 200 epochs it has 200 points, and straight lines between them.

    >>> knots_of(np.array([1.0, 1.0, 0.5]), 2).values
    (1.0, 1.0, 0.5)
    """
    last = len(path) - 1
    if last == 0:
        return Constant(rounded(path[0]), version=version)
    times = np.linspace(0, last, min(len(path), _KNOTS))
    values = np.interp(times, np.arange(len(path)), path)
    return Knots(tuple(map(rounded, values)), duration=last, version=version)


def rounded(value: float) -> float:
    """Return a number with six digits, as records of paths have."""
    return float(f"{value:.6g}")


def interval_of_path(schedule: Schedule, interval: Interval) -> Interval:
    """Return when a schedule's path changes: a closed-loop value holds for each epoch."""
    return interval if schedule.moves_within_epoch else "epoch"
