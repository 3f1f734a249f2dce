"""The tables are created on every database, migrated, and not touched if they are newer."""

from __future__ import annotations

import pytest
from sqlalchemy import Column, Connection, Integer, MetaData, Table, inspect, update
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.schema import CreateTable

from schedsearch.storage import Database
from schedsearch.trajectories import Folder, open_store
from schedsearch.trajectories.tables import MIGRATIONS, metadata, upgrade, versions
from tests.trajectories.stores import follow, opened, train


@pytest.mark.parametrize("dialect", [sqlite.dialect(), postgresql.dialect(), mysql.dialect()])
def test_every_kind_of_database_can_have_them(dialect: Dialect) -> None:
    for table in metadata.tables.values():
        assert table.name.startswith("schedsearch_")
        statement = str(CreateTable(table).compile(dialect=dialect))
        keys = [column for column in table.columns if column.primary_key]
        assert all("TEXT" not in str(column.type.compile(dialect)) for column in keys)
        assert "CREATE TABLE" in statement


def test_newer_tables_are_not_used_and_one_warning_is_printed(
    database: Database, folder: Folder
) -> None:
    train(opened(database, folder), [0])
    with database.engine.begin() as connection:
        connection.execute(update(versions).values(version=len(MIGRATIONS) + 1))
    said: list[str] = []
    assert open_store(database, said.append, artifacts=folder) is None
    assert len(said) == 1
    assert "later schedsearch" in said[0]


def test_older_tables_are_migrated(database: Database, folder: Folder) -> None:
    store = opened(database, folder)
    train(store, [0, 1])
    store.flush()
    made = 0

    def step(connection: Connection) -> None:
        nonlocal made
        made += 1
        Table("schedsearch_more", MetaData(), Column("x", Integer)).create(connection)

    assert upgrade(database, (*MIGRATIONS, step))
    assert upgrade(database, (*MIGRATIONS, step))
    assert made == 1
    assert "schedsearch_more" in inspect(database.engine).get_table_names()
    assert not upgrade(database)
    assert follow(store, [0, 1]).epoch == 2


def test_a_migration_that_failed_can_be_repeated(database: Database) -> None:
    def fail(connection: Connection) -> None:
        raise RuntimeError("no space left")

    with pytest.raises(RuntimeError):
        upgrade(database, (*MIGRATIONS, fail))
    assert upgrade(database)
