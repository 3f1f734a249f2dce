"""Dropout with numbers from the seed has torch's distribution, drawn by epoch or by step."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from schedsearch.engines.dropout import DeterministicDropout, EpochDropout, dropout_generator


def ones(*shape):
    return torch.ones(shape)


def drop(function, *arguments):
    with EpochDropout(seed=1, epoch=0) as dropout:
        result = function(*arguments)
    return result, dropout.shapes


@pytest.mark.parametrize("function", [functional.dropout, functional.alpha_dropout])
@pytest.mark.parametrize("p", [0.0, 0.3, 0.9])
def test_mean_and_variance_are_torchs(function, p):
    given = torch.randn(400, 500, generator=torch.Generator().manual_seed(0))
    ours, _ = drop(function, given, p, True)
    theirs = function(given, p, True)
    assert ours.mean().item() == pytest.approx(theirs.mean().item(), abs=0.03)
    assert ours.var().item() == pytest.approx(theirs.var().item(), rel=0.05)
    assert (ours == 0).double().mean() == pytest.approx(
        (theirs == 0).double().mean().item(), abs=0.01
    )


@pytest.mark.parametrize("function", [functional.dropout, functional.alpha_dropout])
def test_probability_one_drops_all_and_its_gradient(function):
    given = torch.ones(50, requires_grad=True)
    result, _ = drop(function, given, 1.0, True)
    result.sum().backward()
    assert not result.any()
    assert not given.grad.any()


@pytest.mark.parametrize(
    ("layer", "shape", "mask"),
    [
        (nn.Dropout(), (4, 5), (4, 5)),
        (nn.AlphaDropout(), (4, 5), (4, 5)),
        (nn.Dropout1d(), (4, 5, 6), (4, 5, 1)),
        (nn.Dropout1d(), (5, 6), (5, 1)),
        (nn.Dropout2d(), (4, 5, 6, 7), (4, 5, 1, 1)),
        (nn.Dropout3d(), (4, 5, 6, 7, 8), (4, 5, 1, 1, 1)),
        (nn.Dropout3d(), (5, 6, 7, 8), (5, 1, 1, 1)),
        (nn.FeatureAlphaDropout(), (4, 5, 6), (4, 5, 1)),
    ],
)
def test_layers_drop_elements_or_whole_channels(layer, shape, mask):
    result, shapes = drop(layer, ones(*shape))
    assert shapes == [mask]
    assert result.shape == shape
    per_mask = result.flatten(len([n for n in mask if n > 1]) - 1 if 1 in mask else 0)
    assert per_mask.unique().numel() == 2


def test_evaluation_drops_nothing_and_needs_no_numbers():
    result, shapes = drop(nn.Dropout().eval(), ones(4))
    assert result.equal(ones(4))
    assert shapes == []


def test_an_epoch_drawn_step_by_step_is_the_epoch_drawn_at_once():
    at_once = torch.rand(3, 8, 5, generator=dropout_generator(1, 0, 0))
    dropout = EpochDropout(seed=1, epoch=0)
    for step in range(3):
        dropout.next_step()
        with dropout:
            result = functional.dropout(ones(8, 5), 0.4)
        assert (result == 0).equal(at_once[step] < 0.4)


def test_calls_are_numbered_within_a_step():
    asked = []

    def uniform(call, shape, device):
        asked.append((call, shape))
        return torch.rand(shape)

    with DeterministicDropout(uniform):
        functional.dropout(functional.dropout(ones(3)).repeat(2))
    assert asked == [(0, (3,)), (1, (6,))]


def test_in_place_changes_the_input():
    given = ones(100)
    with EpochDropout(seed=1, epoch=0):
        functional.dropout(given, inplace=True)
    assert given.unique().tolist() == [0, 2]
