"""Prefix sharing: how many epochs of a search need no training, estimated beforehand."""

from __future__ import annotations

import pytest

from schedsearch.errors import InputError
from schedsearch.space import Space
from schedsearch.space.prefix_sharing import estimate_prefix_sharing
from tests.space.documents import searching, small


def space_of(horizon: int = 20, **families: object) -> Space:
    content = searching(dict(families), horizon=horizon)
    content["hyperparameters"]["u"]["families"]["constant"]["value"] = 0.5
    return Space.from_document(content, "space.toml")


def segments(number: int, levels: int) -> dict[str, object]:
    return {"segments": number, "values": {"levels": [i / levels for i in range(levels)]}}


def test_values_that_are_continuous_from_the_first_epoch_share_nothing() -> None:
    families = {"exponential": {"initial": {"low": 0.1, "high": 0.9}, "decay_rate": 0.9}}
    content = searching(families)
    found = estimate_prefix_sharing(Space.from_document(content, "space.toml"), 100, seed=0)
    assert found.reuse == 0.0
    assert found.never_shared == ("u",)
    assert found.branch_epochs == frozenset()


def test_repeated_plans_are_reused() -> None:
    """Of a hundred plans only two are distinct, since each family has one plan."""
    space = space_of(exponential={"initial": 0.5, "decay_rate": 0.9})
    found = estimate_prefix_sharing(space, 100, seed=0)
    # Both begin with the same value: 20 epochs of one and 19 more of the other.
    assert found.reuse == pytest.approx(1 - 39 / (100 * 20))
    assert found.never_shared == ()
    assert found.branch_epochs == {1}


def test_plans_that_are_equal_for_a_thousand_epochs_count_as_equal() -> None:
    """So the estimate takes bounded time, however long the horizon."""
    space = space_of(horizon=200_000, exponential={"initial": 0.5, "decay_rate": 0.99999})
    found = estimate_prefix_sharing(space, 100, seed=0)
    assert found.reuse == pytest.approx(1 - (2 * 200_000 - 1) / (100 * 200_000))


def test_segments_are_shared_as_a_tree() -> None:
    """With 1000 samples, each of the 27 plans occurs."""
    space = space_of(horizon=30, piecewise=segments(3, 3))
    found = estimate_prefix_sharing(space, 1000, seed=0)
    # The constant adds one path to the tree: its value is not one of the levels.
    assert found.reuse == pytest.approx(1 - (10 * (3 + 9 + 27) + 30) / (1000 * 30))
    assert found.branch_epochs == {10, 20}


def test_the_start_of_a_segment_is_a_branch_epoch_even_if_no_plans_share_a_prefix() -> None:
    """Of few plans with continuous values, no two are equal."""
    values = {"low": 0.0, "high": 1.0}
    space = space_of(piecewise={"segments": 4, "values": values})
    assert estimate_prefix_sharing(space, 3, seed=0).branch_epochs == {5, 10, 15}


def test_plateau_rules_share_the_epochs_before_the_first_plateau() -> None:
    rule = {"initial": 0.5, "factor": 0.5, "patience": {"levels": [2, 8]}}
    found = estimate_prefix_sharing(space_of(horizon=60, reduce_on_plateau=rule), 100, seed=0)
    assert 0.97 < found.reuse < 1
    assert found.branch_epochs


def test_the_estimate_depends_on_the_seed_only() -> None:
    space = space_of(piecewise=segments(4, 5))
    assert (
        estimate_prefix_sharing(space, 30, seed=1).reuse
        == estimate_prefix_sharing(space, 30, seed=1).reuse
    )
    assert (
        estimate_prefix_sharing(space, 30, seed=1).reuse
        != estimate_prefix_sharing(space, 30, seed=2).reuse
    )


def test_a_larger_search_reuses_more() -> None:
    space = space_of(piecewise=segments(4, 5))
    assert (
        estimate_prefix_sharing(space, 10, 0).reuse
        < estimate_prefix_sharing(space, 100, 0).reuse
        < 1
    )


def test_a_space_without_a_valid_sample_is_an_error() -> None:
    content = small()
    del content["hyperparameters"]["weights.penalty"]["families"]["linear"]
    content["hyperparameters"]["weights.penalty"]["families"]["constant"]["value"] = 0.5
    found = estimate_prefix_sharing(Space.from_document(content, "small.toml"), 10, 0)
    assert found.reuse == 0.9  # a config: one plan, ten times
    with pytest.raises(InputError, match="every sampled plan breaks a rule"):
        estimate_prefix_sharing(Space.from_document(small(), "small.toml"), 0, 0)
