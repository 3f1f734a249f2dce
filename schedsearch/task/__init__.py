"""Tasks: the protocol, loading, validation, fingerprints and trust. Does not import torch."""

from schedsearch.task.check import TaskOutputs, check_task
from schedsearch.task.fingerprinting import fingerprint
from schedsearch.task.loading import load_task
from schedsearch.task.protocol import (
    OPTIMIZER_HYPERPARAMETERS,
    Examples,
    OptimizerName,
    Splits,
    Task,
    TrainFunction,
    count_examples,
    count_steps,
    is_train_function,
)
from schedsearch.task.trust import TRUST_VARIABLE, find_untrusted_code

__all__ = [
    "OPTIMIZER_HYPERPARAMETERS",
    "TRUST_VARIABLE",
    "Examples",
    "OptimizerName",
    "Splits",
    "Task",
    "TaskOutputs",
    "TrainFunction",
    "check_task",
    "count_examples",
    "count_steps",
    "find_untrusted_code",
    "fingerprint",
    "is_train_function",
    "load_task",
]
