"""The picture of a preview."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from schedsearch.report.pictures.style import (
    COLOURS,
    LINES,
    hide_frame,
    linear_near_zero,
    log_ticks,
    project_style,
)
from schedsearch.report.preview import Curve, Preview
from schedsearch.report.value_axis import Axis

#: At most so many panels in a row.
_MAX_COLUMNS = 5
#: The size of a panel in inches.
_WIDTH, _HEIGHT = 2.5, 1.9


@project_style()
def draw_preview(preview: Preview, title: str) -> Figure:
    """Draw a panel for each family of each hyperparameter, and the synthetic metric."""
    rows = [(name, row) for name, families in preview.panels() for row in _rows(families)]
    columns = max(len(row) for _, row in rows)
    height = len(rows) + (1 if preview.has_closed_loops else 0)
    size = (max(_WIDTH * columns, 5.0), _HEIGHT * height + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.add_gridspec(height, columns)
    for i, (name, row) in enumerate(rows):
        for j, (family, curves) in enumerate(row):
            axis = figure.add_subplot(grid[i, j])
            _draw(axis, curves, preview.axes[name])
            mark = " *" if any(curve.is_closed_loop for curve in curves) else ""
            axis.set_title(f"{family}{mark}", fontsize=9)
            axis.set_ylabel(name if j == 0 else "", fontsize=9)
    if preview.has_closed_loops:
        _draw_metric(figure.add_subplot(grid[height - 1, :]), preview.metric)
    figure.suptitle(title, fontsize=10)
    return figure


def _rows(families: list[tuple[str, list[Curve]]]) -> list[list[tuple[str, list[Curve]]]]:
    """Return the families in as few rows as possible, of even length."""
    rows = math.ceil(len(families) / _MAX_COLUMNS)
    columns = math.ceil(len(families) / rows)
    return [families[first : first + columns] for first in range(0, len(families), columns)]


def _draw(axis: Axes, curves: Sequence[Curve], shared: Axis) -> None:
    for i, curve in enumerate(curves):
        colour, line = COLOURS[i % len(COLOURS)], LINES[i % len(LINES)]
        # A value holds for an epoch or a step: the repeated last value draws the last one.
        values = (*curve.values, curve.values[-1])
        times = [i / curve.per_epoch for i in range(len(values))]
        style: dict[str, Any] = {"color": colour, "linestyle": line, "linewidth": 1.2}
        axis.plot(times, values, drawstyle="steps-post", **style)
    if shared.linear_below:
        linear_near_zero(axis, shared.linear_below, shared.low, shared.high)
    elif shared.log:
        axis.set_yscale("log")
        log_ticks(axis.yaxis, shared.low, shared.high)
        axis.set_ylim(shared.low / 1.2, shared.high * 1.2)
    else:
        margin = 0.05 * (shared.high - shared.low) or 0.5 * abs(shared.high) or 0.5
        axis.set_ylim(shared.low - margin, shared.high + margin)
    _label(axis)


def _draw_metric(axis: Axes, metric: Sequence[float]) -> None:
    axis.plot(metric, color="black", linewidth=1.2)
    axis.set_title(
        "* drawn against this synthetic training curve; your training will differ", fontsize=9
    )
    axis.set_ylabel("metric\n(lower is better)", fontsize=9)
    _label(axis)


def _label(axis: Axes) -> None:
    axis.set_xlabel("epoch", fontsize=8)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, steps=(1, 2, 5, 10)))
    hide_frame(axis)
    axis.tick_params(labelsize=8)
    axis.grid(color="#dddddd", linewidth=0.6)
