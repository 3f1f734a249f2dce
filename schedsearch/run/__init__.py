"""One run of a plan: its training, its cached epochs, its checkpoints and its best model."""

from schedsearch.run.cache import EpochCursor, RunCache
from schedsearch.run.checkpoint_policy import CheckpointPolicy
from schedsearch.run.history import RunHistory
from schedsearch.run.run import Run

__all__ = ["CheckpointPolicy", "EpochCursor", "Run", "RunCache", "RunHistory", "rungs"]
