"""The worker: trains trials of a study until none is left to begin."""

from schedsearch.worker.loop import Worker, end_process
from schedsearch.worker.reuse import Reuse
from schedsearch.worker.showing import Onlooker

__all__ = ["Onlooker", "Reuse", "Worker", "end_process"]
