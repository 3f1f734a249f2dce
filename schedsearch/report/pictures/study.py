"""The picture of a study: best value so far, values by family, and parameter importances."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence, Sized
from functools import partial
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna.trial import FrozenTrial

from schedsearch.errors import StudyError
from schedsearch.report.optimization_history import (
    FinishedTrial,
    best_so_far_words,
    by_family,
    importances,
    improvements,
    optimization_history,
)
from schedsearch.report.pictures.style import (
    COLOURS,
    GREY,
    LEGEND_ROW,
    WIDTH,
    hide_frame,
    legend,
    project_style,
    scale,
    title,
)
from schedsearch.space import Objective, Space
from schedsearch.storage.attributes import is_superseded

#: Heights in inches: the panel of best values, one row of a panel, and a panel's margins.
_BEST, _ROW, _MARGINS = 2.8, 0.25, 0.75


@project_style()
def draw_study(space: Space, rows: Sequence[FrozenTrial]) -> Figure:
    """Draw the best value over trials and over trained epochs, the families, and importances.

    Args:
        space: of the study.
        rows: its trials, with the attempts that were queued again.

    Raises:
        StudyError: the study has no complete trial.
    """
    trials = [row for row in rows if not is_superseded(row)]
    history = optimization_history(space, rows)
    best = improvements(history)
    if not best:
        raise StudyError(f"study {space.name} has no complete trial yet: there is nothing to draw")
    panels: list[tuple[float, Callable[[Axes], None]]] = []
    if families := by_family(space, trials):
        drawn = partial(_draw_families, families=families, objective=space.objective)
        panels.append((_height(families) + LEGEND_ROW, drawn))
    if shares := importances(space, trials):
        panels.append((_height(shares), partial(_draw_importances, shares=shares)))
    heights = [_BEST, *(height for height, _ in panels)]
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.5), layout="constrained")
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    left, right = parts[0].subplots(1, 2, sharey=True)
    _draw_best(left, right, history, space.objective)
    # Above the axes: inside, the legend would hide trials.
    handles = left.get_legend_handles_labels()
    parts[0].legend(*handles, fontsize=9, frameon=False, loc="outside upper center", ncols=4)
    for part, (_, draw) in zip(parts[1:], panels, strict=True):
        draw(part.subplots())
    best_line = f"best: {space.objective.metric} {best[-1].value:.5g}, trial {best[-1].number}"
    title(
        figure,
        [f"{space.name}: {len(history)} trials ended, {history[-1].epochs:,} epochs", best_line],
    )
    return figure


def _height(groups: Mapping[str, Sized]) -> float:
    return _ROW * (sum(map(len, groups.values())) + len(groups)) + _MARGINS


# --- the best so far -----------------------------------------------------------------------------


def _draw_best(
    left: Axes, right: Axes, history: Sequence[FinishedTrial], objective: Objective
) -> None:
    _draw_best_over(left, history, [trial.position for trial in history], objective)
    _draw_best_over(right, history, [trial.epochs for trial in history], objective)
    left.set_xlabel("trials ended")
    right.set_xlabel("epochs trained in all trials")
    better = "lower" if objective.direction == "minimize" else "higher"
    left.set_ylabel(f"{objective.metric}\n({better} is better)", fontsize=10)
    scale(left, [trial.value for trial in history if trial.value is not None])


def _draw_best_over(
    axis: Axes, history: Sequence[FinishedTrial], at: Sequence[int], objective: Objective
) -> None:
    hide_frame(axis)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    complete = [
        (x, trial.value, trial.is_constant)
        for x, trial in zip(at, history, strict=True)
        if trial.value is not None
    ]
    for constant, mark, label in ((False, "o", "schedule"), (True, "s", "constant")):
        chosen = [(x, value) for x, value, is_constant in complete if is_constant == constant]
        axis.scatter(
            [x for x, _ in chosen],
            [value for _, value in chosen],
            s=12,
            marker=mark,
            facecolors="none" if constant else "#9dbcd4",
            edgecolors="#555555" if constant else "none",
            linewidths=0.8,
            label=label,
        )
    position_of = dict(zip((trial.number for trial in history), at, strict=True))
    best = improvements(history)
    steps = [(position_of[trial.number], trial.value) for trial in best]
    steps.append((at[-1], best[-1].value))
    label = best_so_far_words(best, objective)
    axis.step(*zip(*steps, strict=True), where="post", color=COLOURS[0], linewidth=2, label=label)
    constants = improvements(history, constants=True)
    if constants:
        best_constant = constants[-1]
        label = f"best constant: {best_constant.value:.4g}, trial {best_constant.number}"
        assert best_constant.value is not None
        axis.axhline(best_constant.value, color=GREY, linewidth=1.5, linestyle="--", label=label)
    axis.set_xlim(0, at[-1] * 1.02)


# --- families and parameters ---------------------------------------------------------------------


def _draw_families(
    axis: Axes, families: Mapping[str, Mapping[str, Sequence[float]]], objective: Objective
) -> None:
    hide_frame(axis)
    order = {
        name: sorted(found, key=lambda family: _best(found[family], objective))
        for name, found in families.items()
    }
    at = _rows(
        axis,
        {
            name: [f"{family} ({len(families[name][family])})" for family in found]
            for name, found in order.items()
        },
    )
    values = [families[name][family] for name, found in order.items() for family in found]
    dots = [(value, row) for found, row in zip(values, at, strict=True) for value in found]
    values_at, rows_at = [value for value, _ in dots], [row for _, row in dots]
    axis.scatter(values_at, rows_at, s=12, color="#9dbcd4", label="a trial")
    nonempty = [(found, row) for found, row in zip(values, at, strict=True) if found]
    rows = [row for _, row in nonempty]
    medians = [statistics.median(found) for found, _ in nonempty]
    best = [min(found, key=objective.to_minimize) for found, _ in nonempty]
    style: dict[str, Any] = {"zorder": 3, "linewidths": 2}
    axis.scatter(medians, rows, marker="|", s=110, color="#000000", label="median", **style)
    axis.scatter(best, rows, marker="D", s=16, color=COLOURS[1], label="best value", **style)
    scale(axis, values_at, horizontal=True)
    axis.set_xlabel(f"{objective.metric} of complete trials by family (number of trials)")
    legend(axis)


def _best(values: Sequence[float], objective: Objective) -> float:
    return min(map(objective.to_minimize, values), default=math.inf)


def _draw_importances(axis: Axes, shares: Mapping[str, Mapping[str, float]]) -> None:
    hide_frame(axis)
    order = {
        family: sorted(found, key=lambda name: -found[name]) for family, found in shares.items()
    }
    at = _rows(axis, order)
    widths = [shares[family][name] for family, found in order.items() for name in found]
    axis.barh(at, widths, height=0.6, color="#9dbcd4", edgecolor="#555555", linewidth=0.6)
    axis.set_xlim(0, 1)
    axis.set_xlabel("importance of each parameter within its family (the sum is 1)")


def _rows(axis: Axes, groups: Mapping[str, Sequence[str]]) -> list[int]:
    """Label the rows, with a heading for each group; return the positions of the members' rows."""
    labels = [(label, head) for head, of in groups.items() for label in (None, *of)]
    axis.set_yticks(range(len(labels)), [label or head for label, head in labels], fontsize=9)
    for tick, (label, _) in zip(axis.yaxis.get_major_ticks(), labels, strict=True):
        if label is None:
            tick.label1.set_fontweight("bold")
            tick.tick1line.set_visible(False)
    axis.set_ylim(len(labels) - 0.5, -0.5)
    return [i for i, (label, _) in enumerate(labels) if label is not None]
