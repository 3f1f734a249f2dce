"""Databases that cannot be used: one clear message each, and no partial writes."""

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
    # Otherwise a traceback would show the driver's error.
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
def test_a_wrong_password_is_refused_and_hidden(database_url, create):
    wrong = make_url(database_url).set(password="wr0ng-one").render_as_string(hide_password=False)
    said = refusal(wrong, create=create)
    assert "password authentication failed" in said or "Access denied" in said
    assert "wr0ng-one" not in said


@ON_SERVERS
def test_a_missing_database_is_refused(database_url):
    missing = make_url(database_url).set(database="absent").render_as_string(hide_password=False)
    said = refusal(missing, create=True)
    assert 'database "absent" does not exist' in said or "Unknown database 'absent'" in said


@ON_SERVERS
@CREATE
def test_an_unavailable_server_is_refused_at_once(database_url, create):
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
def test_a_missing_driver_is_refused_with_the_extra_that_installs_it(
    monkeypatch, url, module, extra
):
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
def test_a_malformed_url_is_refused_without_any_part_of_its_password(url, rule):
    said = refusal(url)
    assert rule in said
    assert "et" not in said.replace("meaning", "")
    assert "et@" not in hide_password(url)
    assert has_password(url) or "is malformed" in said


def test_the_options_of_a_url_take_precedence():
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
def test_a_read_only_server_is_reported(database_url):
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
    """Return the URL of the same database for a user with read permission only."""
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
def test_a_user_with_read_permission_reads_the_study_and_gets_an_error_for_a_write(
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
    """A server whose tables are in one file of a limited size."""

    growth = ""

    def _command(self) -> list[object]:
        file = f"--innodb-data-file-path=ibdata1:12M{self.growth}"
        return [*super()._command(), "--innodb-file-per-table=0", file]


@pytest.fixture
def small_server() -> Iterator[Small]:
    server = Small([program("mariadb-install-db"), program("mariadbd")])
    yield server
    server.close()


@pytest.mark.long
def test_a_full_server_is_reported_and_the_search_continues_when_it_has_space(small_server):
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
    """Use the user `nobody` if the tests run as root, which may write to every file."""
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


def test_a_read_only_file_is_refused(read_only_study):
    with as_nobody():
        said = refusal(read_only_study.database.url, create=True)
    assert said.endswith("studies.db: is not writable: check its permissions")


def test_a_full_disk_is_reported_and_the_search_continues_when_it_has_space(tmp_path):
    study = make_study(tmp_path, document(trials=40))
    engine = study.database.engine

    def fill(connection, record) -> None:
        """Limit the file: SQLite raises the same error as for a full disk."""
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


# --- passwords -----------------------------------------------------------------------------------


@ON_SERVERS
def test_no_repr_contains_the_password(database_url):
    study = make_study_at(database_url)
    shown = repr((study, study.database, study.database.engine, study.database.retrier))
    assert PASSWORD not in shown
    assert study.database.display_url.count("***") == 1
