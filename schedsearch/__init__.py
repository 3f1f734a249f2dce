"""Search for hyperparameter schedules of PyTorch trainings, and use what was found.

    scheduler = schedsearch.load("best.toml").scheduler()
    for epoch in range(60):
        values = scheduler.values
        ...
        scheduler.step(val_loss, terms={...})

Names are imported when they are first used: most of them need no torch, which is slow to import.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from schedsearch.engines.loop import LoopRun
    from schedsearch.errors import InputError, SchedSearchError
    from schedsearch.loss import WeightedLoss
    from schedsearch.plan import Plan
    from schedsearch.scheduler import Scheduler
    from schedsearch.schedules import Feedback, Schedule
    from schedsearch.space import Space
    from schedsearch.task import Splits, Task

__all__ = [
    "Feedback",
    "InputError",
    "LoopRun",
    "Plan",
    "SchedSearchError",
    "Schedule",
    "Scheduler",
    "Space",
    "Splits",
    "Task",
    "WeightedLoss",
    "load",
]

_HOME = {
    "Feedback": "schedsearch.schedules",
    "InputError": "schedsearch.errors",
    "LoopRun": "schedsearch.engines.loop",
    "Plan": "schedsearch.plan",
    "SchedSearchError": "schedsearch.errors",
    "Schedule": "schedsearch.schedules",
    "Scheduler": "schedsearch.scheduler",
    "Space": "schedsearch.space",
    "Splits": "schedsearch.task",
    "Task": "schedsearch.task",
    "WeightedLoss": "schedsearch.loss",
}


def load(path: Path | str) -> Space:
    """Return the space or the config that a TOML, YAML or JSON file holds.

    Raises:
        InputError: the file cannot be read, or has mistakes: all of them at once.
    """
    from schedsearch.space import Space

    return Space.load(path)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'schedsearch' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
