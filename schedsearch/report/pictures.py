"""Pictures of trials, by matplotlib's object interface: no window, no state between two."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter
from optuna.trial import FrozenTrial

from schedsearch.errors import StudyError
from schedsearch.report.text import describe_families
from schedsearch.storage import StudyHandle

#: Inches; at 150 dots each, twice the width of a page's column.
_WIDTH, _PANEL = 8.0, 1.75
_DOTS = 150
#: Dark enough to read and different in grey, too (after Okabe and Ito); the lines differ as well.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#7a3b69", "#000000")
_LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
_GREY = "#8a8a8a"
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
        name: _numbers(v, every)[: len(reported)] if isinstance(v, list) else [v] * len(reported)
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


def draw_trial(study: StudyHandle, trial: FrozenTrial) -> Figure:
    """Draw a trial's schedules, its validation metric, and its loss terms over the epochs.

    The best constant's metric, and the values it holds, stand beside them in grey. Vertical lines
    mark the epochs in which a schedule changes; of one that always does, its first and last change.

    Raises:
        StudyError: the trial has no curve to draw.
    """
    curves = curves_of(trial)
    constants = [best for best in study.complete(constant=True)[:1] if best.number != trial.number]
    constant = curves_of(constants[0]) if constants else None
    panels = _panels(curves)
    figure = Figure(figsize=(_WIDTH, 0.9 + _PANEL * (len(panels) + 0.4)), layout="constrained")
    heights = [1.0] * len(panels)
    at_metric = panels.index("metric")
    heights[at_metric] = 1.4
    axes = figure.subplots(
        len(panels), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights}
    )[:, 0]
    for axis, panel in zip(axes, panels, strict=True):
        _prepare(axis, curves)
        if panel == "metric":
            label = f"trial {constants[0].number}, best constant" if constants else ""
            _draw_metric(axis, curves, constant, label, study.space.objective.metric, trial.number)
        elif panel == "terms":
            _draw_terms(axis, curves.terms)
        elif panel == "schedules":
            _draw_together(axis, curves.schedules)
        else:
            _draw_schedule(axis, panel.removeprefix("schedule "), curves, constant)
    axes[-1].set_xlabel("epochs trained")
    figure.align_ylabels(list(axes))
    figure.suptitle(_title(study, trial, curves, constant), fontsize=10, x=0.01, ha="left")
    for text in figure.findobj(Text):
        text.set_parse_math(False)  # a dollar in a name is a dollar
    return figure


def image(figure: Figure, kind: str) -> bytes:
    """Return a figure as a file's content: "png" or "svg", without a date, so always the same."""
    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "schedsearch"}):
        metadata = {"Date": None} if kind == "svg" else {}
        figure.savefig(buffer, format=kind, dpi=_DOTS, metadata=metadata)
    return buffer.getvalue()


def _panels(curves: Curves) -> list[str]:
    if len(curves.schedules) > _OWN_PANELS:
        schedules = ["schedules"]
    else:
        schedules = [f"schedule {name}" for name in curves.schedules]
    return [*schedules, "metric", *(["terms"] if curves.terms else [])]


def _prepare(axis: Axes, curves: Curves) -> None:
    axis.set_xlim(0, curves.epochs)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=9)
    for epoch in changes(curves.schedules):
        axis.axvline(epoch, color="#c8c8c8", linewidth=0.8, zorder=0)


def _draw_schedule(axis: Axes, name: str, curves: Curves, constant: Curves | None) -> None:
    values = curves.schedules[name]
    held = None if constant is None else constant.held.get(name)
    if held is not None:
        axis.axhline(held, color=_GREY, linewidth=1.5, linestyle="--", zorder=1)
    axis.stairs(
        values, range(len(values) + 1), baseline=None, color=_COLOURS[0], linewidth=2, zorder=3
    )
    _scale(axis, values if held is None else [*values, held])
    axis.set_ylabel(name, fontsize=10)


def _draw_together(axis: Axes, schedules: Mapping[str, Sequence[float]]) -> None:
    for i, (name, values) in enumerate(schedules.items()):
        low, high = min(values), max(values)
        axis.stairs(
            [(value - low) / (high - low) for value in values],
            range(len(values) + 1),
            baseline=None,
            label=f"{name}: {low:.3g} to {high:.3g}",
            **_style(i),
        )
    axis.set_ylabel("schedules, each from\nits least to its greatest", fontsize=10)
    _legend(axis)


def _draw_metric(
    axis: Axes, curves: Curves, constant: Curves | None, label: str, metric: str, number: int
) -> None:
    if constant is not None:
        epochs = range(1, constant.epochs + 1)
        axis.plot(epochs, constant.metric, color=_GREY, linewidth=1.5, linestyle="--", label=label)
    epochs = range(1, curves.epochs + 1)
    axis.plot(epochs, curves.metric, color=_COLOURS[0], linewidth=2, label=f"trial {number}")
    _scale(axis, [*curves.metric, *(constant.metric if constant else [])])
    axis.set_ylabel(metric, fontsize=10)
    _legend(axis)


def _draw_terms(axis: Axes, terms: Mapping[str, Sequence[float]]) -> None:
    for i, (name, values) in enumerate(terms.items()):
        axis.plot(range(1, len(values) + 1), values, label=name, **_style(i))
    _scale(axis, [value for values in terms.values() for value in values])
    if len(terms) == 1:
        axis.set_ylabel(f"loss term\n{next(iter(terms))}", fontsize=10)
    else:
        axis.set_ylabel("loss terms", fontsize=10)
        _legend(axis)


def _style(i: int) -> dict[str, Any]:
    colour = _COLOURS[i % len(_COLOURS)]
    line = _LINES[(i + i // len(_COLOURS)) % len(_LINES)]  # each pair once before they repeat
    return {"color": colour, "linestyle": line, "linewidth": 1.8}


def _legend(axis: Axes) -> None:
    axis.legend(fontsize=9, frameon=False, loc="best")


def _scale(axis: Axes, values: Sequence[float]) -> None:
    """Take a logarithmic axis where the values spread over more than a factor of 10."""
    known = [value for value in values if math.isfinite(value)]
    if known and min(known) > 0 and max(known) > 10 * min(known):
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.yaxis.set_minor_locator(NullLocator())


def changes(schedules: Mapping[str, Sequence[float]]) -> list[int]:
    """Return after how many epochs a schedule changes its value: all, or the first and the last.

    >>> changes({"lr": [0.1, 0.1, 0.01, 0.01]})
    [2]
    """
    marked: set[int] = set()
    for values in schedules.values():
        found = [epoch for epoch in range(1, len(values)) if values[epoch] != values[epoch - 1]]
        marked.update(found if len(found) <= _MARKS else (found[0], found[-1]))
    return sorted(marked)


def _held(curves: Curves) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in curves.held.items())


def _title(study: StudyHandle, trial: FrozenTrial, curves: Curves, constant: Curves | None) -> str:
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
        beside = f"; by the constant: {_held(constant)}" if constant else ""
        lines.append(f"held: {_held(curves)}{beside}")
    return "\n".join([f"{study.name}, trial {trial.number}", *(_short(line) for line in lines)])


def _short(line: str, length: int = 95) -> str:
    return line if len(line) <= length else f"{line[: length - 1]}…"
