"""Shares that can never be meant: refused in a new file, kept in a study and in a drawn plan."""

import warnings

import pytest
import tomli_w

import schedsearch
from schedsearch.errors import FileError
from schedsearch.schedules import CURRENT_VERSION
from schedsearch.space import Space
from schedsearch.space.cut_phases import cut_phase_warnings
from schedsearch.space.durations import phase_lengths
from tests.space.documents import searching

CONSTANT = {"constant": {"value": 0.5}}


def peak(warmup, stable, decay):
    ends = {"initial": 0.0, "peak": 1.0, "final": 0.0}
    return {"warmup_stable_decay": {**ends, "warmup": warmup, "stable": stable, "decay": decay}}


def one_cycle(rise, fall):
    ends = {"initial": 0.0, "peak": 1.0, "final": 0.0}
    return {"one_cycle": {**ends, "rise": rise, "fall": fall}}


WARMUP = {"warmup": {"inner": CONSTANT, "duration": "100%"}}
JOIN = {"join": {"schedules": [CONSTANT] * 3, "boundaries": ["50%", "150%"]}}


@pytest.mark.parametrize(
    ("families", "problem"),
    [
        (peak("20%", "70%", "30%"), "warmup_stable_decay: warmup, stable, decay come to 120% of"),
        (peak("20%", "70%", "10.5%"), "warmup_stable_decay: warmup, stable, decay come to 100.5%"),
        (peak("60%", "rest", "60%"), "warmup_stable_decay: warmup, stable, decay come to 120%"),
        (one_cycle("60%", "60%"), "one_cycle: rise, fall come to 120%"),
        (WARMUP, "warmup.duration = '100%': must be less than 100%"),
        (JOIN, "join.boundaries.1 = '150%': must be less than 100%"),
        ({"scale": {"factor": 1.0, "inner": WARMUP}}, "scale.inner.warmup.duration = '100%'"),
    ],
)
def test_shares_that_can_never_be_meant_are_refused_in_a_new_file_only(families, problem):
    content = searching(families)
    with pytest.raises(FileError) as refused:
        Space.from_file(content, "file.toml")
    assert f"file.toml: hyperparameters.u.families.{problem}" in str(refused.value)
    # A study keeps them, and so does a plan that was drawn from ranges.
    stored = Space.from_document(content, "file.toml")
    Space.from_file(content, "file.toml", stored)
    for kept in ({"schedule_version": CURRENT_VERSION}, {"source": {"study": "small"}}):
        Space.from_file(content | kept, "file.toml")


@pytest.mark.parametrize(
    "families",
    [
        peak("14.1%", "70.2%", "15.7%"),
        peak("14.1%", "70.2%", "rest"),
        peak({"low": "10%", "high": "40%"}, "70%", "20%"),
        peak(10, "70%", "30%"),
        {"warmup": {"inner": CONSTANT, "duration": "99%"}},
        {"warmup": {"inner": CONSTANT, "duration": {"low": "10%", "high": "100%"}}},
    ],
)
def test_shares_that_may_be_meant_are_valid(families):
    Space.from_file(searching(families), "file.toml")


def test_many_levels_of_a_phase_count_by_the_shortest_and_the_longest():
    levels = {"levels": [f"{k / 10}%" for k in range(1, 61)]}
    space = Space.from_document(searching(peak(levels, "70%", "25%")), "file.toml")
    [families] = space.families.values()
    [phases] = phase_lengths(families, 100, "epoch")
    assert phases.lengths == ((0.1, 70.0, 25.0), (6.0, 70.0, 25.0))
    assert phases.horizons == (100, 100)
    [warning] = cut_phase_warnings(space)
    assert "may come to" in warning


def test_loading_a_file_warns_of_phases_that_are_cut(tmp_path):
    path = tmp_path / "file.toml"
    for stable, count in (("70%", 1), ("rest", 0)):
        path.write_text(tomli_w.dumps(searching(peak(10, stable, "20%"))))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            schedsearch.load(path)
        assert len(caught) == count
        assert all("`stable` is cut at the horizon" in str(each.message) for each in caught)
        assert all(each.filename == __file__ for each in caught)
