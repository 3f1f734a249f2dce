"""The picture of a trial: its schedules, its metric, and its loss terms, from top to bottom."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from optuna.trial import FrozenTrial

from schedsearch.report.pictures.curves import Curves, curves_of
from schedsearch.report.pictures.style import (
    COLOURS,
    GREY,
    WIDTH,
    hide_frame,
    legend,
    line_style,
    linear_near_zero,
    project_style,
    scale,
    title,
)
from schedsearch.report.text import describe_arguments, describe_families
from schedsearch.report.value_axis import axis_for, is_logarithmic
from schedsearch.space import Space
from schedsearch.storage.attributes import PLAN

#: The height of a panel in inches.
_PANEL = 1.75
#: More schedules than this share one panel, each scaled to its range.
_MAX_PANELS = 3
#: If a schedule changes more often than this, only the first and the last change are marked.
_MAX_MARKS = 16


@project_style()
def draw_trial(space: Space, trial: FrozenTrial, constant: FrozenTrial | None) -> Figure:
    """Draw a trial's schedules, its validation metric, and its loss terms over the epochs.

    The best constant's metric and values are drawn in grey. Vertical lines mark the epochs at which
    a schedule changes; if there are many, only the first and the last one.

    Raises:
        StudyError: the trial has no curve to draw.
    """
    curves = curves_of(space, trial)
    baseline = None
    if constant and constant.number != trial.number:
        baseline = _Baseline(constant.number, curves_of(space, constant))
    panels = _panels(curves)
    height = 0.9 + _PANEL * (len(panels) + 0.4)
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    heights = [1.4 if panel == "metric" else 1.0 for panel in panels]
    axes = figure.subplots(
        len(panels), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights}
    )[:, 0]
    for axis, panel in zip(axes, panels, strict=True):
        _mark_changes(axis, curves, in_legend=axis is axes[0])
        if panel == "metric":
            _draw_metric(axis, curves, baseline, space.objective.metric, trial.number)
        elif panel == "terms":
            _draw_terms(axis, curves.terms)
        elif panel == "schedules":
            _draw_scaled(axis, curves)
        else:
            name = panel.removeprefix("schedule ")
            _draw_schedule(axis, name, curves, baseline, logarithmic=is_logarithmic(space, name))
        height += legend(axis)
    figure.set_figheight(height)
    axes[-1].set_xlabel("epochs trained")
    figure.align_ylabels(list(axes))
    title(figure, _title(space.name, trial, curves, baseline))
    return figure


@dataclass(frozen=True)
class _Baseline:
    """The best constant, to compare a trial with."""

    number: int
    curves: Curves


def _panels(curves: Curves) -> list[str]:
    if len(curves.schedules) > _MAX_PANELS:
        schedules = ["schedules"]
    else:
        schedules = [f"schedule {name}" for name in curves.schedules]
    return [*schedules, "metric", *(["terms"] if curves.terms else [])]


def _mark_changes(axis: Axes, curves: Curves, *, in_legend: bool) -> None:
    hide_frame(axis)
    axis.set_xlim(0, curves.epochs)
    most = max((len(_changes_of(values)) for values in curves.schedules.values()), default=0)
    label = "first and last change" if most > _MAX_MARKS else "a schedule changes"
    for i, epoch in enumerate(change_epochs(curves.schedules, curves.epochs)):
        axis.axvline(
            epoch,
            color="#b8b8b8",
            linewidth=0.8,
            zorder=0,
            label=label if in_legend and i == 0 else None,
        )


def _draw_schedule(
    axis: Axes, name: str, curves: Curves, constant: _Baseline | None, *, logarithmic: bool
) -> None:
    values = curves.schedules[name]
    level = None if constant is None else constant.curves.constants.get(name)
    if constant is not None and level is not None:
        label = f"trial {constant.number}, best constant: {level:.3g}"
        axis.axhline(level, color=GREY, linewidth=1.5, linestyle="--", zorder=1, label=label)
    edges = _edges(values, curves.epochs)
    axis.stairs(values, edges, baseline=None, color=COLOURS[0], linewidth=2, zorder=3)
    if logarithmic:
        _scale_values(axis, [values] if level is None else [values, [level]])
    axis.set_ylabel(name, fontsize=10)


def _scale_values(axis: Axes, curves: Sequence[Sequence[float]]) -> None:
    """Use a logarithmic axis if the values spread far; it is linear near 0 if they come close."""
    if not any(math.isfinite(value) for curve in curves for value in curve):
        return
    values = axis_for(curves, log=True)
    if values.linear_below:
        linear_near_zero(axis, values.linear_below, values.low, values.high)
    else:
        scale(axis, [value for curve in curves for value in curve])


def _draw_scaled(axis: Axes, curves: Curves) -> None:
    for i, (name, values) in enumerate(curves.schedules.items()):
        finite = [value for value in values if math.isfinite(value)]
        low, high = min(finite, default=0.0), max(finite, default=0.0)
        axis.stairs(
            [(value - low) / ((high - low) or 1.0) for value in values],
            _edges(values, curves.epochs),
            baseline=None,
            label=f"{name}: {low:.3g} to {high:.3g}",
            **line_style(i),
        )
    axis.set_ylabel("schedules, each\nscaled to its range", fontsize=10)


def _draw_metric(
    axis: Axes, curves: Curves, constant: _Baseline | None, metric: str, number: int
) -> None:
    beside: Sequence[float] = ()
    if constant is not None:
        beside = constant.curves.metric
        label = f"trial {constant.number}, best constant"
        epochs = range(1, len(beside) + 1)
        axis.plot(epochs, beside, color=GREY, linewidth=1.5, linestyle="--", label=label)
    epochs = range(1, curves.epochs + 1)
    axis.plot(epochs, curves.metric, color=COLOURS[0], linewidth=2, label=f"trial {number}")
    scale(axis, [*curves.metric, *beside])
    axis.set_ylabel(metric, fontsize=10)


def _draw_terms(axis: Axes, terms: Mapping[str, Sequence[float]]) -> None:
    for i, (name, values) in enumerate(terms.items()):
        axis.plot(range(1, len(values) + 1), values, label=name, **line_style(i))
    scale(axis, [value for values in terms.values() for value in values])
    if len(terms) == 1:
        axis.set_ylabel(f"loss term\n{next(iter(terms))}", fontsize=10)
    else:
        axis.set_ylabel("loss terms", fontsize=10)


def _edges(values: Sequence[float], epochs: int) -> list[float]:
    """Return the times, in epochs, at which values begin, and the end of the last one.

    >>> _edges([0.1, 0.2, 0.3, 0.4], epochs=2)
    [0.0, 0.5, 1.0, 1.5, 2.0]
    """
    per_epoch = max(1, len(values) // max(1, epochs))
    return [i / per_epoch for i in range(len(values) + 1)]


def change_epochs(schedules: Mapping[str, Sequence[float]], epochs: int) -> list[float]:
    """Return the times at which a schedule changes: all of them, or the first and the last.

    >>> change_epochs({"lr": [0.1, 0.1, 0.01, 0.01]}, epochs=4)
    [2.0]
    """
    marked: set[float] = set()
    for values in schedules.values():
        edges = _edges(values, epochs)
        times = [edges[i] for i in _changes_of(values)]
        marked.update(times if len(times) <= _MAX_MARKS else (times[0], times[-1]))
    return sorted(marked)


def _changes_of(values: Sequence[float]) -> list[int]:
    return [epoch for epoch in range(1, len(values)) if values[epoch] != values[epoch - 1]]


def _constants(curves: Curves) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in curves.constants.items())


def _title(study: str, trial: FrozenTrial, curves: Curves, constant: _Baseline | None) -> list[str]:
    tables = trial.user_attrs[PLAN]
    families = [
        f"{name}: {describe_families(table['families'])}"
        for name, table in tables["hyperparameters"].items()
        if table.get("families") and "constant" not in table["families"]
    ]
    groups = [
        f"{', '.join(group['members'])}: {describe_families(group['families'])}"
        for group in tables.get("groups", {}).values()
    ]
    lines = families + groups or ["constants only"]
    if curves.constants:
        compared = f"; best constant: {_constants(constant.curves)}" if constant else ""
        lines.append(f"constant: {_constants(curves)}{compared}")
    if arguments := tables.get("arguments"):
        lines.append(describe_arguments(arguments))
    return [f"{study}, trial {trial.number}", *lines]
