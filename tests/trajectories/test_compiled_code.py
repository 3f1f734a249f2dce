"""Compiled steps are kept beside the database, and loaded by the next process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from schedsearch.storage import open_database
from schedsearch.trajectories.compiled_code import kept_compiled_code

VARIABLE = "TORCHINDUCTOR_CACHE_DIR"
#: Trains an epoch of four lanes, compiled, and prints the results exactly.
TRAIN = """
import sys
from schedsearch.engines.lanes.engine import LanesEngine
from schedsearch.storage import open_database
from schedsearch.trajectories.compiled_code import kept_compiled_code
from tests.engines.toys import Toy

with kept_compiled_code(open_database(sys.argv[1])):
    engine = LanesEngine(Toy(), 4)
    for lane in range(4):
        engine.fill(lane, seed=lane)
    print([(result.metrics, result.terms) for result in engine.train_epoch([{}] * 4)])
"""
#: A module that has an attribute `torch`, before all modules of torch.
OTHER_ORDER = """
import sys, types
first = sys.modules["first"] = types.ModuleType("first")
import torch
first.torch = torch
"""


@pytest.fixture
def database(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE)
    return open_database(f"sqlite:///{tmp_path}/studies.db", create=True)


def folder_in_use() -> Path | None:
    given = os.environ.get(VARIABLE)
    return None if given is None else Path(given)


def test_compiled_code_is_kept_beside_the_database_while_it_is_in_use(database, tmp_path):
    with kept_compiled_code(database):
        folder = folder_in_use()
    assert folder is not None
    assert folder.parent == tmp_path / "studies.db.compiled"
    assert folder_in_use() is None


def test_a_folder_that_the_user_has_set_is_used(database, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "mine"))
    with kept_compiled_code(database):
        assert folder_in_use() == tmp_path / "mine"
    assert not (tmp_path / "studies.db.compiled").exists()


@pytest.mark.parametrize("mode", [0o770, 0o702])
def test_a_folder_that_others_can_write_to_is_not_used(database, tmp_path, mode):
    folder = tmp_path / "studies.db.compiled"
    folder.mkdir()
    folder.chmod(mode)
    with kept_compiled_code(database):
        assert folder_in_use() is None


def test_a_link_in_place_of_the_folder_is_not_used(database, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (tmp_path / "studies.db.compiled").symlink_to(elsewhere)
    with kept_compiled_code(database):
        assert folder_in_use() is None


def test_without_a_folder_torch_uses_its_default(database, tmp_path):
    (tmp_path / "studies.db.compiled").write_text("a file")
    with kept_compiled_code(database):
        assert folder_in_use() is None


def test_a_folder_that_no_code_can_be_loaded_from_is_not_used(database, monkeypatch):
    monkeypatch.setattr("schedsearch.trajectories.compiled_code._NOEXEC", 8)
    found = SimpleNamespace(f_flag=8)
    monkeypatch.setattr(os, "statvfs", lambda path: found)
    with kept_compiled_code(database):
        assert folder_in_use() is None


@pytest.mark.long
def test_the_next_process_compiles_nothing_and_computes_the_same(database, tmp_path):
    compilers, log = tmp_path / "bin", tmp_path / "compiled"
    compilers.mkdir()
    wrapper = compilers / "g++"
    wrapper.write_text(f'#!/bin/sh\necho "$@" >> {log}\nPATH=$REAL_PATH exec g++ "$@"\n')
    wrapper.chmod(0o755)
    path = os.environ["PATH"]
    environment = os.environ | {"REAL_PATH": path, "PATH": f"{compilers}:{path}"}
    command = [sys.executable, "-c", TRAIN, database.url]

    def begin() -> subprocess.Popen[str]:
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    # Two at once, which compile the same step into the same folder.
    both = [process.communicate()[0] for process in [begin(), begin()]]
    kernels = [line for line in log.read_text().splitlines() if ".main.cpp" in line]
    assert len(kernels) > 1
    assert len(kernels) == len(set(kernels))
    log.write_text("")
    third = begin().communicate()[0]
    assert third == both[0] == both[1] != ""
    assert ".main.cpp" not in log.read_text()


@pytest.mark.long
def test_a_process_that_imports_in_another_order_finds_the_same_code(database, tmp_path):
    def files_after(code: str) -> set[Path]:
        subprocess.run(
            [sys.executable, "-c", code, database.url], check=True, stdout=subprocess.DEVNULL
        )
        return {path for path in tmp_path.rglob("*") if path.is_file()}

    compiled = files_after(TRAIN)
    assert compiled
    assert files_after(OTHER_ORDER + TRAIN) == compiled
