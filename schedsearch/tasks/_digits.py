"""scikit-learn's digits with noisy training labels, in splits whose test part never moves."""

from __future__ import annotations

import functools

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from schedsearch.task import Splits
from schedsearch.tasks._labels import redraw
from schedsearch.tasks._networks import mlp

_CLASSES = 10
_PIXELS = 8 * 8
_HIDDEN = 64
_TRAIN, _VALIDATION = 1200, 200
_REDRAWN = 0.5


@functools.cache
def _load() -> tuple[Tensor, Tensor]:
    """Return images (1797, 64) and labels (1797), in one fixed shuffled order.

    Pixels have mean 0 and standard deviation 1 over all images that are not for test.

    Source: Alpaydin and Kaynak (1998), Optical Recognition of Handwritten Digits, UCI; the part
    bundled in scikit-learn. It comes ordered by writer, hence the shuffle.
    """
    pixels, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    images = torch.from_numpy(pixels)[order]
    seen = images[: _TRAIN + _VALIDATION]
    return ((images - seen.mean()) / seen.std()).float(), torch.from_numpy(labels)[order]


def noisy_digits(seed: int) -> Splits:
    """Return 1,200 training, 200 validation and 397 test digits.

    Only training labels are noisy. The seed divides training from validation and draws the noise;
    the test digits are always the same.
    """
    images, labels = _load()
    drawn = torch.randperm(_TRAIN + _VALIDATION, generator=torch.Generator().manual_seed(seed))
    train, validation = drawn[:_TRAIN], drawn[_TRAIN:]
    test = slice(_TRAIN + _VALIDATION, None)
    return Splits(
        train={"image": images[train], "label": redraw(labels[train], _REDRAWN, _CLASSES, seed)},
        validation={"image": images[validation], "label": labels[validation]},
        test={"image": images[test], "label": labels[test]},
    )


def classifier(seed: int) -> nn.Module:
    """Return the perceptron 64-64-10, initialised from the seed."""
    return mlp((_PIXELS, _HIDDEN, _CLASSES), seed)
