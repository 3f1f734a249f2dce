"""The worker: trains trials of a study until none is left to begin."""

from schedsearch.worker.best_trial import BestTrialCallback
from schedsearch.worker.loop import Worker, end_process
from schedsearch.worker.reuse import Reuse

__all__ = ["BestTrialCallback", "Reuse", "Worker", "end_process"]
