"""The display of progress and of figures in a Jupyter notebook."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH = 100


def is_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    return _shell() is not None


def _shell() -> Any | None:
    """Return IPython's shell in a kernel; None elsewhere."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell if shell is not None and hasattr(shell, "kernel") else None


class NotebookDisplay:
    """Shows lines in the output of a cell, in place; it needs no widgets."""

    def __init__(self) -> None:
        self._handle: Any = None

    def start(self) -> None:
        """Reserve a place in the output."""
        from IPython.display import display

        show: Callable[..., Any] = display
        self._handle = show(_Plain(""), display_id=True)

    def update(self, content: RenderableType) -> None:
        """Show something else in this place."""
        if self._handle is not None:
            self._handle.update(_Plain(_text(content)))

    def stop(self) -> None:
        """Leave what is shown."""
        self._handle = None


class _Plain:
    """A text that a notebook shows as it is."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _text(content: RenderableType) -> str:
    console = Console(file=io.StringIO(), width=_WIDTH, force_jupyter=False, color_system=None)
    with console.capture() as captured:
        console.print(content)
    return captured.get().rstrip()


def show_figures() -> None:
    """Let a notebook show matplotlib figures that pyplot does not know; elsewhere do nothing."""
    shell = _shell()
    if shell is None:
        return
    from matplotlib.figure import Figure

    shell.display_formatter.formatters["image/png"].for_type(Figure, _to_png)


def _to_png(figure: Figure) -> bytes:
    from schedsearch.report.pictures import image

    return image(figure, "png")
