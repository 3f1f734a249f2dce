"""The worker: trains trials of a study until the study has none left to begin."""

from schedsearch.worker.best_trial import BestTrialCallback
from schedsearch.worker.loop import Worker
from schedsearch.worker.options import Heartbeat, Messages, ProcessControl, end_process

__all__ = [
    "BestTrialCallback",
    "Heartbeat",
    "Messages",
    "ProcessControl",
    "Worker",
    "end_process",
]
