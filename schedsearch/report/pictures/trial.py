"""The picture of a trial: its schedules above, its metric and its loss terms below."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from optuna.trial import FrozenTrial

from schedsearch.errors import StudyError
from schedsearch.report.pictures.style import (
    COLOURS,
    GREY,
    WIDTH,
    bare,
    legend,
    line_style,
    scale,
    title,
)
from schedsearch.report.preview import is_logarithmic
from schedsearch.report.text import describe_families
from schedsearch.space import Space

#: Inches of a panel.
_PANEL = 1.75
#: More schedules than that share one panel, each between its own least and greatest value.
_OWN_PANELS = 3
#: More changes than that, and only the first and the last are marked.
_MARKS = 16


@dataclass(frozen=True)
class Curves:
    """What a picture shows of a trial, by epoch.

    Attributes:
        schedules: values in force, by hyperparameter; only those that move.
        held: the constant hyperparameters, with their values.
        metric: the objective after each epoch; NaN where it is unknown.
        terms: means of the loss terms.
    """

    schedules: Mapping[str, Sequence[float]]
    held: Mapping[str, float]
    metric: Sequence[float]
    terms: Mapping[str, Sequence[float]]

    @property
    def epochs(self) -> int:
        """How many epochs were trained."""
        return len(self.metric)


def curves_of(trial: FrozenTrial) -> Curves:
    """Return what a trial's attributes hold.

    Raises:
        StudyError: the trial has no finished epoch, or has not ended.
    """
    reported = [trial.intermediate_values[step] for step in sorted(trial.intermediate_values)]
    values = trial.user_attrs.get("values")
    every = trial.user_attrs.get("every", 1)
    if not reported or values is None:
        raise StudyError(
            f"trial {trial.number} has no curve to draw: its state is {trial.state.name.lower()}"
        )
    schedules = {name: v for name, v in values.items() if isinstance(v, list)}
    terms = {
        name: _numbers(v, every)[: len(reported)]
        if isinstance(v, list)
        else _numbers([v], len(reported))
        for name, v in trial.user_attrs.get("terms", {}).items()
    }
    return Curves(
        schedules={name: _numbers(v, every)[: len(reported)] for name, v in schedules.items()},
        held={name: v for name, v in values.items() if name not in schedules},
        metric=reported,
        terms=terms,
    )


def _numbers(values: Sequence[float | None], every: int) -> list[float]:
    """Return a number for each epoch; of a long run only each `every`-th one was kept."""
    known = [math.nan if value is None else value for value in values]
    return [value for value in known for _ in range(every)]


def draw_trial(space: Space, trial: FrozenTrial, constant: FrozenTrial | None) -> Figure:
    """Draw a trial's schedules, its validation metric, and its loss terms over the epochs.

    The best constant's metric, and the values it holds, stand beside them in grey. Vertical lines
    mark the epochs in which a schedule changes; of one that always does, its first and last change.

    Raises:
        StudyError: the trial has no curve to draw.
    """
    curves = curves_of(trial)
    held = _Held.of(constant) if constant and constant.number != trial.number else None
    panels = _panels(curves)
    figure = Figure(figsize=(WIDTH, 0.9 + _PANEL * (len(panels) + 0.4)), layout="constrained")
    heights = [1.4 if panel == "metric" else 1.0 for panel in panels]
    axes = figure.subplots(
        len(panels), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights}
    )[:, 0]
    for axis, panel in zip(axes, panels, strict=True):
        _prepare(axis, curves, named=axis is axes[0])
        if panel == "metric":
            _draw_metric(axis, curves, held, space.objective.metric, trial.number)
        elif panel == "terms":
            _draw_terms(axis, curves.terms)
        elif panel == "schedules":
            _draw_together(axis, curves.schedules)
        else:
            name = panel.removeprefix("schedule ")
            _draw_schedule(axis, name, curves, held, logarithmic=is_logarithmic(space, name))
        if axis.get_legend_handles_labels()[1]:
            legend(axis)
    axes[-1].set_xlabel("epochs trained")
    figure.align_ylabels(list(axes))
    title(figure, _title(space.name, trial, curves, held))
    return figure


@dataclass(frozen=True)
class _Held:
    """The best constant, which a trial is drawn beside."""

    number: int
    curves: Curves

    @classmethod
    def of(cls, trial: FrozenTrial) -> _Held:
        return cls(trial.number, curves_of(trial))


def _panels(curves: Curves) -> list[str]:
    if len(curves.schedules) > _OWN_PANELS:
        schedules = ["schedules"]
    else:
        schedules = [f"schedule {name}" for name in curves.schedules]
    return [*schedules, "metric", *(["terms"] if curves.terms else [])]


def _prepare(axis: Axes, curves: Curves, *, named: bool) -> None:
    bare(axis)
    axis.set_xlim(0, curves.epochs)
    thinned = any(len(_moves(values)) > _MARKS for values in curves.schedules.values())
    label = "first and last change" if thinned else "a schedule changes"
    for i, epoch in enumerate(changes(curves.schedules)):
        axis.axvline(
            epoch,
            color="#b8b8b8",
            linewidth=0.8,
            zorder=0,
            label=label if named and i == 0 else None,
        )


def _draw_schedule(
    axis: Axes, name: str, curves: Curves, constant: _Held | None, *, logarithmic: bool
) -> None:
    values = curves.schedules[name]
    held = None if constant is None else constant.curves.held.get(name)
    if constant is not None and held is not None:
        label = f"trial {constant.number}, best constant: {held:.3g}"
        axis.axhline(held, color=GREY, linewidth=1.5, linestyle="--", zorder=1, label=label)
    axis.stairs(
        values, range(len(values) + 1), baseline=None, color=COLOURS[0], linewidth=2, zorder=3
    )
    if logarithmic:
        scale(axis, values if held is None else [*values, held])
    axis.set_ylabel(name, fontsize=10)


def _draw_together(axis: Axes, schedules: Mapping[str, Sequence[float]]) -> None:
    for i, (name, values) in enumerate(schedules.items()):
        known = [value for value in values if math.isfinite(value)]
        low, high = min(known, default=0.0), max(known, default=0.0)
        axis.stairs(
            [(value - low) / ((high - low) or 1.0) for value in values],
            range(len(values) + 1),
            baseline=None,
            label=f"{name}: {low:.3g} to {high:.3g}",
            **line_style(i),
        )
    axis.set_ylabel("schedules, each from\nits least to its greatest", fontsize=10)


def _draw_metric(
    axis: Axes, curves: Curves, constant: _Held | None, metric: str, number: int
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


def changes(schedules: Mapping[str, Sequence[float]]) -> list[int]:
    """Return after how many epochs a schedule changes its value: all, or the first and the last.

    >>> changes({"lr": [0.1, 0.1, 0.01, 0.01]})
    [2]
    """
    marked: set[int] = set()
    for values in schedules.values():
        found = _moves(values)
        marked.update(found if len(found) <= _MARKS else (found[0], found[-1]))
    return sorted(marked)


def _moves(values: Sequence[float]) -> list[int]:
    return [epoch for epoch in range(1, len(values)) if values[epoch] != values[epoch - 1]]


def _held(curves: Curves) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in curves.held.items())


def _title(study: str, trial: FrozenTrial, curves: Curves, constant: _Held | None) -> list[str]:
    tables = trial.user_attrs["plan"]
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
    if curves.held:
        beside = f"; by the constant: {_held(constant.curves)}" if constant else ""
        lines.append(f"held: {_held(curves)}{beside}")
    return [f"{study}, trial {trial.number}", *lines]
