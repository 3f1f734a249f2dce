"""What a new study knows of the compiled steps of earlier ones, and a worker of its process."""

from __future__ import annotations

import pytest

from schedsearch import study_setup
from schedsearch.launchers import in_process
from schedsearch.numerics import current_numerics
from schedsearch.preparation import ComputeOptions, choose_numerics, prepare_space
from schedsearch.space import Space
from schedsearch.storage import create_study, open_database
from schedsearch.worker import Messages, ProcessControl
from tests.searches import document, make_study, url_of

LANES = current_numerics("lanes", lanes=24, threads=2, compiled=True)


@pytest.fixture
def compiled_folder(tmp_path, monkeypatch):
    folder = tmp_path / "compiled"
    folder.mkdir()
    (folder / "step.so").touch()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(folder))
    return folder


@pytest.fixture
def compiled_before(tmp_path, monkeypatch):
    """Return what `choose_numerics` is told after a study with some numerics."""

    def known(numerics):
        told = []
        monkeypatch.setattr(
            study_setup, "choose_numerics", lambda *args: told.append(args[-1]()) or {}
        )
        prepared = prepare_space(Space.from_document(document(), "small.toml"))
        database = open_database(url_of(tmp_path), create=True)
        create_study(database, prepared.record(numerics))
        study_setup.measure_numerics(prepared, ComputeOptions(lanes=None), database, print)
        return told[0]

    return known


def test_a_step_that_a_study_of_the_database_compiled_is_known(compiled_folder, compiled_before):
    assert compiled_before(LANES) == {(24, 2)}


@pytest.mark.parametrize(
    "other", [{"compiled": False}, {"torch": "2.0"}, {"processor": "another"}, {"autocast": True}]
)
def test_a_step_of_other_numerics_is_not_known(compiled_folder, compiled_before, other):
    assert compiled_before({**LANES, **other}) == set()


def test_numerics_of_an_earlier_version_without_lanes_are_no_obstacle(
    compiled_folder, compiled_before
):
    few = {key: LANES[key] for key in ("engine", "threads", "device", "torch")}
    assert compiled_before(few) == set()


def test_without_its_compiled_code_a_step_is_not_known(compiled_folder, compiled_before):
    (compiled_folder / "step.so").unlink()
    assert compiled_before(LANES) == set()


def test_without_a_folder_of_compiled_code_no_step_is_known(
    compiled_folder, compiled_before, monkeypatch
):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(compiled_folder / "missing"))
    assert compiled_before(LANES) == set()


@pytest.mark.parametrize(("lanes", "lookups"), [(2, 0), (None, 1)])
def test_compiled_steps_are_looked_up_only_if_lanes_are_measured(lanes, lookups):
    called = []
    content = document() | {"task": "tests.engines.toys:Toy"}
    prepared = prepare_space(Space.from_document(content, "small.toml"))
    choose_numerics(
        prepared, ComputeOptions(lanes=lanes), print, lambda: called.append("lookup") or set()
    )
    assert len(called) == lookups


@pytest.mark.parametrize("is_own_process", [True, False])
def test_a_worker_keeps_what_is_loaded_only_in_a_process_of_its_own(
    tmp_path, monkeypatch, is_own_process
):
    kept = []
    monkeypatch.setattr(in_process, "keep_all", lambda: kept.append(True))
    in_process.run_worker(
        make_study(tmp_path, document(trials=2)),
        name="worker",
        control=ProcessControl(lambda: False),
        messages=Messages(print, print),
        is_own_process=is_own_process,
    )
    assert kept == [True] * is_own_process
