"""Optuna's own tests of a storage, on ours outside of rounds."""

from __future__ import annotations

import pytest
from optuna.storages import BaseStorage
from optuna.testing.pytest_storages import StorageTestCase

from schedsearch.storage import BatchedStorage, open_database
from tests.servers import execute


class TestRoundStorage(StorageTestCase):
    @pytest.fixture
    def storage(self, database_url: str) -> BaseStorage:
        database = open_database(database_url, create=True)
        if database.engine.dialect.name == "mysql":
            # Optuna's columns there keep whole seconds, but its tests ask for all of a moment.
            moments = ("datetime_start", "datetime_complete")
            kept = ", ".join(f"MODIFY {moment} DATETIME(6)" for moment in moments)
            execute(database_url, f"ALTER TABLE trials {kept}")
        return BatchedStorage(database)
