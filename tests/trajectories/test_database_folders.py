"""A folder belongs to one database: no other database, and no copy, removes its files."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import time
from io import BytesIO
from pathlib import Path

import pytest
from optuna.artifacts.exceptions import ArtifactNotFound

from schedsearch.errors import StorageError
from schedsearch.storage import open_database
from schedsearch.trajectories import (
    Folder,
    TrajectoryStore,
    checkpoint_folder,
    database_folders,
    open_store,
)
from schedsearch.trajectories.database_folders import _stored_identity, open_picture_folder
from schedsearch.trajectories.folder import PICTURE_NAMES
from schedsearch.trajectories.snapshots import encode
from schedsearch.trajectories.tables import identity, versions
from tests.servers import SERVERS
from tests.trajectories.stores import follow, snapshot, train


def open_at(url: str, said: list[str] | None = None, budget: int | None = None) -> TrajectoryStore:
    lines: list[str] = []
    store = open_store(
        open_database(url, create=True), (lines if said is None else said).append, budget=budget
    )
    assert store is not None
    assert said is not None or lines == []
    return store


def keep(store: TrajectoryStore, *values: int) -> None:
    """Train a path for each value, and save its checkpoint."""
    for value in values:
        train(store, [value], keep=[1]).end()
    store.flush()


def restored(store: TrajectoryStore, *values: int) -> list[int]:
    return [value for value in values if follow(store, [value]).restore() is not None]


def url_at(folder: Path) -> str:
    return f"sqlite:///{folder / 'studies.db'}"


def checkpoints(folder: Path) -> set[str]:
    return {file.name for file in folder.glob("*.safetensors")}


def make_old(folder: Path) -> None:
    """Let all files be old enough for being removed as orphans."""
    hours_ago = time.time() - 7200
    for file in folder.iterdir():
        os.utime(file, (hours_ago, hours_ago))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "studies.db.checkpoints"


def remove_database(folder: Path) -> None:
    for file in folder.glob("studies.db*"):
        if file.is_file():
            file.unlink()


def test_a_database_finds_its_folder_again(tmp_path, folder):
    keep(open_at(url_at(tmp_path)), 0, 1)
    make_old(folder)
    assert restored(open_at(url_at(tmp_path)), 0, 1) == [0, 1]
    assert [f.name for f in tmp_path.iterdir() if f.is_dir()] == [folder.name]


def test_another_database_at_the_same_path_gets_a_separate_folder(tmp_path, folder):
    keep(open_at(url_at(tmp_path)), 0, 1, 2)
    make_old(folder)
    before = checkpoints(folder)
    remove_database(tmp_path)
    said: list[str] = []
    keep(open_at(url_at(tmp_path), said), 0)
    assert checkpoints(folder) == before
    [line] = said
    [separate] = {f.name for f in tmp_path.iterdir() if f.is_dir()} - {folder.name}
    assert f"{folder} belongs to another database" in line
    assert separate in line
    # From now on it is found without a word.
    assert restored(open_at(url_at(tmp_path)), 0) == [0]
    assert checkpoints(folder) == before


def test_an_orphan_is_removed_from_a_separate_folder_too(tmp_path, folder):
    keep(open_at(url_at(tmp_path)), 0)
    remove_database(tmp_path)
    keep(open_at(url_at(tmp_path), []), 1)
    [separate] = set(tmp_path.glob("studies.db.*.checkpoints"))
    orphan = separate / f"{'e' * 32}.01234567.safetensors"
    orphan.touch()
    make_old(separate)
    assert restored(open_at(url_at(tmp_path)), 1) == [1]
    assert not orphan.exists()


def copy_database(source: Path, target: Path) -> None:
    with sqlite3.connect(source) as connection:
        connection.execute(f"VACUUM INTO '{target}'")
    connection.close()


def test_a_moved_or_copied_database_finds_a_folder_that_comes_with_it(tmp_path, folder):
    keep(open_at(url_at(tmp_path)), 0, 1)
    place = tmp_path / "elsewhere"
    shutil.copytree(folder, place / folder.name)
    copy_database(tmp_path / "studies.db", place / "studies.db")
    before = checkpoints(folder)
    for path in (folder, place / folder.name):
        make_old(path)
    assert restored(open_at(url_at(place)), 0, 1) == [0, 1]
    assert checkpoints(folder) == checkpoints(place / folder.name) == before


def test_a_copy_without_the_folder_trains_again_and_removes_nothing(tmp_path, folder):
    keep(open_at(url_at(tmp_path)), 0, 1)
    copy = tmp_path / "copy.db"
    copy_database(tmp_path / "studies.db", copy)
    make_old(folder)
    before, said = checkpoints(folder), list[str]()
    store = open_at(f"sqlite:///{copy}", said)
    assert restored(store, 0, 1) == []
    follow(store, [0]).save(snapshot([0]))
    store.flush()
    assert restored(store, 0) == [0]
    assert len(said) == 1
    assert checkpoints(folder) == before
    assert restored(open_at(url_at(tmp_path)), 0, 1) == [0, 1]


def test_an_older_state_that_was_restored_in_place_removes_nothing(tmp_path, folder):
    keep(open_at(url_at(tmp_path)), 0)
    backup, newer = tmp_path / "backup.db", tmp_path / "newer.db"
    copy_database(tmp_path / "studies.db", backup)
    # In one worker: it was opened before the copy was taken, too.
    keep(open_at(url_at(tmp_path)), 1, 2)
    copy_database(tmp_path / "studies.db", newer)
    make_old(folder)
    before = checkpoints(folder)
    remove_database(tmp_path)
    backup.rename(tmp_path / "studies.db")
    size = len(encode(snapshot([0])) or b"")
    for _ in range(2):
        keep(open_at(url_at(tmp_path), [], budget=size), 5, 6, 7)
    assert checkpoints(folder) == before
    remove_database(tmp_path)
    newer.rename(tmp_path / "studies.db")
    assert restored(open_at(url_at(tmp_path)), 0, 1, 2) == [0, 1, 2]


def test_a_state_between_two_batches_of_one_worker_counts_as_older(tmp_path, folder):
    store = open_at(url_at(tmp_path))
    keep(store, 0)
    backup = tmp_path / "backup.db"
    copy_database(tmp_path / "studies.db", backup)
    keep(store, 1)
    make_old(folder)
    before = checkpoints(folder)
    remove_database(tmp_path)
    backup.rename(tmp_path / "studies.db")
    open_at(url_at(tmp_path), [])
    assert checkpoints(folder) == before


# --- folders of an earlier version ---------------------------------------------------------------


def forget_identity(folder: Path, url: str) -> None:
    """Turn a database and its folder into those of the version before."""
    (folder / "database.json").unlink()
    database = open_database(url)
    with database.engine.begin() as connection:
        identity.drop(connection)
        connection.execute(versions.update().values(version=1))


def test_a_folder_of_an_earlier_version_is_found_and_nothing_is_removed(tmp_path, folder):
    url = url_at(tmp_path)
    keep(open_at(url), 0, 1)
    neighbours = folder / f"{'e' * 32}.01234567.safetensors"
    neighbours.touch()
    make_old(folder)
    forget_identity(folder, url)
    for _ in range(2):
        assert restored(open_at(url), 0, 1) == [0, 1]
        assert neighbours.exists()


def test_a_folder_of_an_earlier_version_with_files_of_another_database_is_not_used(
    tmp_path, folder
):
    keep(open_at(url_at(tmp_path)), 0, 1)
    (folder / "database.json").unlink()
    make_old(folder)
    before = checkpoints(folder)
    remove_database(tmp_path)
    said: list[str] = []
    keep(open_at(url_at(tmp_path), said), 1)
    assert len(said) == 1
    assert checkpoints(folder) == before
    assert not (folder / "database.json").exists()


# --- hostile records -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"not JSON",
        b"[]",
        b"{}",
        b"[" * 4096,
        b'{"identity": 7, "written": 0}',
        b'{"identity": "", "written": 0}',
        b'{"identity": "../../x", "written": 0}',
        b'{"identity": "a", "written": "b"}',
        b'{"identity": "a", "written": NaN}',
        b'{"identity": "a", "written": 1e999, "adopted": []}',
        b" " * 100_000 + b"{}",
    ],
    ids=range(12),
)
def test_a_folder_with_an_invalid_record_is_left_unchanged(tmp_path, folder, record):
    keep(open_at(url_at(tmp_path)), 0)
    (folder / "database.json").write_bytes(record)
    make_old(folder)
    before = checkpoints(folder)
    said: list[str] = []
    keep(open_at(url_at(tmp_path), said), 1)
    assert len(said) == 1
    assert checkpoints(folder) == before
    assert (folder / "database.json").read_bytes() == record


def test_a_record_that_is_a_link_is_not_followed(tmp_path, folder):
    keep(open_at(url_at(tmp_path)), 0)
    record = folder / "database.json"
    record.rename(tmp_path / "moved.json")
    record.symlink_to(tmp_path / "moved.json")
    before = (tmp_path / "moved.json").read_bytes()
    said: list[str] = []
    keep(open_at(url_at(tmp_path), said), 1)
    assert len(said) == 1
    assert (tmp_path / "moved.json").read_bytes() == before


def test_a_linked_folder_is_refused_in_one_line_and_training_goes_on(tmp_path, folder):
    target = tmp_path / "home"
    target.mkdir()
    old = target / f"{'e' * 32}.01234567.safetensors"
    old.touch()
    make_old(target)
    folder.symlink_to(target)
    said: list[str] = []
    store = open_at(url_at(tmp_path), said)
    keep(store, 0)
    assert restored(store, 0) == []
    [line] = said
    assert f"{folder}: is a link" in line
    assert "\n" not in line
    assert old.exists()
    assert len(list(target.iterdir())) == 1


# --- pictures ------------------------------------------------------------------------------------

PICTURE = "01234567-89ab-cdef-0123-456789abcdef"


def test_another_database_does_not_remove_a_picture(tmp_path):
    open_at(url_at(tmp_path))
    first = open_picture_folder(open_database(url_at(tmp_path)))
    first.write(PICTURE, BytesIO(b"png"))
    assert json.loads((first.path / "database.json").read_text())["identity"]
    again = open_picture_folder(open_database(url_at(tmp_path)))
    assert again.path == first.path
    remove_database(tmp_path)
    open_at(url_at(tmp_path))
    other = open_picture_folder(open_database(url_at(tmp_path)))
    assert other.path != first.path
    with pytest.raises(Exception, match=PICTURE):
        other.remove(PICTURE)
    again.remove(PICTURE)


# --- servers -------------------------------------------------------------------------------------


ON_SERVERS = pytest.mark.parametrize(
    "backend", [pytest.param(name, marks=pytest.mark.long) for name in SERVERS]
)


@ON_SERVERS
def test_a_sqlite_file_and_a_server_database_of_one_name_do_not_share_a_folder(
    database, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    url = f"sqlite:///{database.engine.url.database}"
    keep(open_at(url), 0, 1)
    shared = checkpoint_folder(url, tmp_path)
    assert checkpoint_folder(database.url, tmp_path) == shared
    make_old(shared)
    before, said = checkpoints(shared), list[str]()
    keep(open_at(database.url, said), 0, 3)
    assert len(said) == 1
    assert checkpoints(shared) == before
    assert restored(open_at(url), 0, 1) == [0, 1]
    assert restored(open_at(database.url), 0, 3) == [0, 3]


@ON_SERVERS
def test_a_copy_on_a_server_does_not_share_a_folder_with_its_original(
    backend, servers, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with servers.database(backend) as original, servers.database(backend) as copy:
        keep(open_at(original), 0, 1)
        stored = open_database(original).read(_stored_identity)
        open_at(copy)
        with open_database(copy).engine.begin() as connection:
            connection.execute(identity.update().values(identity=stored, written=2e9))
        [folder] = tmp_path.glob("*.checkpoints")
        shared = checkpoint_folder(copy, tmp_path)
        folder.rename(shared)  # both databases have one name, on two servers
        make_old(shared)
        before, said = checkpoints(shared), list[str]()
        keep(open_at(copy, said), 5)
        assert len(said) == 1
        assert checkpoints(shared) == before


@ON_SERVERS
def test_a_copy_on_a_server_removes_no_picture_of_its_original(
    backend, servers, tmp_path, monkeypatch
):
    shared = tmp_path / "studies.pictures"  # both databases have one name, on two servers
    monkeypatch.setattr(database_folders, "picture_folder", lambda *_: shared)
    Folder(shared, PICTURE_NAMES).write(PICTURE, BytesIO(b"of an earlier version"))
    make_old(shared)
    mine = PICTURE.replace("0", "1")
    with servers.database(backend) as original, servers.database(backend) as copy:
        pictures = open_picture_folder(open_database(copy, create=True))
        with pytest.raises(ArtifactNotFound):
            pictures.remove(PICTURE)
        pictures.write(mine, BytesIO(b"png"))
        with pytest.raises(ArtifactNotFound):
            pictures.remove(PICTURE)
        others = open_picture_folder(open_database(original, create=True))
        with pytest.raises(ArtifactNotFound):
            others.remove(mine)
        others.write(PICTURE, BytesIO(b"png"))
        assert (shared / PICTURE).read_bytes() == b"of an earlier version"
        again = open_picture_folder(open_database(original))
        assert again.path == others.path != shared
        again.remove(PICTURE)
        open_picture_folder(open_database(copy)).remove(mine)


@pytest.mark.parametrize("name", ["../studies", "/etc/studies", "a/b"])
def test_the_name_of_a_server_database_does_not_lead_out_of_the_folder(tmp_path, name):
    folder = checkpoint_folder(f"postgresql://ann@db/{name}", tmp_path)
    assert folder.parent == tmp_path


def test_the_record_of_another_database_is_not_overwritten(tmp_path, folder):
    store = open_at(url_at(tmp_path))
    keep(store, 0)
    theirs = json.dumps({"identity": "f" * 32, "written": 0.0, "adopted": None})
    (folder / "database.json").write_text(theirs)
    keep(store, 1)
    assert (folder / "database.json").read_text() == theirs


def change(folder: Path, statement: str) -> None:
    with sqlite3.connect(folder / "studies.db") as connection:
        connection.execute(statement)
    connection.close()


def test_a_wrong_time_of_the_database_is_one_warning(tmp_path, folder):
    keep(open_at(url_at(tmp_path)), 0)
    change(tmp_path, "UPDATE schedsearch_identity SET written = 'abc'")
    said: list[str] = []
    open_at(url_at(tmp_path), said)
    [line] = said
    assert "`written` in its table schedsearch_identity is 'abc'" in line


def test_a_wrong_version_of_the_tables_is_one_line(tmp_path, folder):
    keep(open_at(url_at(tmp_path)), 0)
    change(tmp_path, "UPDATE schedsearch_version SET version = -5")
    with pytest.raises(StorageError, match="in its table schedsearch_version is -5, but must"):
        open_at(url_at(tmp_path))


def test_a_cached_result_with_a_huge_number_is_one_line(tmp_path, folder):
    keep(open_at(url_at(tmp_path)), 0)
    with sqlite3.connect(tmp_path / "studies.db") as connection:
        result = f'[{{"loss": 1{"0" * 400}}}, {{}}]'
        connection.execute("UPDATE schedsearch_nodes SET result = ?", (result,))
    connection.close()
    store = open_at(url_at(tmp_path))
    with pytest.raises(StorageError, match="its result of epoch"):
        follow(store, [0])
