"""Random numbers depend only on the run's seed, the epoch and the name of the stream."""

import pytest
import torch

from schedsearch.engines.random_streams import batch_indices, epoch_noise, stable_seed


def test_seeds_are_the_same_in_any_process_and_never_collide_by_sum():
    assert stable_seed(0, 0, "order") == 5821926085217484743
    assert stable_seed(1, 12, "x") != stable_seed(11, 2, "x")
    assert len({stable_seed(seed, epoch) for seed in range(30) for epoch in range(30)}) == 900


def test_a_pass_has_each_example_once_except_those_that_fill_no_batch():
    order = batch_indices(seed=0, epoch=0, examples=43, batch_size=8, steps=5)
    assert order.shape == (5, 8)
    assert len(set(order.flatten().tolist())) == 40


def test_more_steps_than_a_pass_are_several_passes():
    order = batch_indices(seed=0, epoch=0, examples=12, batch_size=8, steps=3).flatten()
    for half in order.split(12):
        assert sorted(half.tolist()) == list(range(12))
    assert not torch.equal(*order.split(12))


@pytest.mark.parametrize("draw", [(0, 1), (1, 0)])
def test_seed_and_epoch_both_change_order_and_noise(draw):
    shapes = {"eps": (4,)}
    assert not torch.equal(batch_indices(0, 0, 40, 8, 5), batch_indices(*draw, 40, 8, 5))
    noise, other = epoch_noise(0, 0, 5, shapes), epoch_noise(*draw, 5, shapes)
    assert not torch.equal(noise["eps"], other["eps"])


def test_noise_is_standard_normal_and_streams_are_independent():
    both = epoch_noise(0, 0, 100, {"a": (50, 2), "b": (50, 2)})
    assert both["a"].shape == (100, 50, 2)
    assert abs(both["a"].mean().item()) < 0.03
    assert abs(both["a"].std().item() - 1) < 0.03
    assert torch.equal(both["b"], epoch_noise(0, 0, 100, {"b": (50, 2)})["b"])
    assert not torch.equal(both["a"], both["b"])
