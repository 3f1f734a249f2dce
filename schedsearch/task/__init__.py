"""Tasks: the protocol, loading, validation, fingerprints and trust. Does not import torch."""

from schedsearch.task.check import TaskOutputs, check_task, compute_first_terms, lazy_tensors
from schedsearch.task.fingerprint import Fingerprint, describe_changes
from schedsearch.task.fingerprinting import (
    describe_coverage,
    fingerprint_task,
    refuse_changed_code,
)
from schedsearch.task.legacy_fingerprint import legacy_fingerprint
from schedsearch.task.live import live_task, reference_of
from schedsearch.task.loading import (
    argument_defaults,
    function_arguments,
    load_task,
    track_imports,
)
from schedsearch.task.name_clash import refuse_name_clash
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
    "Fingerprint",
    "OptimizerName",
    "Splits",
    "Task",
    "TaskOutputs",
    "TrainFunction",
    "argument_defaults",
    "check_task",
    "compute_first_terms",
    "count_examples",
    "count_steps",
    "describe_changes",
    "describe_coverage",
    "find_untrusted_code",
    "fingerprint_task",
    "function_arguments",
    "is_train_function",
    "lazy_tensors",
    "legacy_fingerprint",
    "live_task",
    "load_task",
    "reference_of",
    "refuse_changed_code",
    "refuse_name_clash",
    "track_imports",
]
