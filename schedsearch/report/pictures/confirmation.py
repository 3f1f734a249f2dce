"""The picture of a confirmation: differences to each constant, with intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from schedsearch.confirmation.verdicts import best_first, plan_label
from schedsearch.report.pictures.style import COLOURS, GREY, WIDTH, hide_frame, project_style, title

_MARKS = ("o", "s", "^", "D", "v", "P")
#: Heights in inches: one interval, and the margin between the schedules.
_LINE, _MARGIN = 0.2, 0.25


@project_style()
def draw_confirmation(study: str, result: Mapping[str, Any]) -> Figure:
    """Draw the mean paired difference between each schedule and each constant, with intervals.

    The intervals decide the verdict: a schedule is better if all lie on the better side of zero,
    and worse if one lies on the other side.
    """
    lower = result["direction"] == "minimize"
    plans = best_first(result, "plans")
    constants = result["constants"]
    inches = len(plans) * (_LINE * len(constants) + _MARGIN) + 1.9 + _LINE * len(constants)
    figure = Figure(figsize=(WIDTH, inches), layout="constrained")
    axis = figure.add_subplot()
    hide_frame(axis)
    axis.axvline(0, color="#000000", linewidth=1, zorder=1, label="no difference")
    _shade_better(axis, plans, lower=lower)
    for row, plan in enumerate(plans):
        for i, against in enumerate(plan["against"]):
            at = row + (i - (len(constants) - 1) / 2) * 0.7 / len(constants)
            label = f"against {plan_label(constants[i])}, mean {constants[i]['mean']:.4g}"
            _draw_interval(axis, against, at, i, label if row == 0 else None)
    axis.set_yticks(range(len(plans)), [_label(plan) for plan in plans], fontsize=9)
    axis.set_ylim(len(plans) - 0.5, -0.5)
    better = "lower" if lower else "higher"
    axis.set_xlabel(f"mean difference in {result['metric']}, schedule minus constant")
    figure.legend(loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    first, stop = result["seeds"]
    split = "test split" if result["test"] else "validation split"
    head = f"{study}, confirmation: {stop - first} fresh seeds, {split}, paired by seed"
    title(
        figure,
        [head, f"{better} is better: a schedule wins if all its intervals lie in the shaded area"],
    )
    return figure


def _shade_better(axis: Axes, plans: Sequence[Mapping[str, Any]], *, lower: bool) -> None:
    pairs = [pair for plan in plans for pair in plan["against"]]
    every = [end for pair in pairs for end in (*pair["interval"], pair["difference"])]
    ends = [end for end in every if math.isfinite(end)]  # with few seeds, intervals are infinite
    reach = 1.08 * max(map(abs, ends)) or 1.0
    low, high = min(*ends, 0.0) - 0.08 * reach, max(*ends, 0.0) + 0.08 * reach
    axis.set_xlim(low, high)
    better = (low, 0) if lower else (0, high)
    axis.axvspan(*better, color="#ececec", zorder=0, label="the schedule is better")


def _draw_interval(
    axis: Axes, against: Mapping[str, Any], at: float, i: int, label: str | None
) -> None:
    # An infinite interval ends at the edges of the picture.
    low, high = np.clip(against["interval"], *axis.get_xlim())
    middle = against["difference"]
    axis.errorbar(
        middle,
        at,
        xerr=[[max(0.0, middle - low)], [max(0.0, high - middle)]],
        fmt=_MARKS[i % len(_MARKS)],
        color=COLOURS[i % len(COLOURS)] if i < len(COLOURS) else GREY,
        markersize=5,
        linewidth=1.5,
        capsize=3,
        label=label,
        zorder=3,
    )


def _label(plan: Mapping[str, Any]) -> str:
    return f"{plan_label(plan)}\nmean {plan['mean']:.4g}\n{plan['verdict']}"
