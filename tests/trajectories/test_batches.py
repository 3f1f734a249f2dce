"""Trained epochs are written in the transaction in which the trials report them."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection

from schedsearch.storage import BatchedStorage, Database, StudyHandle
from schedsearch.storage.batch import AddedWrite
from schedsearch.trajectories import Folder
from tests.storage.studies import study_at
from tests.trajectories.stores import follow, opened, train


@pytest.fixture
def study(database: Database) -> StudyHandle:
    return study_at(database.url)


def test_they_are_committed_together(study: StudyHandle, folder: Folder) -> None:
    storage, store = BatchedStorage(study.database), opened(study.database, folder)
    with storage.batch(study.study_id, "ann") as batch:
        train(store, [0, 1], keep=[2])
        batch.add_write(store.write, store.mark_committed)
        assert follow(opened(study.database, folder), [0, 1]).epoch == 0
    reader = follow(opened(study.database, folder), [0, 1])
    assert reader.epoch == 2
    assert reader.restore() is not None


def test_a_batch_that_fails_writes_neither(study: StudyHandle, folder: Folder) -> None:
    storage, store = BatchedStorage(study.database), opened(study.database, folder)

    def write_too_much(connection: Connection, moment: float) -> None:
        store.write(connection, moment)
        raise ZeroDivisionError

    def write_in_a_batch(write: AddedWrite) -> None:
        with storage.batch(study.study_id, "ann") as batch:
            train(store, [0, 1])
            batch.add_write(write, store.mark_committed)

    with pytest.raises(ZeroDivisionError):
        write_in_a_batch(write_too_much)
    assert follow(opened(study.database, folder), [0, 1]).epoch == 0
    write_in_a_batch(store.write)
    assert follow(opened(study.database, folder), [0, 1]).epoch == 2
