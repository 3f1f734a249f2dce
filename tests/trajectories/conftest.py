"""A database for trajectories, and a folder for checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest

from schedsearch.storage import Database, open_database
from schedsearch.trajectories import Folder


@pytest.fixture
def database(database_url: str) -> Database:
    return open_database(database_url, create=True)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "checkpoints")
