"""The databases that the contracts of storages are tested on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sqlalchemy import MetaData, create_engine


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """Name an empty database: a SQLite file, or the one that SCHEDSEARCH_TEST_DATABASE names."""
    url = os.environ.get("SCHEDSEARCH_TEST_DATABASE")
    if url is None:
        return f"sqlite:///{tmp_path / 'studies.db'}"
    engine = create_engine(url)
    tables = MetaData()
    tables.reflect(engine)
    tables.drop_all(engine)
    engine.dispose()
    return url
