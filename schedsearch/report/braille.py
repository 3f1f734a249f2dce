"""Line plots for the terminal: each braille character holds two by four dots."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

#: The bits of a braille character, by row and column of its dots (Unicode, block U+2800).
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_LABEL = 8


def plot(
    title: str,
    series: Sequence[Sequence[float]],
    size: tuple[int, int],
    low: float,
    high: float,
    *,
    scale: Callable[[float], float] = float,
    unit: str = "epoch",
    per_unit: int = 1,
) -> list[str]:
    """Return the lines of text of a plot.

    Args:
        title: the first line.
        series: the curves; each has one value per epoch or other `unit`. NaN leaves a gap, and
            values outside the axis are drawn at its end.
        size: width and height in characters.
        low: the value at the bottom of the vertical axis.
        high: the value at the top.
        scale: returns the height of a value on the vertical axis.
        unit: the label of the horizontal axis.
        per_unit: the number of values in each unit.
    """
    width, height = size
    columns = width - _LABEL - 2
    canvas = [[0] * columns for _ in range(height)]
    last = max(1, max(map(len, series)) - 1)
    for values in series:
        scaled = [scale(min(max(value, low), high)) for value in values]
        for x, y in _dots(scaled, last, scale(low), scale(high), 2 * columns, 4 * height):
            canvas[y // 4][x // 2] |= _DOTS[y % 4][x % 2]
    labels = [""] * height
    labels[0], labels[-1] = f"{high:.3g}", f"{low:.3g}"
    lines = [f"{title[:width]:{width}}"]
    for label, row in zip(labels, canvas, strict=True):
        dots = "".join(chr(0x2800 + bits) for bits in row)
        lines.append(f"{label:>{_LABEL}} ┤"[: _LABEL + 2] + dots)
    end = f"{unit} {round(last / per_unit)}"
    lines.append(f"{'':{_LABEL}} 0{end:>{columns}}")
    return lines


def _dots(
    values: Sequence[float], last: int, low: float, high: float, wide: int, tall: int
) -> Iterator[tuple[int, int]]:
    """Yield the dots of a line, without gaps between one value and the next that is not NaN."""
    span = (high - low) or 1.0
    points = [
        (round(i / last * (wide - 1)), round((high - value) / span * (tall - 1)))
        for i, value in enumerate(values)
        if not math.isnan(value)
    ]
    yield from points[:1]
    for (x0, y0), (x1, y1) in pairwise(points):
        steps = max(abs(x1 - x0), abs(y1 - y0), 1)
        for step in range(steps + 1):
            part = step / steps
            yield round(x0 + part * (x1 - x0)), round(y0 + part * (y1 - y0))


def side_by_side(plots: Sequence[list[str]], width: int) -> Iterator[str]:
    """Yield the lines of plots of equal size, as many in a row as fit the terminal's width."""
    across = max(1, width // (len(plots[0][0]) + 2)) if plots else 1
    for first in range(0, len(plots), across):
        for lines in zip(*plots[first : first + across], strict=True):
            yield "  ".join(lines).rstrip()
        yield ""
