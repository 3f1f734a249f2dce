"""A study keeps the version of the rules for schedules that it was created with."""

from dataclasses import replace

from schedsearch.space import Space
from schedsearch.storage import StudyHandle, create_study, open_database, plan_of
from tests.searches import document
from tests.storage.studies import record

FILE = document()
FILE["hyperparameters"]["lr"]["default"] = 0.1


def created(url: str, space: Space) -> StudyHandle:
    return create_study(open_database(url, create=True), replace(record(10), space=space))


def test_a_new_study_records_the_newest_version(tmp_path) -> None:
    study = created(f"sqlite:///{tmp_path}/new.db", Space.from_file(FILE, "small.toml"))
    assert study.space.to_document()["schedule_version"] == 3
    assert plan_of(study.trial(0)).version == study.space.baseline().version == 3


def test_a_study_without_a_version_is_continued_from_a_file_with_version_1(tmp_path) -> None:
    url = f"sqlite:///{tmp_path}/old.db"
    old = created(url, Space.from_document(FILE, "small.toml"))
    assert "schedule_version" not in old.space.to_document()
    study = created(url, Space.from_file(FILE, "small.toml", old.space))
    assert study.space.schedule_version == plan_of(study.trial(0)).version == 1
    assert "schedule_version" not in study.trial(0).user_attrs["plan"]


def test_a_config_with_a_source_and_no_version_was_exported_before_there_were_versions() -> None:
    assert Space.from_file(FILE | {"source": {"study": "small"}}, "best.toml").schedule_version == 1
    assert Space.from_file(FILE, "small.toml").schedule_version == 3


def test_a_saved_space_keeps_its_version(tmp_path) -> None:
    for space in (Space.from_document(FILE, "old.toml"), Space.from_file(FILE, "new.toml")):
        space.save(tmp_path / "saved.toml")
        assert Space.load(tmp_path / "saved.toml").schedule_version == space.schedule_version
