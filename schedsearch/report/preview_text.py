"""A preview in the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from schedsearch.report.braille import plot, side_by_side
from schedsearch.report.preview import Preview

_SIZE = (36, 5)
#: At so many times values are shown as numbers, and the width of a number.
_TIMES, _WIDTH = 6, 10


def preview_lines(preview: Preview, width: int) -> Iterator[str]:
    """Yield one plot for each family; all plots of a hyperparameter share their scale.

    Below them is a table with the values of one schedule of each family.
    """
    for hyperparameter, families in preview.panels():
        axis = preview.axes[hyperparameter]
        yield hyperparameter + axis.remark
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
                    scale=axis.position,
                    per_unit=curves[0].per_epoch,
                )
            )
        yield from side_by_side(plots, width)
    if preview.has_closed_loops:
        low, high = min(preview.metric), max(preview.metric)
        yield "* drawn against a synthetic training curve; its metric, lower is better:"
        yield from side_by_side([plot("", [preview.metric], _SIZE, low, high)], width)
    yield from _table(preview)


def _table(preview: Preview) -> Iterator[str]:
    """Yield the values of the first schedule of each family at a few times, in epochs."""
    finest = max(curve.per_epoch for curve in preview.curves)
    last = preview.horizon * finest - 1
    times = sorted({round(i * last / (_TIMES - 1)) for i in range(_TIMES)})
    header = "".join(f"{time / finest:{_WIDTH}.4g}" for time in times)
    yield "values of one schedule of each family, by epoch"
    yield header
    for hyperparameter, families in preview.panels():
        yield hyperparameter
        for _, curves in families:
            first = curves[0]
            values = [first.values[time * first.per_epoch // finest] for time in times]
            numbers = "".join(f"{value:{_WIDTH}.4g}" for value in values)
            yield from (f"  {first.schedule}", numbers)
    for argument, domain in preview.arguments.items():
        yield from (f"arguments.{argument}", f"  {domain}")
