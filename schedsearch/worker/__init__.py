"""The worker: trains trials of a study until none is left to begin."""

from schedsearch.worker.loop import Worker

__all__ = ["Worker"]
