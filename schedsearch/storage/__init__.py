"""Optuna storage opened well. Never imports torch."""

from schedsearch.storage.attributes import (
    AUDITED,
    CONFIRMED_TRIAL,
    CONFIRMS,
    CONSTANT,
    FROM_EPOCH,
    OWN,
    PARENT,
    SAMPLE_INDEX,
    SEED,
    UNPRUNED,
    WOULD_PRUNE,
)
from schedsearch.storage.batch import Batch
from schedsearch.storage.batched_storage import BatchedStorage
from schedsearch.storage.creation import create_study, discard_untrained
from schedsearch.storage.database import Database, database_failure, open_database
from schedsearch.storage.queue import GRACE, Counts, TrialQueue
from schedsearch.storage.studies import (
    StudyHandle,
    StudyRecord,
    confirmation_name,
    every_study,
    only_study,
    open_study,
    plan_of,
    ranked,
    recorded_numerics,
)
from schedsearch.storage.urls import has_password, shown

__all__ = [
    "AUDITED",
    "CONFIRMED_TRIAL",
    "CONFIRMS",
    "CONSTANT",
    "FROM_EPOCH",
    "GRACE",
    "OWN",
    "PARENT",
    "SAMPLE_INDEX",
    "SEED",
    "UNPRUNED",
    "WOULD_PRUNE",
    "Batch",
    "BatchedStorage",
    "Counts",
    "Database",
    "StudyHandle",
    "StudyRecord",
    "TrialQueue",
    "confirmation_name",
    "create_study",
    "database_failure",
    "discard_untrained",
    "every_study",
    "has_password",
    "only_study",
    "open_database",
    "open_study",
    "plan_of",
    "ranked",
    "recorded_numerics",
    "shown",
]
