"""Trained epochs and checkpoints, stored beside the studies, so that no epoch is trained twice.

Importing this package does not load torch.
"""

from schedsearch.trajectories.checkpoints import Artifacts
from schedsearch.trajectories.database_folders import open_picture_folder
from schedsearch.trajectories.folder import Folder
from schedsearch.trajectories.leases import LEASE
from schedsearch.trajectories.node_hashes import child_hash, root_hash
from schedsearch.trajectories.settings import BUDGET, checkpoint_folder
from schedsearch.trajectories.store import TrajectoryStore, TrieCursor, open_store

__all__ = [
    "BUDGET",
    "LEASE",
    "Artifacts",
    "Folder",
    "TrajectoryStore",
    "TrieCursor",
    "checkpoint_folder",
    "child_hash",
    "open_picture_folder",
    "open_store",
    "root_hash",
]
