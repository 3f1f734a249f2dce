"""Databases that cannot be used: one clear message each, and nothing half written."""

from __future__ import annotations

import os
import pwd
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, OperationalError

from schedsearch.errors import StorageError
from schedsearch.report.status import read_status
from schedsearch.storage import (
    StudyHandle,
    get_only_study,
    has_password,
    hide_password,
    open_database,
    translate_database_error,
)
from schedsearch.storage.connections import engine_options
from tests.claims import claim
from tests.searches import document, make_study, make_study_at, work
from tests.servers import PASSWORD, SERVERS, MariaDB, empty_database, execute, program
from tests.storage.studies import study_at

ON_SERVERS = pytest.mark.parametrize("backend", SERVERS)
CREATE = pytest.mark.parametrize("create", [False, True])


def refusal(url: str, *, create: bool = False) -> str:
    with pytest.raises(StorageError) as caught:
        open_database(url, create=create)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    assert PASSWORD not in str(caught.value)
    # Else a traceback would show the driver's own error.
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    return str(caught.value)


def failure(error: BaseException) -> str:
    told = translate_database_error(error)
    assert told is not None
    assert told.exit_code == 1
    assert "\n" not in str(told)
    return str(told)


# --- servers -------------------------------------------------------------------------------------


@ON_SERVERS
@CREATE
def test_a_password_that_is_refused_is_said_and_not_shown(database_url, create):
    wrong = make_url(database_url).set(password="wr0ng-one").render_as_string(hide_password=False)
    said = refusal(wrong, create=create)
    assert "password authentication failed" in said or "Access denied" in said
    assert "wr0ng-one" not in said


@ON_SERVERS
def test_a_database_that_is_missing_is_said(database_url):
    missing = make_url(database_url).set(database="absent").render_as_string(hide_password=False)
    said = refusal(missing, create=True)
    assert 'database "absent" does not exist' in said or "Unknown database 'absent'" in said


@ON_SERVERS
@CREATE
def test_a_server_that_is_away_is_said_at_once(database_url, create):
    nowhere = make_url(database_url).set(port=9).render_as_string(hide_password=False)
    assert "refused" in refusal(nowhere, create=create)


@pytest.mark.parametrize(
    ("url", "module", "extra"),
    [
        ("postgresql://ann:secret@host/db", "psycopg", "postgresql"),
        ("postgres://ann:secret@host/db", "psycopg", "postgresql"),
        ("mysql://ann:secret@host/db", "pymysql", "mysql"),
        ("mariadb://ann:secret@host/db", "pymysql", "mysql"),
    ],
)
def test_a_missing_driver_is_said_with_the_extra_that_brings_it(monkeypatch, url, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    assert f"the driver `{module}` is missing: pip install 'schedsearch[{extra}]'" in refusal(url)


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("postgresql://ann:s3:cr@et@host/db", "write the @ in the password as %40"),
        ("mysql://ann:s3cr@et:1@host:3306/db", "the storage URL is malformed"),
        ("postgresql://ann:s3cret@host:port/db", "the storage URL is malformed"),
    ],
)
def test_a_url_that_is_not_well_written_is_refused_without_any_part_of_its_password(url, rule):
    said = refusal(url)
    assert rule in said
    assert "et" not in said.replace("meaning", "")
    assert "et@" not in hide_password(url)
    assert has_password(url) or "is malformed" in said


def test_the_options_of_a_url_hold():
    url = make_url("postgresql://host/db?options=-csearch_path%3Dteam&connect_timeout=30")
    given = engine_options(url)["connect_args"]
    assert "connect_timeout" not in given
    assert given["options"].startswith("-c timezone=UTC ")
    assert given["options"].endswith(" -csearch_path=team")
    assert (
        "idle_transaction_timeout"
        in engine_options(make_url("mysql://h/db"))["connect_args"]["init_command"]
    )


@pytest.mark.parametrize("backend", ["postgresql"])
def test_a_server_that_may_only_be_read_is_said(database_url):
    study = study_at(database_url)
    name = make_url(database_url).database
    execute(database_url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    study.database.engine.dispose()
    with pytest.raises(DBAPIError) as caught:
        claim(study, "ann")
    said = failure(caught.value)
    assert said == (
        "the database failed: cannot execute SELECT FOR UPDATE in a read-only transaction; "
        "it is read-only: check its permissions and settings"
    )
    assert study.queue.counts().waiting == 1


@pytest.fixture
def reader_url(database_url: str) -> Iterator[str]:
    """The same database for a user who may only read its tables."""
    url = make_url(database_url)
    study_at(database_url)
    if url.get_backend_name() == "postgresql":
        name = f"reader_of_{url.database}"
        execute(
            database_url,
            f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'",
            f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}",
        )
        yield url.set(username=name, password=PASSWORD).render_as_string(hide_password=False)
        execute(database_url, f"DROP OWNED BY {name}", f"DROP ROLE {name}")
    else:
        name = "reader"
        execute(
            database_url,
            f"CREATE USER {name}@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'",
            f"GRANT SELECT ON {url.database}.* TO {name}@'127.0.0.1'",
        )
        yield url.set(username=name, password=PASSWORD).render_as_string(hide_password=False)
        execute(database_url, f"DROP USER {name}@'127.0.0.1'")


@ON_SERVERS
def test_a_user_who_may_only_read_sees_the_study_and_is_told_what_is_denied(
    database_url, reader_url
):
    study = get_only_study(open_database(reader_url))
    assert read_status(study).state == "stopped"
    with pytest.raises(DBAPIError) as caught:
        claim(study, "ann")
    said = failure(caught.value)
    assert "denied" in said
    assert said.endswith("it is read-only: check its permissions and settings")
    assert PASSWORD not in said
    assert study.queue.counts().waiting == 1
    study.database.engine.dispose()
    study.database.optuna.remove_session()


class Small(MariaDB):
    """A server whose tables lie in one file, which may not grow until somebody lets it."""

    growth = ""

    def _command(self) -> list[object]:
        file = f"--innodb-data-file-path=ibdata1:12M{self.growth}"
        return [*super()._command(), "--innodb-file-per-table=0", file]


@pytest.fixture
def small_server() -> Iterator[Small]:
    server = Small([program("mariadb-install-db"), program("mariadbd")])
    yield server
    server.end()


@pytest.mark.long
def test_a_server_without_room_is_said_and_the_search_goes_on_when_there_is_some(small_server):
    with empty_database(small_server.url) as url:
        study = make_study_at(url, document(trials=60))
        execute(url, "CREATE TABLE filler (bytes LONGBLOB)")
        for size in (2**18, 2**13, 2**10):
            with suppress(OperationalError):
                while True:
                    execute(url, f"INSERT INTO filler VALUES (REPEAT('x', {size}))")
        with pytest.raises(DBAPIError) as caught:
            work(study)
        said = failure(caught.value)
        assert re.search("The table '.*' is full; free some space and run the command again", said)
        written = study.queue.counts().epochs
        small_server.stop()
        small_server.growth = ":autoextend"
        small_server.start()
        study.queue.requeue_trials_of("ann")
        work(study, "bob")
        counts = study.queue.counts()
        assert (counts.finished, counts.trials) == (60, 60)
        assert counts.epochs >= written


# --- files ---------------------------------------------------------------------------------------


@contextmanager
def as_nobody() -> Iterator[None]:
    """Have the rights of nobody where the tests are run by root, who may write to everything."""
    if os.geteuid() != 0:
        yield
        return
    nobody = pwd.getpwnam("nobody").pw_uid
    os.setresuid(nobody, nobody, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


@pytest.fixture
def read_only_study() -> Iterator[StudyHandle]:
    with tempfile.TemporaryDirectory() as folder:
        study = make_study(Path(folder))
        study.database.engine.dispose()
        Path(folder, "studies.db").chmod(0o444)
        Path(folder).chmod(0o555)
        yield study
        Path(folder).chmod(0o755)


def test_a_file_that_may_only_be_read_is_said(read_only_study):
    with as_nobody():
        said = refusal(read_only_study.database.url, create=True)
    assert said.endswith("studies.db: is not writable: check its permissions")


def test_a_full_disk_is_said_and_the_search_goes_on_when_there_is_room(tmp_path):
    study = make_study(tmp_path, document(trials=40))
    engine = study.database.engine

    def fill(connection, record) -> None:
        """SQLite answers so, too, where its file may not grow."""
        [pages] = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 2}").fetchone()

    engine.dispose()
    event.listen(engine, "connect", fill)
    with pytest.raises(DBAPIError) as caught:
        work(study)
    assert failure(caught.value) == (
        "the database failed: database or disk is full; "
        "free some space and run the command again: earlier results are stored"
    )
    event.remove(engine, "connect", fill)
    engine.dispose()
    written = study.queue.counts().epochs
    study.queue.requeue_trials_of("ann")
    work(study, "bob")
    counts = study.queue.counts()
    assert (counts.finished, counts.trials) == (40, 40)
    assert counts.epochs >= written
    assert execute(study.database.url, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("kind", ["nfs4", "nfs", "cifs", "smb3", "ceph", "lustre", "fuse.sshfs"])
@CREATE
def test_sqlite_on_a_network_file_system_is_refused(tmp_path, monkeypatch, kind, create):
    folder = tmp_path / "für alle"
    folder.mkdir()
    study = make_study(folder)
    mounts = tmp_path / "mounts"
    place = str(folder).replace(" ", "\\040")
    mounts.write_text(f"none / ext4 rw 0 0\nhost:/export {place} {kind} rw,vers=4.2 0 0\n")
    monkeypatch.setattr("schedsearch.storage.database._MOUNTS", mounts)
    said = refusal(study.database.url, create=create)
    assert f"is on a network file system ({kind}), where SQLite loses data" in said
    mounts.write_text(f"host:/export / {kind} rw 0 0\n/dev/sda {place} ext4 rw 0 0\n")
    assert get_only_study(open_database(study.database.url, create=create)).name == "small"


# --- what never shows ----------------------------------------------------------------------------


@ON_SERVERS
def test_no_object_shows_the_password_of_its_database(database_url):
    study = make_study_at(database_url)
    shown = repr((study, study.database, study.database.engine, study.database.retrier))
    assert PASSWORD not in shown
    assert study.database.display_url.count("***") == 1
