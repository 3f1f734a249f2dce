"""Two forecasts of the objective at the horizon: of a plan, and of a run in training.

Both are Gaussian processes on the values of the plan over the run, not on the parameters of its
families. So families, combinators and hyperparameters share one space: two plans are close if they
train with close values, whatever they are called.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from scipy.special import ndtr, ndtri

from schedsearch.forecast.gaussian_process import Array, GaussianProcess, clip_outliers, spread
from schedsearch.forecast.objective_scale import ObjectiveScale
from schedsearch.forecast.paths import Scaling
from schedsearch.forecast.targets import RunName, plan_targets


@dataclass(frozen=True)
class PlanForecast:
    """The forecast of a plan before it is trained: a Gaussian process on its path.

    Attributes:
        paths: how paths become features.
        scale: of the objective.
        process: predicts the objective's final value on its scale, without the trend.
        trend: what earlier studies expect; None: nothing.
    """

    paths: Scaling
    scale: ObjectiveScale
    process: GaussianProcess
    trend: Trend | None = None

    @classmethod
    def fit(
        cls,
        paths: Array,
        finals: Array,
        prior: Prior | None = None,
        runs: Sequence[RunName] | None = None,
        before: PlanForecast | None = None,
    ) -> PlanForecast:
        """Fit the forecast to trained plans.

        Args:
            paths: their values, shape (plans, times, hyperparameters).
            finals: the final values of the objective, lower is better; infinite if a run diverged.
            prior: the results of earlier studies.
            runs: the plan and the further seed of each; None: all have the seed of the study.
            before: a forecast whose kernel is kept, which saves the fit, unless these plans have
                another scale of the objective.
        """
        scale = ObjectiveScale.of(finals)
        trend, targets = _split(paths, plan_targets(scale, finals, runs), prior)
        if before is not None and before.scale == scale:
            process = before.process.given(before.paths.apply(paths), targets)
            return replace(before, process=process, trend=trend)
        scaling = Scaling.of(paths)
        _, times, names = paths.shape
        groups = tuple(slice(i * times, (i + 1) * times) for i in range(names))
        process = GaussianProcess.fit(scaling.apply(paths), targets, groups)
        return cls(scaling, scale, process, trend)

    def optimistic(self, paths: Array, deviations: float = 1.0) -> Array:
        """Return the lower confidence bound of each path: its mean minus `deviations` * sd."""
        means, deviation = self.process.predict(self.paths.apply(paths))
        bounds: Array = means - deviations * deviation
        return bounds if self.trend is None else bounds + self.trend(paths)

    def assuming(self, paths: Array) -> PlanForecast:
        """Return the forecast as if these plans were trained, with the values it predicts."""
        features = self.paths.apply(paths)
        return replace(self, process=self.process.with_fantasies(features))


class Trend(Protocol):
    """What earlier studies expect of plans, on the scale of the objective."""

    def __call__(self, paths: Array, /) -> Array:
        """Return an offset for each path."""


class Prior(Protocol):
    """The results of earlier studies."""

    def trend(self, paths: Array, targets: Array, /) -> Trend:
        """Return what they expect, given what was trained since; lower targets are better."""


def _split(paths: Array, targets: Array, prior: Prior | None) -> tuple[Trend | None, Array]:
    """Return the trend of a prior, and how targets differ from it."""
    if prior is None:
        return None, targets
    trend = prior.trend(paths, targets)
    return trend, targets - trend(paths)


@dataclass(frozen=True)
class RunForecast:
    """The forecast of a run in training, at one epoch: how much the objective will change.

    The features are the values of the plan behind and ahead, the present value of the objective,
    and its slope. The target is the difference of the final value to the present one.

    Attributes:
        behind: how the values until the epoch become features.
        ahead: the same for the values that remain.
        scale: of the objective.
        centers: the means of the present value and of the slope.
        spreads: their standard deviations.
        process: predicts the difference on the scale of the objective.
    """

    behind: Scaling
    ahead: Scaling
    scale: ObjectiveScale
    centers: tuple[float, float]
    spreads: tuple[float, float]
    process: GaussianProcess

    @classmethod
    def fit(cls, behind: Array, ahead: Array, curves: Array, finals: Array) -> RunForecast:
        """Fit the forecast to complete runs.

        Args:
            behind: the values until the epoch, shape (runs, times, hyperparameters).
            ahead: the values from then on, shape (runs, times, hyperparameters).
            curves: the metric of each epoch until then, shape (runs, epochs); lower is better.
            finals: the final values of the objective, finite.
        """
        scale = ObjectiveScale.of(np.append(curves, finals))
        found = _present_and_slope(scale.apply(curves))
        # A run that becomes much worse than all others must not hide how these differ.
        changes = clip_outliers(scale.apply(finals) - found[0])
        usual = [clip_outliers(values) for values in found]
        centers = float(usual[0].mean()), float(usual[1].mean())
        spreads = spread(usual[0]), spread(usual[1])
        scalings = Scaling.of(behind), Scaling.of(ahead)
        features = np.column_stack(
            [
                scalings[0].apply(behind),
                scalings[1].apply(ahead),
                *((v - c) / s for v, c, s in zip(found, centers, spreads, strict=True)),
            ]
        )
        past, all_values = behind[0].size, behind[0].size + ahead[0].size
        groups = (
            slice(past),
            slice(past, all_values),
            slice(all_values, all_values + 1),
            slice(all_values + 1, all_values + 2),
        )
        process = GaussianProcess.fit(features, changes, groups)
        return cls(*scalings, scale, centers, spreads, process)

    def predict(self, behind: Array, ahead: Array, curves: Array) -> tuple[Array, Array]:
        """Return means and standard deviations of the final values, noise included, on the scale.

        Args:
            behind: as in `fit`.
            ahead: as in `fit`.
            curves: as in `fit`.
        """
        found = _present_and_slope(self.scale.apply(curves))
        features = np.column_stack(
            [
                self.behind.apply(behind),
                self.ahead.apply(ahead),
                *((v - c) / s for v, c, s in zip(found, self.centers, self.spreads, strict=True)),
            ]
        )
        means, deviations = self.process.predict(features)
        return found[0] + means, np.hypot(deviations, self.process.noise)

    def quantiles(
        self, behind: Array, ahead: Array, curves: Array, levels: tuple[float, ...]
    ) -> Array:
        """Return quantiles of the final values, lower is better, shape (runs, levels)."""
        means, deviations = self.predict(behind, ahead, curves)
        return self.scale.invert(means[:, None] + deviations[:, None] * ndtri(np.array(levels)))

    def chance(self, behind: Array, ahead: Array, curves: Array, than: float) -> Array:
        """Return the probability that each final value will be better than `than`."""
        means, deviations = self.predict(behind, ahead, curves)
        probabilities: Array = ndtr(
            (float(self.scale.apply(np.array([than]))[0]) - means) / deviations
        )
        return probabilities


def _present_and_slope(curves: Array) -> tuple[Array, Array]:
    """Return the means of the last twelfth, and the differences of the last two sixths."""
    epochs = curves.shape[1]
    sixth = max(1, epochs // 6)
    present = curves[:, -max(1, epochs // 12) :].mean(axis=1)
    before = curves[:, max(0, epochs - 2 * sixth) : max(1, epochs - sixth)].mean(axis=1)
    return present, curves[:, -sixth:].mean(axis=1) - before
