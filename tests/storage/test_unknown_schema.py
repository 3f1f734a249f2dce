"""Tables of an unknown schema version are refused by every command, and are not changed."""

from __future__ import annotations

import pytest

from schedsearch.cli import main
from schedsearch.errors import StorageError
from schedsearch.storage import open_database
from tests.searches import document, make_study, url_of, write_space
from tests.servers import execute
from tests.storage.studies import study_at

CREATE = pytest.mark.parametrize("create", [False, True])
#: The tables in which Optuna stores the version of its schema, by their columns.
TABLES = {"schema_version": "version_info", "version_num": "alembic_version"}
COMMANDS = [
    ("start", "small.toml"),
    ("worker", "small"),
    ("status", "small"),
    ("list",),
    ("delete", "small", "--yes"),
    ("export", "small"),
    ("confirm", "small"),
    ("plot", "small", "-o", "plot.png"),
    ("dashboard",),
]


@pytest.mark.parametrize(
    ("column", "version", "found"),
    [
        ("schema_version", 11, "of schema version 11"),
        ("schema_version", 13, "of schema version 13"),
        ("version_num", "v2.6.0.a", "of another version of Optuna"),
        ("version_num", "v99.0.0.a", "of another version of Optuna"),
    ],
)
@CREATE
def test_older_and_newer_tables_are_refused_and_not_changed(
    database_url, column, version, found, create
):
    study_at(database_url)
    table = TABLES[column]
    execute(database_url, f"UPDATE {table} SET {column} = '{version}'")
    with pytest.raises(StorageError) as caught:
        open_database(database_url, create=create)
    assert caught.value.exit_code == 2
    assert str(caught.value).endswith(
        f": its tables are {found}; schedsearch works with schema version 12 (Optuna 5): "
        "upgrade older tables with `optuna storage upgrade`, or use another database"
    )
    assert execute(database_url, f"SELECT {column} FROM {table}") == [(version,)]


@CREATE
def test_no_table_is_created_in_a_database_of_an_unknown_schema_version(database_url, create):
    execute(
        database_url,
        "CREATE TABLE version_info (schema_version INTEGER)",
        "INSERT INTO version_info VALUES (13)",
    )
    with pytest.raises(StorageError, match="of schema version 13"):
        open_database(database_url, create=create)
    with pytest.raises(Exception, match=r"(?i)alembic_version"):
        execute(database_url, "SELECT * FROM alembic_version")


@pytest.mark.parametrize("table", TABLES.values())
def test_tables_that_another_process_still_creates_contain_no_studies_yet(database_url, table):
    """A reader writes no version: otherwise the process that creates the tables would fail."""
    study_at(database_url)
    execute(database_url, f"DELETE FROM {table}")
    with pytest.raises(StorageError, match="contains no studies: create one with"):
        open_database(database_url)
    assert execute(database_url, f"SELECT * FROM {table}") == []
    assert open_database(database_url, create=True)
    assert open_database(database_url)


def test_a_new_database_of_an_optuna_with_another_schema_version_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("schedsearch.storage.database.SCHEMA_VERSION", 13)
    with pytest.raises(StorageError, match="of schema version 12; schedsearch works with"):
        open_database(url_of(tmp_path), create=True)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_every_command_refuses_an_unknown_schema_version(tmp_path, monkeypatch, capsys, command):
    make_study(tmp_path)
    write_space(tmp_path, document())
    execute(url_of(tmp_path), "UPDATE version_info SET schema_version = 13")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCHEDSEARCH_STORAGE", url_of(tmp_path))
    monkeypatch.setattr("sys.argv", ["schedsearch", *command])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert ended.value.code == 2
    assert said.out == ""
    [line] = said.err.splitlines()
    assert line.startswith("error: sqlite:///")
    assert "its tables are of schema version 13; schedsearch works with schema version 12" in line
