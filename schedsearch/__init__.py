"""Search for hyperparameter schedules of PyTorch trainings, and train with the best ones.

    scheduler = schedsearch.load("best.toml").scheduler()
    for epoch in range(60):
        values = scheduler.values
        ...
        scheduler.step(val_loss, terms={...})

Each name is imported on first use, so that names without torch do not pay for its slow import.
"""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if sys.platform == "win32":
    raise ImportError(
        "schedsearch runs on Linux and macOS; on Windows, install it in the Windows Subsystem for "
        "Linux (WSL)"
    )

if TYPE_CHECKING:
    from schedsearch.engines.loop import LoopRun
    from schedsearch.errors import (
        FileError,
        InputError,
        ParameterError,
        SchedSearchError,
    )
    from schedsearch.interactive.records import Result, TrialRecord
    from schedsearch.interactive.search import search
    from schedsearch.interactive.study_view import StudyView
    from schedsearch.loss import WeightedLoss
    from schedsearch.plan import Plan
    from schedsearch.scheduler import Scheduler
    from schedsearch.schedules import Feedback, Schedule
    from schedsearch.space import Space
    from schedsearch.task import Splits, Task

__all__ = [
    "Feedback",
    "FileError",
    "InputError",
    "LoopRun",
    "ParameterError",
    "Plan",
    "Result",
    "SchedSearchError",
    "Schedule",
    "Scheduler",
    "Space",
    "Splits",
    "StudyView",
    "Task",
    "TrialRecord",
    "WeightedLoss",
    "load",
    "search",
]

_MODULES = {
    "Feedback": "schedsearch.schedules",
    "FileError": "schedsearch.errors",
    "InputError": "schedsearch.errors",
    "LoopRun": "schedsearch.engines.loop",
    "ParameterError": "schedsearch.errors",
    "Plan": "schedsearch.plan",
    "Result": "schedsearch.interactive.records",
    "SchedSearchError": "schedsearch.errors",
    "Schedule": "schedsearch.schedules",
    "Scheduler": "schedsearch.scheduler",
    "Space": "schedsearch.space",
    "Splits": "schedsearch.task",
    "StudyView": "schedsearch.interactive.study_view",
    "Task": "schedsearch.task",
    "TrialRecord": "schedsearch.interactive.records",
    "WeightedLoss": "schedsearch.loss",
    "search": "schedsearch.interactive.search",
}


def load(path: Path | str) -> Space:
    """Return the space or the config in a TOML, YAML or JSON file.

    A config is what `schedsearch export` writes: a space with one value for each parameter. Its
    `scheduler()` gives the schedules to a training loop; its `horizon` is the number of epochs.

    A `UserWarning` says which schedules the horizon cuts.

    Raises:
        InputError: the file is missing, cannot be read, or holds no table.
        FileError: the file has mistakes; the message has one line for each of them.
    """
    from schedsearch.space import Space
    from schedsearch.space.cut_phases import cut_phase_warnings

    space = Space.load(path)
    for line in cut_phase_warnings(space):
        warnings.warn(f"{path}: {line}", stacklevel=2)
    return space


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'schedsearch' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
