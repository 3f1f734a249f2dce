"""The picture of an explanation: differences with intervals, and the paths beside each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from schedsearch.explanation.fits import FITS
from schedsearch.explanation.judging import BETTER, NOT_WORSE, WORSE
from schedsearch.plan import Plan
from schedsearch.report.pictures.style import (
    COLOURS,
    GREY,
    WIDTH,
    hide_frame,
    legend,
    line_style,
    project_style,
    scale,
    title,
)
from schedsearch.schedules import OpenLoop, from_table
from schedsearch.space import Space

#: Heights in inches: one bar, the paths of one hyperparameter, and the margins of the picture.
_BAR, _PATHS, _MARGIN = 0.26, 1.9, 1.7
_COLOURS = {WORSE: COLOURS[1], BETTER: COLOURS[0], NOT_WORSE: COLOURS[2]}


@project_style()
def draw_explanation(space: Space, study: str, result: Mapping[str, Any]) -> Figure:
    """Draw the difference between each variant and the plan, and the paths of the schedules.

    Args:
        space: of the study.
        study: its name.
        result: of the explanation.
    """
    comparisons, names = result["comparisons"], list(result["paths"])
    heights = [_BAR * len(comparisons) + _MARGIN, *[_PATHS] * len(names)]
    figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
    axes = figure.subplots(1 + len(names), 1, height_ratios=heights, squeeze=False)[:, 0]
    _draw_bars(axes[0], comparisons, result)
    for axis, name in zip(axes[1:], names, strict=True):
        _draw_paths(axis, name, result, space)
    axes[-1].set_xlabel("epoch")
    first, stop = result["seeds"]
    split = "test split" if result["test"] else "validation split"
    head = f"{study}, explanation of trial {result['trial']}: {stop - first} fresh seeds, {split}"
    better = "lower" if result["direction"] == "minimize" else "higher"
    title(figure, [head, f"variant minus plan, paired by seed; {better} is better"])
    return figure


def _draw_bars(
    axis: Axes, comparisons: Sequence[Mapping[str, Any]], result: Mapping[str, Any]
) -> None:
    hide_frame(axis)
    _set_limits(axis, comparisons, result)
    axis.axvline(0, color="#000000", linewidth=1, zorder=3)
    sign = 1 if result["direction"] == "minimize" else -1
    if result["margin"] is not None:
        axis.axvline(
            sign * result["margin"],
            color=GREY,
            linestyle="--",
            linewidth=1,
            label="margin of a simpler schedule",
        )
    shown: set[str] = set()
    for row, comparison in enumerate(comparisons):
        verdict = comparison["verdict"]
        colour, difference = _COLOURS.get(verdict, GREY), comparison["difference"]
        label = None if verdict in shown else verdict
        axis.barh(row, difference, height=0.7, color=colour, alpha=0.5, label=label)
        # An infinite interval ends at the edges of the picture.
        axis.plot(np.clip(comparison["interval"], *axis.get_xlim()), [row, row], color=colour)
        shown.add(verdict)
    axis.set_yticks(range(len(comparisons)), [_label(c) for c in comparisons], fontsize=9)
    axis.set_ylim(len(comparisons) - 0.4, -0.6)
    axis.set_xlabel(f"mean difference in {result['metric']}")
    legend(axis)


def _set_limits(
    axis: Axes, comparisons: Sequence[Mapping[str, Any]], result: Mapping[str, Any]
) -> None:
    every = [end for c in comparisons for end in (*c["interval"], c["difference"])]
    ends = [0.0, *(end for end in every if math.isfinite(end))]
    margin = 0.05 * (max(ends) - min(ends)) or 1.0
    axis.set_xlim(min(ends) - margin, max(ends) + margin)


def _label(comparison: Mapping[str, Any]) -> str:
    names = ", ".join(comparison["names"])
    if not names:
        return "the best constants"
    changes = {
        "without": f"without {names}",
        "alone": f"{names} alone",
        "path": f"mean path of {names}",
    }
    return changes.get(comparison["change"], f"{names}: {comparison['change']}")


def _draw_paths(axis: Axes, name: str, result: Mapping[str, Any], space: Space) -> None:
    """Draw the mean path of a hyperparameter, and the nearest schedule of each simple family."""
    hide_frame(axis)
    path = result["paths"][name]
    epochs = np.arange(space.horizon)[:: -(-space.horizon // len(path))][: len(path)]
    curves = {"mean path": path}
    for comparison in result["comparisons"]:
        if comparison["change"] in FITS and name in comparison["schedules"]:
            table = comparison["schedules"][name]
            if values := _values_of(table, name, epochs.tolist(), space):
                curves[comparison["change"]] = values
    for i, (label, values) in enumerate(curves.items()):
        axis.plot(epochs[: len(values)], values, label=label, **line_style(i))
    scale(axis, [value for values in curves.values() for value in values])
    axis.set_ylabel(name)
    legend(axis)


def _values_of(
    table: Mapping[str, Any], name: str, epochs: Sequence[int], space: Space
) -> list[float]:
    """Return the values of a schedule as a plan of the study has them; none if it is closed-loop.

    They are within the bounds, whole where the space says so, and by the version of its rules.
    """
    schedule = from_table(table, version=space.schedule_version)
    if not isinstance(schedule, OpenLoop):
        return []
    baseline = space.baseline()
    bounds = {key: ends for key, ends in baseline.bounds.items() if key == name}
    plan = Plan({(name,): schedule}, bounds, whole=baseline.whole & {name})
    plan = plan.resolve(space.horizon, space.search.seed)
    return [plan.values(plan.start(epoch))[name] for epoch in epochs]
