"""How many trials a search needs for a strong baseline: one answer for all commands."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from schedsearch.race.planned import planned_constants, trials_for_constants
from schedsearch.space import Space
from tests.searches import document


def space_of(share: float, top: int) -> Space:
    search = {"sampler": {"name": "forecast", "constants": share}, "race": {"top": top}}
    return Space.from_document(document(**search), "small.toml")


@given(st.floats(0.05, 1.0), st.sampled_from([0, 4, 16, 100_000]), st.integers(1, 40))
def test_so_many_trials_try_enough_constants_and_one_less_does_not(share, top, constants):
    space = space_of(share, top)
    trials = trials_for_constants(space, constants)
    assert planned_constants(space, trials) >= constants
    assert trials <= 1 + (constants - 1) / share or planned_constants(space, trials - 1) < constants


def test_a_search_without_constants_never_tries_enough():
    assert trials_for_constants(space_of(0.0, 16), 10) is None
