"""The tables: made by many at once, brought forward, and left alone where they are too new."""

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
def test_every_database_can_have_them(dialect: Dialect) -> None:
    for table in metadata.tables.values():
        assert table.name.startswith("schedsearch_")
        statement = str(CreateTable(table).compile(dialect=dialect))
        keys = [column for column in table.columns if column.primary_key]
        assert all("TEXT" not in str(column.type.compile(dialect)) for column in keys)
        assert "CREATE TABLE" in statement


def test_later_tables_are_left_alone_with_one_warning(database: Database, folder: Folder) -> None:
    train(opened(database, folder), [0])
    with database.engine.begin() as connection:
        connection.execute(update(versions).values(version=len(MIGRATIONS) + 1))
    said: list[str] = []
    assert open_store(database, said.append, artifacts=folder) is None
    assert len(said) == 1
    assert "later schedsearch" in said[0]


def test_older_tables_are_brought_forward(database: Database, folder: Folder) -> None:
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


def test_a_step_that_fails_can_be_taken_again(database: Database) -> None:
    def fail(connection: Connection) -> None:
        raise RuntimeError("no space left")

    with pytest.raises(RuntimeError):
        upgrade(database, (*MIGRATIONS, fail))
    assert upgrade(database)
