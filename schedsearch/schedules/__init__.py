"""Schedule families. Pure: no torch, no optuna, no files, no clock."""

from schedsearch.schedules.base import Feedback, GroupSchedule, OpenLoop, Schedule, State
from schedsearch.schedules.decay import Constant, Exponential
from schedsearch.schedules.families import FAMILIES
from schedsearch.schedules.table import from_table, to_table

__all__ = [
    "FAMILIES",
    "Constant",
    "Exponential",
    "Feedback",
    "GroupSchedule",
    "OpenLoop",
    "Schedule",
    "State",
    "from_table",
    "to_table",
]
