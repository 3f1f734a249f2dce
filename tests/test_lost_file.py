"""The file of a SQLite database that is deleted, moved or replaced during a search."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from schedsearch.errors import DatabaseFileLostError
from schedsearch.storage import get_only_study, open_database, open_study
from tests import searches
from tests.searches import begin, document, make_study, url_of, wait_until, work, write_space

LOST = "the database file was deleted, moved or replaced while it was in use"


def delete(folder: Path) -> None:
    (folder / "studies.db").unlink()


def move(folder: Path) -> None:
    (folder / "studies.db").rename(folder / "moved.db")


def replace(folder: Path) -> None:
    """Put a valid copy in the place of the file."""
    shutil.copy(folder / "studies.db", folder / "copy.db")
    (folder / "copy.db").rename(folder / "studies.db")


def delete_folder(folder: Path) -> None:
    shutil.rmtree(folder)


@pytest.mark.parametrize("lose", [delete, move, replace, delete_folder])
def test_a_worker_stops_within_a_round_and_creates_no_file(
    tmp_path: Path, lose: Callable[[Path], None]
):
    folder = tmp_path / "data"
    folder.mkdir()
    study, checks = make_study(folder, document(searches.train_slowly)), 0

    def lose_it() -> bool:
        nonlocal checks
        checks += 1
        if checks == 4:
            lose(folder)
        return False

    with pytest.raises(DatabaseFileLostError, match=LOST):
        work(study, should_stop=lose_it)
    assert checks == 4
    assert (folder / "studies.db").exists() == (lose is replace)


@pytest.mark.parametrize("call", ["read", "optuna"])
def test_a_new_connection_creates_no_file(tmp_path: Path, call: str):
    study = make_study(tmp_path)
    delete(tmp_path)
    study.database.engine.dispose()
    study.database.rdb.engine.dispose()
    with pytest.raises(DatabaseFileLostError, match=LOST):
        study.queue.counts() if call == "read" else study.load()
    assert not (tmp_path / "studies.db").exists()


def test_a_link_to_the_file_may_be_replaced_by_another_link_to_it(tmp_path: Path):
    make_study(tmp_path)
    link = tmp_path / "link.db"
    link.symlink_to(tmp_path / "studies.db")
    study = get_only_study(open_database(f"sqlite:///{link}"))
    link.unlink()
    link.hardlink_to(tmp_path / "studies.db")
    assert study.queue.counts().waiting == 1


@pytest.mark.long
@pytest.mark.parametrize("lose", [delete, replace])
def test_start_says_it_once_prints_no_summary_and_exits_1(
    tmp_path: Path, lose: Callable[[Path], None]
):
    content = document(searches.train_slowly, pruner={"name": "none"}) | {"horizon": 100_000}
    space = write_space(tmp_path, content)
    options = ["--storage", url_of(tmp_path), "--workers", 2]
    search = begin("start", space, *options, folder=tmp_path)

    def are_running() -> bool:
        try:
            return get_only_study(open_database(url_of(tmp_path))).queue.counts().epochs > 20
        except Exception:  # the tables are not there yet
            return False

    wait_until(are_running)
    lose(tmp_path)
    out, err = search.communicate(timeout=60)
    assert (search.returncode, out) == (1, "")
    assert err.count(LOST) == 1
    assert "Traceback" not in err
    assert (tmp_path / "studies.db").exists() == (lose is replace)


@pytest.mark.long
@pytest.mark.parametrize("lose", [delete, delete_folder])
def test_confirm_says_it_once_and_exits_1(tmp_path: Path, lose: Callable[[Path], None]):
    folder, go = tmp_path / "data", tmp_path / "go"
    folder.mkdir()
    go.touch()
    # A grid has a schedule among its trials, whatever the names of the workers.
    grid = {"sampler": {"name": "grid", "points": 2}, "pruner": {"name": "none"}}
    space = write_space(tmp_path, document(searches.train_when_let, trials=7, **grid))
    begin("start", space, "--storage", url_of(folder), folder=tmp_path).communicate(timeout=60)
    go.unlink()
    options = ["--storage", url_of(folder), "--workers", 2, "--top", 1, "--seeds", 6]
    confirm = begin("confirm", "small", *options, folder=tmp_path)

    def are_running() -> bool:
        try:
            runs = open_study(open_database(url_of(folder)), "small:confirm")
        except Exception:  # the study of the runs is not there yet
            return False
        return runs.queue.counts().running > 0

    wait_until(are_running)
    lose(folder)
    out, err = confirm.communicate(timeout=60)
    assert (confirm.returncode, out) == (1, "")
    assert err.count(LOST) == err.count("error:") == 1
    assert "the same command continues" not in err
    assert "Traceback" not in err


@pytest.mark.long
def test_a_single_worker_says_it_in_one_line_and_exits_1(tmp_path: Path):
    content = document(searches.train_slowly, pruner={"name": "none"}) | {"horizon": 100_000}
    study = make_study(tmp_path, content)
    worker = begin("worker", "small", "--storage", url_of(tmp_path), folder=tmp_path)
    wait_until(lambda: study.queue.counts().epochs > 20)
    delete(tmp_path)
    _, err = worker.communicate(timeout=60)
    assert worker.returncode == 1, err
    assert [line for line in err.splitlines() if line.startswith("error:")] == [
        line for line in err.splitlines() if LOST in line
    ]
    assert err.count(LOST) == 1
    assert "Traceback" not in err
