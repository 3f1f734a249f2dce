"""Exceptions of the user's code in one line, with the place where they were raised."""

from __future__ import annotations

import sysconfig
import tempfile
import traceback
from functools import cache
from pathlib import Path

from schedsearch.errors import summarize_exception


def describe_error(error: Exception) -> str:
    """Return an exception in one line, with the file and the line where it was raised."""
    return summarize_exception(error) + innermost_user_line(
        traceback.extract_tb(error.__traceback__)
    )


def describe_user_error(error: Exception) -> str:
    """Return an exception in one line, with the innermost line of the user's code if it has one.

    A SyntaxError names its line itself.
    """
    frames = _user_frames(traceback.extract_tb(error.__traceback__))
    if isinstance(error, SyntaxError) or not frames:
        return summarize_exception(error)
    return f"{summarize_exception(error)}{_line_of(frames[-1])}"


def innermost_user_line(frames: traceback.StackSummary) -> str:
    """Return the innermost line of the user's code, or of any code if there is none."""
    for frame in reversed(_user_frames(frames) or frames):
        return _line_of(frame)
    return ""


def _user_frames(frames: traceback.StackSummary) -> list[traceback.FrameSummary]:
    return [frame for frame in frames if not frame.filename.startswith(_library_folders())]


def _line_of(frame: traceback.FrameSummary) -> str:
    return f" ({Path(frame.filename).name}:{frame.lineno})"


@cache
def _library_folders() -> tuple[str, ...]:
    """Return the folders of Python, of installed packages and of this package."""
    return (
        "<frozen ",
        *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib", "scripts")),
        str(Path(__file__).parent),
        # Written by torch's compiler.
        str(Path(tempfile.gettempdir(), "torchinductor_")),
    )
