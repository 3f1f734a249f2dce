"""Which studies have a race: the file, the option of `start`, and older studies."""

from __future__ import annotations

import pytest

from schedsearch.errors import FileError
from schedsearch.preparation import load_space
from schedsearch.race.race import make_race
from schedsearch.space import Space
from schedsearch.space.document import RaceOptions
from tests.searches import document, write_space


def new(**search: object) -> Space:
    return Space.from_file(document(**search), "small.toml")


def test_a_new_study_with_one_seed_has_a_race():
    assert new().search.race == RaceOptions(top=16, rounds=4, share=0.25)
    assert new(race={"top": 8}).search.race == RaceOptions(top=8)


@pytest.mark.parametrize(
    "search",
    [{"race": {"top": 0}}, {"seeds": 3}, {"sampler": {"name": "grid"}}],
)
def test_there_is_no_race_where_it_is_off_or_adds_nothing(search):
    assert make_race(new(**search)) is None


def test_several_seeds_may_have_a_race():
    assert make_race(new(seeds=3, race={"top": 8})) is not None


def test_a_study_from_before_there_was_a_race_stays_without_one():
    stored = Space.from_document(document(), "study small")
    assert stored.search.race is None
    assert Space.from_file(document(), "small.toml", stored).search.race is None
    assert "race" not in stored.to_document()["search"]


def test_a_study_keeps_its_race_if_the_file_says_nothing():
    stored = new(race={"top": 5, "share": 0.5})
    assert Space.from_file(document(), "small.toml", stored).search.race == stored.search.race
    assert Space.from_document(stored.to_document(), "study small") == stored


def test_a_saved_space_has_the_same_race(tmp_path):
    for space in (new(), new(race={"top": 0}), new(seeds=3)):
        space.save(tmp_path / "saved.toml")
        assert Space.load(tmp_path / "saved.toml").search.race == space.search.race


def test_a_grid_with_a_race_is_refused():
    with pytest.raises(FileError, match=r"search\.race\.top = 16: must be 0 with the sampler"):
        new(sampler={"name": "grid"}, race={})


@pytest.mark.parametrize(
    ("race", "key"),
    [({"top": -1}, "top"), ({"rounds": 0}, "rounds"), ({"share": 0.6}, "share"), ({"to": 1}, "to")],
)
def test_wrong_values_are_refused(race, key):
    with pytest.raises(FileError, match=rf"search\.race\.{key}"):
        new(race=race)


def test_the_option_overrides_the_file(tmp_path):
    path = write_space(tmp_path, document(race={"top": 4, "rounds": 2}))
    assert load_space(path, {"search.race.top": 9}).search.race == RaceOptions(top=9, rounds=2)
    path = write_space(tmp_path, document())
    assert make_race(load_space(path, {"search.race.top": 0})) is None
