"""The first import of matplotlib, without the settings of files and variables."""

from __future__ import annotations

import os
import sys
from contextlib import chdir
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory


def import_matplotlib() -> None:
    """Import matplotlib so that it reads no `matplotlibrc`: neither the user's nor a stranger's.

    It looks for this file in the current folder first, where a study's files may come from another
    person, and obeys the file while it is imported. For a moment the current folder is another one,
    so call this before threads start, and in a process that runs no task: the task may have
    settings for matplotlib.
    """
    if "matplotlib" in sys.modules:
        return
    os.environ["MPLBACKEND"] = "agg"
    with TemporaryDirectory() as folder:
        Path(folder, "matplotlibrc").touch()
        with chdir(folder):
            import_module("matplotlib")
