"""The common style of all pictures: lines, axes, legends, and the file formats.

Pictures use matplotlib's object interface: it opens no window and keeps no global state.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from matplotlib import rc_context, rcParamsDefault
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import (
    LogLocator,
    NullLocator,
    StrMethodFormatter,
    SymmetricalLogLocator,
)

from schedsearch.printable import printable

#: Width in inches: with 150 dots per inch, twice the width of a page's column.
WIDTH = 8.0
_DOTS_PER_INCH = 150
#: Colours that also differ in greyscale (after Okabe and Ito); line styles differ as well.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#7a3b69", "#000000")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
GREY = "#8a8a8a"
#: Inches of a legend: the height of a row, and the widths of a line, of a letter, and of what
#: stands beside the axis.
LEGEND_ROW = 0.2
_LEGEND_HANDLE, _LEGEND_LETTER, _LEGEND_MARGIN = 0.55, 0.075, 1.0
#: Everything that a user could set, except the backend: no window is ever opened.
_SETTINGS: Any = {
    **{key: value for key, value in rcParamsDefault.items() if not key.startswith("backend")},
    "svg.hashsalt": "schedsearch",
    "text.parse_math": False,  # a dollar sign in a name is no formula
}
#: A logarithmic axis over more powers of ten than this has ticks at these only.
_POWERS_WITH_TICKS_BETWEEN = 3


@contextmanager
def project_style() -> Iterator[None]:
    """Draw with matplotlib's defaults and the settings below, whatever the user has set.

    Also a decorator. Every function that draws a picture uses it, and so does `image`.
    """
    with rc_context(_SETTINGS), warnings.catch_warnings():
        # A name may have characters that the font lacks: they are drawn as boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


@project_style()
def image(figure: Figure, kind: str) -> bytes:
    """Return a figure as the content of a "png" or "svg" file; equal figures give equal bytes."""
    for text in figure.findobj(Text):
        # A control character would make an SVG file invalid.
        text.set_text(printable(text.get_text()))
    buffer = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {}
    figure.savefig(buffer, format=kind, dpi=_DOTS_PER_INCH, metadata=metadata)
    return buffer.getvalue()


def line_style(i: int) -> dict[str, Any]:
    """Return the colour and the dashes of the i-th line; pairs repeat only after all were used."""
    colour = COLOURS[i % len(COLOURS)]
    line = LINES[(i + i // len(COLOURS)) % len(LINES)]
    return {"color": colour, "linestyle": line, "linewidth": 1.8}


def hide_frame(axis: Axes) -> None:
    """Hide the upper and the right side of the frame."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=9)


def legend(axis: Axes) -> float:
    """Put a legend above an axis, where it covers no data; return its height in inches."""
    labels = axis.get_legend_handles_labels()[1]
    if not labels:
        return 0.0
    entry = _LEGEND_HANDLE + _LEGEND_LETTER * max(map(len, labels))
    columns = min(len(labels), max(1, int((WIDTH - _LEGEND_MARGIN) / entry)))
    axis.legend(
        fontsize=9,
        frameon=False,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        borderaxespad=0.1,
        ncols=columns,
    )
    return LEGEND_ROW * math.ceil(len(labels) / columns)


def title(figure: Figure, lines: Sequence[str]) -> None:
    """Put a title at the upper left, with lines cut to the figure's width."""
    figure.suptitle("\n".join(map(_truncate, lines)), fontsize=10, x=0.01, ha="left")


def _truncate(line: str, length: int = 95) -> str:
    return line if len(line) <= length else f"{line[: length - 1]}…"


def scale(axis: Axes, values: Sequence[float], *, horizontal: bool = False) -> None:
    """Use a logarithmic axis if positive values spread over more than a factor of 10."""
    finite = [value for value in values if math.isfinite(value)]
    if finite and min(finite) > 0 and max(finite) > 10 * min(finite):
        (axis.set_xscale if horizontal else axis.set_yscale)("log")
        log_ticks(axis.xaxis if horizontal else axis.yaxis, min(finite), max(finite))


def log_ticks(axis: Axis, low: float, high: float) -> None:
    """Label a logarithmic axis at 1, 2 and 5 times the powers of ten, or at the powers only."""
    is_wide = high > 10**_POWERS_WITH_TICKS_BETWEEN * low
    axis.set_major_locator(LogLocator(subs=(1,) if is_wide else (1, 2, 5)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_locator(NullLocator())


def linear_near_zero(axis: Axes, linear_below: float, low: float, high: float) -> None:
    """Use a vertical axis that is logarithmic, and linear between 0 and `linear_below`."""
    axis.set_yscale("symlog", linthresh=linear_below)
    axis.yaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=linear_below))
    axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.yaxis.set_minor_locator(NullLocator())
    margin = 0.2 * linear_below
    axis.set_ylim(min(low, 0.0) * 1.2 - margin, max(high, linear_below) * 1.2)
