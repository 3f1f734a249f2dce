"""Taking trials as workers do; light to import, since other processes of tests import it."""

from __future__ import annotations

from schedsearch.storage import BatchedStorage, StudyHandle


def claim(study: StudyHandle, worker: str) -> int | None:
    """Make a trial some worker's, as its rounds do; return its id, or None if none is left."""
    storage = BatchedStorage(study.database)
    with storage.batch(study.study_id, worker) as batch:
        batch.claim(1)
    return next(iter(batch.claimed), None)
