"""Optuna's own tests of a storage, on ours outside of rounds."""

from __future__ import annotations

import pytest
from optuna.storages import BaseStorage
from optuna.testing.pytest_storages import StorageTestCase

from schedsearch.storage import RoundStorage, open_database


class TestRoundStorage(StorageTestCase):
    @pytest.fixture
    def storage(self, database_url: str) -> BaseStorage:
        return RoundStorage(open_database(database_url, create=True))
