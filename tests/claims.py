"""Claiming trials as a worker does; for other processes too."""

from __future__ import annotations

from schedsearch.storage import BatchedStorage, StudyHandle


def claim(study: StudyHandle, worker: str) -> int | None:
    """Claim one trial for a worker in a batch; return its id, or None if none is left."""
    storage = BatchedStorage(study.database)
    with storage.batch(study.study_id, worker) as batch:
        batch.claim(1)
    return next(iter(batch.claimed), None)
