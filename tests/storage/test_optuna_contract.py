"""Optuna's tests of a storage, on BatchedStorage outside of batches."""

from __future__ import annotations

import pytest
from optuna.storages import BaseStorage
from optuna.testing.pytest_storages import StorageTestCase

from schedsearch.storage import BatchedStorage, open_database
from tests.servers import execute


class TestBatchedStorage(StorageTestCase):
    @pytest.fixture
    def storage(self, database_url: str) -> BaseStorage:
        database = open_database(database_url, create=True)
        if database.engine.dialect.name == "mysql":
            # Optuna's columns store whole seconds there, but its tests compare fractions.
            moments = ("datetime_start", "datetime_complete")
            kept = ", ".join(f"MODIFY {moment} DATETIME(6)" for moment in moments)
            execute(database_url, f"ALTER TABLE trials {kept}")
        return BatchedStorage(database)
