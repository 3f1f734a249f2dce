"""Optuna storage opened well. Never imports torch."""

from schedsearch.storage.opening import Database, open_database, shown
from schedsearch.storage.queue import Counts, TrialQueue
from schedsearch.storage.studies import (
    StudyHandle,
    StudyRecord,
    create_study,
    is_constant,
    open_study,
    plan_of,
)

__all__ = [
    "Counts",
    "Database",
    "StudyHandle",
    "StudyRecord",
    "TrialQueue",
    "create_study",
    "is_constant",
    "open_database",
    "open_study",
    "plan_of",
    "shown",
]
