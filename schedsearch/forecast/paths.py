"""The values of a plan over a run: what a forecast sees of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from schedsearch.forecast.gaussian_process import Array, spread
from schedsearch.plan import Plan
from schedsearch.schedules import Feedback
from schedsearch.space.domains import Choices, Domain

#: A hyperparameter is seen in its logarithm if its values span more than this factor.
_LOGARITHMIC_SPAN = 20.0
#: The points of a path of a trained plan; every third of them is a point of a coarse path.
FINE = 30


def path_of(
    plan: Plan,
    names: Sequence[str],
    horizon: int,
    feedback: Sequence[Feedback],
    *,
    points: int = FINE,
    arguments: Sequence[tuple[str, Any]] = (),
) -> Array:
    """Return the values of a resolved plan in the middles of equal parts of the horizon.

    The arguments of the plan follow them, the same at all times; see `argument_columns`.

    Args:
        plan: resolved.
        names: the hyperparameters.
        horizon: the number of epochs.
        feedback: of each epoch; the last one stands for all later epochs.
        points: how many values of each hyperparameter.
        arguments: which columns the path has for arguments.

    Returns:
        shape (points, names + arguments).
    """
    times = midpoints(0, horizon, points)
    values = plan.values_at(times) if plan.is_closed_form else _simulate(plan, times, feedback)
    chosen = [_argument_value(plan.arguments.get(name), level) for name, level in arguments]
    columns = [*(values[name] for name in names), *([value] * points for value in chosen)]
    return np.array(columns, dtype=float).T


def _simulate(
    plan: Plan, times: Sequence[float], feedback: Sequence[Feedback]
) -> dict[str, list[float]]:
    """Return the values at ascending times of a plan that follows feedback."""
    found: dict[str, list[float]] = {name: [] for name in plan.names}
    state, epoch = plan.start(), 0
    for time in times:
        while epoch < math.floor(time):
            state = plan.update(state, feedback[min(epoch, len(feedback) - 1)])
            epoch += 1
        values, _ = plan.evaluate(state, time - epoch)
        for name, column in found.items():
            column.append(values[name])
    return found


def argument_columns(arguments: Mapping[str, Domain]) -> tuple[tuple[str, Any], ...]:
    """Return the columns of a path for the arguments of a space: names, each with a value or None.

    A number is a column, with its value. An argument without an order, such as a text, has a column
    for each value: 1 where the plan has it, and else 0.

    Args:
        arguments: of a space.
    """
    columns: list[tuple[str, Any]] = []
    for name, domain in arguments.items():
        if isinstance(domain, Choices):
            columns += [(name, value) for value in domain.values]
        elif not domain.is_fixed:
            columns.append((name, None))
    return tuple(columns)


def _argument_value(value: Any, level: Any) -> float:
    if level is None:
        return float(value) if isinstance(value, int | float) else 0.0
    return float(value == level)


def coarse(paths: Array) -> Array:
    """Return every third point of fine paths, shape (plans, points, names)."""
    return paths[:, 1::3]


def values_key(path: Array) -> bytes:
    """Return what is equal for paths that are equal, but for rounding."""
    return path.astype(np.float32).tobytes()


def part(paths: Array, begin: float, end: float, count: int) -> Array:
    """Return evenly spread points of a part of fine paths; begin and end are shares of the run."""
    return paths[:, [int(share * paths.shape[1]) for share in midpoints(begin, end, count)]]


@dataclass(frozen=True)
class Scaling:
    """How values of hyperparameters become features: logarithm, centre, spread.

    Attributes:
        logarithmic: for each hyperparameter, whether its logarithm is used.
        centers: the means, in the logarithm where it is used.
        spreads: the standard deviations; 1 where all values are equal.
    """

    logarithmic: tuple[bool, ...]
    centers: tuple[float, ...]
    spreads: tuple[float, ...]

    @classmethod
    def of(cls, paths: Array) -> Scaling:
        """Return the scaling for paths, shape (plans, times, hyperparameters)."""
        columns = paths.reshape(-1, paths.shape[-1]).T
        logarithmic = tuple(
            bool(column.min() > 0 and column.max() > _LOGARITHMIC_SPAN * column.min())
            for column in columns
        )
        scaled = [np.log(c) if log else c for c, log in zip(columns, logarithmic, strict=True)]
        return cls(
            logarithmic,
            tuple(float(column.mean()) for column in scaled),
            tuple(spread(column) for column in scaled),
        )

    def apply(self, paths: Array) -> Array:
        """Return features, shape (plans, hyperparameters * times), by hyperparameter."""
        scaled = paths.astype(float)
        for i, log in enumerate(self.logarithmic):
            if log:
                # A plan beyond the range that the scaling was made for may reach 0.
                scaled[..., i] = np.log(np.maximum(scaled[..., i], np.finfo(float).tiny))
        scaled = (scaled - np.array(self.centers)) / np.array(self.spreads)
        features: Array = scaled.transpose(0, 2, 1).reshape(len(scaled), -1)
        return features


def midpoints(begin: float, end: float, count: int) -> tuple[float, ...]:
    """Return the middles of `count` equal parts of an interval.

    A time that is a point of two numbers of parts is the same number in both.

    >>> midpoints(0, 60, 3)
    (10.0, 30.0, 50.0)
    """
    return tuple(begin + (end - begin) * ((2 * i + 1) / (2 * count)) for i in range(count))
