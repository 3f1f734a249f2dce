"""A preview in the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from schedsearch.report.braille import plot, side_by_side
from schedsearch.report.preview import Preview

_SIZE = (36, 5)


def preview_lines(preview: Preview, width: int) -> Iterator[str]:
    """Yield one plot for each family; all plots of a hyperparameter share their scale."""
    for hyperparameter, families in preview.panels():
        axis = preview.axes[hyperparameter]
        yield hyperparameter + (" (log scale)" if axis.log else "")
        plots = []
        for family, curves in families:
            mark = " *" if any(curve.is_closed_loop for curve in curves) else ""
            series = [curve.values for curve in curves]
            plots.append(
                plot(
                    f"  {family}{mark}",
                    series,
                    _SIZE,
                    axis.low,
                    axis.high,
                    log=axis.log,
                    per_unit=curves[0].per_epoch,
                )
            )
        yield from side_by_side(plots, width)
    if preview.has_closed_loops:
        low, high = min(preview.metric), max(preview.metric)
        yield "* drawn against a synthetic training curve; its metric, lower is better:"
        yield from side_by_side([plot("", [preview.metric], _SIZE, low, high)], width)
