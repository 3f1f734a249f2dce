"""A small convolutional network on the digits of noisy_mnist, which gains least from lanes."""

from __future__ import annotations

from torch import nn

from schedsearch.task import Examples, Splits
from schedsearch.tasks._networks import seeded
from schedsearch.tasks.noisy_mnist import NoisyMnist


class SmallCnn(NoisyMnist):
    """Two convolutions of 8 and 16 channels, each followed by pooling, and a linear layer."""

    def data(self, seed: int) -> Splits:
        splits = super().data(seed)
        return Splits(*map(_as_images, (splits.train, splits.validation, splits.test)))

    def model(self, seed: int) -> nn.Module:
        with seeded(seed):
            return nn.Sequential(
                *(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
                *(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
                *(nn.Flatten(), nn.Linear(16 * 3 * 3, 10)),
            )


def _as_images(split: Examples) -> Examples:
    return {**split, "image": split["image"].view(-1, 1, 14, 14)}
