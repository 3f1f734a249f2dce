"""The folder of one run, for files of a training loop."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class RunDirectory(Protocol):
    """The folder of one run; `trajectories.TrialDirectory` implements it.

    Attributes:
        had_files: whether `create` found files of an earlier worker.
    """

    had_files: bool

    def create(self) -> Path | None:
        """Return the folder, and create it if it is missing; None if it cannot be created."""
        ...

    def remove(self) -> bool:
        """Remove the folder with all its files, if it exists; return False if that failed."""
        ...
