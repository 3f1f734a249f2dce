"""What all pictures share: lines that differ in grey too, axes, legends, and the file.

Drawn by matplotlib's object interface: no window, no state between two pictures.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

#: Inches; at 150 dots each, twice the width of a page's column.
WIDTH = 8.0
_DOTS = 150
#: Dark enough to read and different in grey, too (after Okabe and Ito); the lines differ as well.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#7a3b69", "#000000")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
GREY = "#8a8a8a"
#: A logarithmic axis over more powers of ten has no room for ticks between them.
_POWERS = 3


def image(figure: Figure, kind: str) -> bytes:
    """Return a figure as a file's content: "png" or "svg", without a date, so always the same."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)  # a dollar in a name is a dollar
    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "schedsearch"}):
        metadata = {"Date": None} if kind == "svg" else {}
        figure.savefig(buffer, format=kind, dpi=_DOTS, metadata=metadata)
    return buffer.getvalue()


def line_style(i: int) -> dict[str, Any]:
    """Return the colour and dashes of the i-th of several lines: each pair once, then again."""
    colour = COLOURS[i % len(COLOURS)]
    line = LINES[(i + i // len(COLOURS)) % len(LINES)]
    return {"color": colour, "linestyle": line, "linewidth": 1.8}


def bare(axis: Axes) -> None:
    """Leave out the frame's upper and right side."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=9)


def legend(axis: Axes) -> None:
    """Name what the axis shows, where it hides least."""
    axis.legend(fontsize=9, frameon=False, loc="best")


def title(figure: Figure, lines: Sequence[str]) -> None:
    """Put a title at the figure's upper left, in lines that fit its width."""
    figure.suptitle("\n".join(map(_short, lines)), fontsize=10, x=0.01, ha="left")


def _short(line: str, length: int = 95) -> str:
    return line if len(line) <= length else f"{line[: length - 1]}…"


def scale(axis: Axes, values: Sequence[float], *, across: bool = False) -> None:
    """Take a logarithmic axis where the values spread over more than a factor of 10."""
    known = [value for value in values if math.isfinite(value)]
    if known and min(known) > 0 and max(known) > 10 * min(known):
        (axis.set_xscale if across else axis.set_yscale)("log")
        log_ticks(axis.xaxis if across else axis.yaxis, min(known), max(known))


def log_ticks(drawn: Axis, low: float, high: float) -> None:
    """Label a logarithmic axis by 1, 2 and 5, or over many powers of ten by these alone."""
    drawn.set_major_locator(LogLocator(subs=(1,) if high > 10**_POWERS * low else (1, 2, 5)))
    drawn.set_major_formatter(StrMethodFormatter("{x:g}"))
    drawn.set_minor_locator(NullLocator())
