"""What the plans of a space have in common, before anything is trained."""

from __future__ import annotations

import pytest

from schedsearch.errors import InputError
from schedsearch.space import Space
from schedsearch.space.sharing import expected_reuse, expected_sharing
from tests.space.documents import searching, small


def space_of(horizon: int = 20, **families: object) -> Space:
    content = searching(dict(families), horizon=horizon)
    content["hyperparameters"]["u"]["families"]["constant"]["value"] = 0.5
    return Space.from_document(content, "space.toml")


def segments(number: int, levels: int) -> dict[str, object]:
    return {"segments": number, "values": {"levels": [i / levels for i in range(levels)]}}


def test_continuous_values_in_the_first_epoch_share_nothing_and_are_named() -> None:
    families = {"exponential": {"initial": {"low": 0.1, "high": 0.9}, "decay_rate": 0.9}}
    content = searching(families)
    found = expected_sharing(Space.from_document(content, "space.toml"), 100, seed=0)
    assert found.reuse == 0.0
    assert found.alone == ("u",)
    assert found.branches == frozenset()


def test_what_is_drawn_again_is_known() -> None:
    """All of a hundred plans but two, for one of two families is constant."""
    space = space_of(exponential={"initial": 0.5, "decay_rate": 0.9})
    found = expected_sharing(space, 100, seed=0)
    # Both begin with the same value: 20 epochs of one, and 19 more of the other.
    assert found.reuse == pytest.approx(1 - 39 / (100 * 20))
    assert found.alone == ()
    assert found.branches == {1}


def test_plans_that_stay_one_for_a_thousand_epochs_are_taken_to_stay_one() -> None:
    """However long the horizon, what is looked at is bounded."""
    space = space_of(horizon=200_000, exponential={"initial": 0.5, "decay_rate": 0.99999})
    found = expected_sharing(space, 100, seed=0)
    assert found.reuse == pytest.approx(1 - (2 * 200_000 - 1) / (100 * 200_000))


def test_segments_are_shared_as_a_tree() -> None:
    """So many draws that nearly each of the 27 plans occurs."""
    space = space_of(horizon=30, piecewise=segments(3, 3))
    found = expected_sharing(space, 1000, seed=0)
    # One more path than the tree: the constant family's value is none of the levels.
    assert found.reuse == pytest.approx(1 - (10 * (3 + 9 + 27) + 30) / (1000 * 30))
    assert found.branches == {10, 20}


def test_a_boundary_of_segments_is_a_branch_whatever_was_drawn() -> None:
    """Of few plans with continuous values no two have anything in common."""
    values = {"low": 0.0, "high": 1.0}
    space = space_of(piecewise={"segments": 4, "values": values})
    assert expected_sharing(space, 3, seed=0).branches == {5, 10, 15}


def test_plateau_rules_share_what_comes_before_the_first_plateau() -> None:
    rule = {"initial": 0.5, "factor": 0.5, "patience": {"levels": [2, 8]}}
    found = expected_sharing(space_of(horizon=60, reduce_on_plateau=rule), 100, seed=0)
    assert 0.97 < found.reuse < 1
    assert found.branches


def test_it_is_the_same_for_the_same_seed() -> None:
    space = space_of(piecewise=segments(4, 5))
    assert expected_reuse(space, 30, seed=1) == expected_reuse(space, 30, seed=1)
    assert expected_reuse(space, 30, seed=1) != expected_reuse(space, 30, seed=2)


def test_a_larger_search_shares_more() -> None:
    space = space_of(piecewise=segments(4, 5))
    assert expected_reuse(space, 10, 0) < expected_reuse(space, 100, 0) < 1


def test_a_space_whose_draws_are_all_refused_says_so() -> None:
    content = small()
    del content["hyperparameters"]["weights.penalty"]["families"]["linear"]
    content["hyperparameters"]["weights.penalty"]["families"]["constant"]["value"] = 0.5
    found = expected_sharing(Space.from_document(content, "small.toml"), 10, 0)
    assert found.reuse == 0.9  # a config: one plan, ten times
    with pytest.raises(InputError, match="no drawn plan"):
        expected_sharing(Space.from_document(small(), "small.toml"), 0, 0)
