"""Nothing is trained twice: what was trained, kept beside the studies. Torch is not imported."""

from schedsearch.trajectories.checkpoint_policy import CheckpointPolicy, affordable_spacing, rungs
from schedsearch.trajectories.checkpoints import BUDGET, Artifacts
from schedsearch.trajectories.folder import Folder
from schedsearch.trajectories.node_hashes import child_of, root_of
from schedsearch.trajectories.store import (
    LEASE,
    TrajectoryStore,
    TrieCursor,
    checkpoint_folder,
    open_store,
    picture_folder,
)

__all__ = [
    "BUDGET",
    "LEASE",
    "Artifacts",
    "CheckpointPolicy",
    "Folder",
    "TrajectoryStore",
    "TrieCursor",
    "affordable_spacing",
    "checkpoint_folder",
    "child_of",
    "open_store",
    "picture_folder",
    "root_of",
    "rungs",
]
