"""Opening a database: each error is one line, and reading changes nothing."""

from __future__ import annotations

import sqlite3

import pytest
from optuna.trial import TrialState
from sqlalchemy import select

from schedsearch.errors import DamagedStudyError, StorageError, StudyError
from schedsearch.report.status import read_status
from schedsearch.storage import (
    create_study,
    delete_study,
    get_only_study,
    has_password,
    hide_password,
    list_studies,
    open_database,
    open_study,
    study_names,
)
from schedsearch.storage.tables import heartbeats, trials
from tests.claims import claim
from tests.searches import document, make_study, make_study_at, url_of, work


def refusal(url: str, *, create: bool = False) -> str:
    with pytest.raises(StorageError) as caught:
        open_database(url, create=create)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("studies.db", "the storage URL is malformed: write it like sqlite:///studies.db"),
        ("", "the storage URL is malformed"),
        ("oracel://host/db", "oracel://host/db: unknown database `oracel`: use sqlite"),
        (
            "sqlite://",
            "processes cannot share a SQLite database in memory: give the path of a file",
        ),
        (
            "postgresql+pg8000://ann:secret@host/db",
            "the driver `pg8000` is missing: pip install 'pg8000'",
        ),
        (
            "mysql+mysqldb://ann:secret@host/db",
            "the driver `MySQLdb` is missing: pip install 'MySQLdb'",
        ),
    ],
)
@pytest.mark.parametrize("create", [False, True])
def test_a_wrong_url_is_refused_in_one_line_without_its_password(url, message, create):
    said = refusal(url, create=create)
    assert message in said
    assert "secret" not in said


def test_a_missing_file_is_refused_with_the_command_that_creates_it(tmp_path):
    said = refusal(url_of(tmp_path))
    assert "studies.db: the database does not exist: create it with `schedsearch start`" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("create", [False, True])
def test_a_folder_and_a_missing_folder_are_refused(tmp_path, create):
    assert "is a folder: give the path of a file" in refusal(f"sqlite:///{tmp_path}", create=create)
    said = refusal(f"sqlite:///{tmp_path}/absent/studies.db", create=create)
    assert ("does not exist: create it first" if create else "the database does not exist") in said


@pytest.mark.parametrize("create", [False, True])
def test_a_file_that_is_not_a_database_is_refused_and_not_changed(tmp_path, create):
    file = tmp_path / "studies.db"
    file.write_text("These are my notes. " * 100)
    assert "file is not a database" in refusal(url_of(tmp_path), create=create)
    assert file.read_text() == "These are my notes. " * 100


@pytest.mark.parametrize("create", [False, True])
def test_a_database_of_another_program_is_refused_and_not_changed(tmp_path, create):
    file = tmp_path / "studies.db"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE recipes (title TEXT)")
    connection.close()
    before = file.read_bytes()
    assert "contains tables of another program (recipes)" in refusal(
        url_of(tmp_path), create=create
    )
    assert file.read_bytes() == before


def test_an_empty_file_contains_no_studies_until_start(tmp_path):
    (tmp_path / "studies.db").touch()
    assert "contains no studies: create one with `schedsearch start`" in refusal(url_of(tmp_path))
    assert make_study(tmp_path).queue.counts().waiting == 1


def test_a_path_may_contain_braces_that_optuna_would_format(tmp_path):
    folder = tmp_path / "{a} b"
    folder.mkdir()
    study = make_study(folder)
    assert (folder / "studies.db").is_file()
    assert get_only_study(open_database(study.database.url)).name == "small"


def test_reading_does_not_change_a_byte_of_the_file(tmp_path):
    work(make_study(tmp_path))
    plain = tmp_path / "example.db"
    with sqlite3.connect(tmp_path / "studies.db") as connection:
        connection.execute(f"VACUUM INTO '{plain}'")
    connection.close()
    before = plain.read_bytes()
    assert before[18:20] == b"\x01\x01"  # a rollback journal, no write-ahead log
    database = open_database(f"sqlite:///{plain}")
    assert [read_status(study).counts.finished for study in list_studies(database)[0]] == [10]
    assert plain.read_bytes() == before
    assert not list(tmp_path.glob("example.db-*"))


def test_a_new_file_has_a_write_ahead_log(tmp_path):
    make_study(tmp_path)
    assert (tmp_path / "studies.db").read_bytes()[18:20] == b"\x02\x02"


def test_reading_does_not_wait_for_a_writer(tmp_path):
    study = make_study(tmp_path)
    writer = sqlite3.connect(tmp_path / "studies.db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    assert get_only_study(open_database(study.database.url)).queue.counts().waiting == 1
    writer.execute("ROLLBACK")
    writer.close()


def test_a_password_is_detected_and_hidden():
    url = "postgresql://ann:sec%40ret@db/studies"
    assert has_password(url)
    assert has_password("postgresql://ann@db/studies?password=secret")
    assert not has_password("postgresql://ann@db/studies")
    assert hide_password(url) == "postgresql://ann:***@db/studies"


def test_an_unknown_study_is_refused_with_the_nearest_name(tmp_path):
    database = make_study(tmp_path).database
    with pytest.raises(StudyError, match="has no study `smal`: did you mean `small`"):
        open_study(database, "smal")


def test_a_study_of_another_tool_is_refused_and_not_listed(tmp_path):
    database = make_study(tmp_path).database
    database.optuna.create_new_study([0], "theirs")
    with pytest.raises(StudyError, match="`theirs` was not created by schedsearch"):
        open_study(database, "theirs")
    assert [study.name for study in list_studies(database)[0]] == ["small"]


def test_an_interrupted_creation_is_completed_by_the_next_one(tmp_path):
    study = make_study(tmp_path)
    with sqlite3.connect(tmp_path / "studies.db") as connection:
        connection.execute("DELETE FROM study_user_attributes WHERE key = 'space'")
    connection.close()
    again = create_study(open_database(study.database.url, create=True), study.record)
    assert again.queue.counts().trials == 1
    assert open_study(again.database, "small").record == study.record


def test_a_study_is_deleted_with_all_its_rows_and_no_other_one(database_url):
    study = make_study_at(database_url)
    other = make_study_at(database_url, document() | {"name": "other"})
    for each in (study, other):
        claim(each, "ann")
    for _ in range(2):  # A retry deletes nothing more.
        delete_study(study.database, study.study_id)
    assert study_names(study.database) == ["other"]
    kept = other.rows()
    with study.database.engine.connect() as connection:
        for table in (trials, heartbeats):
            found = connection.scalars(select(table.c.trial_id)).all()
            assert [*found] == [trial._trial_id for trial in kept], table
    assert open_study(open_database(database_url), "other").rows() == kept


def test_a_study_that_was_created_again_by_its_name_is_not_the_deleted_one(tmp_path):
    study = make_study(tmp_path)
    make_study(tmp_path, document() | {"name": "other"})
    study.database.optuna.delete_study(study.study_id)
    make_study(tmp_path)
    with (
        pytest.raises(StudyError, match="study `small` was deleted during the search"),
        study.unless_deleted(),
    ):
        raise KeyError("the row is gone")


def test_a_trial_that_was_running_when_a_read_failed_is_read_again(tmp_path):
    study = make_study(tmp_path)
    running, other = claim(study, "ann"), claim(study, "ann")
    storage = study.database.rdb
    storage.set_trial_user_attr(other, "draw", "no number")
    with pytest.raises(DamagedStudyError, match="draw"):
        study.rows()
    storage.set_trial_user_attr(other, "draw", 0)
    storage.set_trial_state_values(running, TrialState.FAIL)
    assert [row.state for row in study.rows()] == [TrialState.FAIL, TrialState.RUNNING]
    storage.set_trial_state_values(other, TrialState.FAIL)
    assert [row.state for row in study.rows()] == [TrialState.FAIL, TrialState.FAIL]
