"""Databases, and the studies and trials in them. Never imports torch."""

from schedsearch.storage.attribute_rules import PATH_LIMIT, PATH_POINTS, SHAPE_ERRORS
from schedsearch.storage.batch import Batch
from schedsearch.storage.batched_storage import BatchedStorage
from schedsearch.storage.budget import Budget
from schedsearch.storage.claims import BudgetPlanner, NextTrials
from schedsearch.storage.counts import Counts
from schedsearch.storage.creation import create_study, delete_if_untrained
from schedsearch.storage.database import (
    Database,
    is_same_database,
    open_database,
    translate_database_error,
)
from schedsearch.storage.deletion import delete_study
from schedsearch.storage.earlier_studies import (
    EarlierStudy,
    most_plans,
    write_earlier_studies,
)
from schedsearch.storage.follow_ups import FollowUp, Purpose, followed_study, is_follow_up
from schedsearch.storage.liveness import GRACE_PERIOD
from schedsearch.storage.opening import (
    find_study,
    find_study_damage,
    get_only_study,
    list_studies,
    open_study,
    study_names,
)
from schedsearch.storage.plan_means import PlanMean, is_race_run, plan_key, rank_plans
from schedsearch.storage.queue import TrialQueue
from schedsearch.storage.retrier import is_end_of_outage_line, is_outage_line
from schedsearch.storage.rows import Observed
from schedsearch.storage.studies import (
    StudyHandle,
    StudyRecord,
    plan_of,
)
from schedsearch.storage.study_attributes import (
    StudyAttributes,
    load_all_studies,
    load_study,
    load_system_attributes,
)
from schedsearch.storage.task_versions import (
    INCONSISTENT_RECORD,
    accept_task,
    accepted_digests,
    changed_task_message,
    task_changes,
)
from schedsearch.storage.trial_checks import check_trial, require_attribute
from schedsearch.storage.urls import has_password, hide_password

__all__ = [
    "GRACE_PERIOD",
    "INCONSISTENT_RECORD",
    "PATH_LIMIT",
    "PATH_POINTS",
    "SHAPE_ERRORS",
    "Batch",
    "BatchedStorage",
    "Budget",
    "BudgetPlanner",
    "Counts",
    "Database",
    "EarlierStudy",
    "FollowUp",
    "NextTrials",
    "Observed",
    "PlanMean",
    "Purpose",
    "StudyAttributes",
    "StudyHandle",
    "StudyRecord",
    "TrialQueue",
    "accept_task",
    "accepted_digests",
    "changed_task_message",
    "check_trial",
    "create_study",
    "delete_if_untrained",
    "delete_study",
    "find_study",
    "find_study_damage",
    "followed_study",
    "get_only_study",
    "has_password",
    "hide_password",
    "is_end_of_outage_line",
    "is_follow_up",
    "is_outage_line",
    "is_race_run",
    "is_same_database",
    "list_studies",
    "load_all_studies",
    "load_study",
    "load_system_attributes",
    "most_plans",
    "open_database",
    "open_study",
    "plan_key",
    "plan_of",
    "rank_plans",
    "require_attribute",
    "study_names",
    "task_changes",
    "translate_database_error",
    "write_earlier_studies",
]
