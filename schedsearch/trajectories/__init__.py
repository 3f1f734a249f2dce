"""Nothing is trained twice: what was trained, kept beside the studies. Torch is not imported."""

from schedsearch.trajectories.checkpoints import BUDGET, Artifacts
from schedsearch.trajectories.folder import Folder
from schedsearch.trajectories.identity import child_of, root_of
from schedsearch.trajectories.placement import Placement, affordable_spacing, rungs
from schedsearch.trajectories.store import (
    LEASE,
    Store,
    Trail,
    checkpoint_folder,
    open_store,
    picture_folder,
)

__all__ = [
    "BUDGET",
    "LEASE",
    "Artifacts",
    "Folder",
    "Placement",
    "Store",
    "Trail",
    "affordable_spacing",
    "checkpoint_folder",
    "child_of",
    "open_store",
    "picture_folder",
    "root_of",
    "rungs",
]
