"""Tasks: what they are, and how one is found, tried, and told from another. Loads no torch."""

from schedsearch.task.check import Outputs, check_task
from schedsearch.task.fingerprinting import fingerprint
from schedsearch.task.loading import load_task
from schedsearch.task.protocol import (
    READ_BY_OPTIMIZER,
    Examples,
    OptimizerName,
    Splits,
    Task,
    TrainFunction,
    count_examples,
    count_steps,
    is_train_function,
)
from schedsearch.task.trust import TRUST, foreign_code

__all__ = [
    "READ_BY_OPTIMIZER",
    "TRUST",
    "Examples",
    "OptimizerName",
    "Outputs",
    "Splits",
    "Task",
    "TrainFunction",
    "check_task",
    "count_examples",
    "count_steps",
    "fingerprint",
    "foreign_code",
    "is_train_function",
    "load_task",
]
