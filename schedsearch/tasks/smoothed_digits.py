"""Handwritten digits with wrong labels, and targets that are smoothed.

Data: as in noisy_digits, half of the 1,200 training labels redrawn. Model: MLP 64-64-10, Adam, 60
epochs.

Scheduled: `label_smoothing`, the share s of the uniform distribution in the target,

    target = (1 - s) * given label + s * uniform over the classes.

Smoothing slows the learning of wrong labels by heart, and of the right ones too. Runtime: half a
second per run on one core.

Sources: Szegedy et al. (2016), Rethinking the Inception Architecture for Computer Vision; Lukasik
et al. (2020), Does Label Smoothing Mitigate Label Noise?
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from torch import Tensor, nn
from torch.nn.functional import nll_loss

from schedsearch.task import Examples, OptimizerName, Splits
from schedsearch.tasks import _digits
from schedsearch.tasks._labels import classification_metrics


class SmoothedDigits:
    """Digits, half of the training labels redrawn; minimise the clean validation `error`."""

    hyperparameters: Mapping[str, float] = MappingProxyType(
        {"lr": 0.001, "momentum": 0.9, "weight_decay": 0.0, "label_smoothing": 0.0}
    )
    optimizer: OptimizerName = "adam"
    batch_size: int = 64
    steps_per_epoch: int | None = None
    noise: Mapping[str, tuple[int, ...]] = MappingProxyType({})

    def data(self, seed: int) -> Splits:
        return _digits.noisy_digits(seed)

    def model(self, seed: int) -> nn.Module:
        return _digits.classifier(seed)

    def terms(
        self,
        model: nn.Module,
        batch: Examples,
        hp: Mapping[str, Tensor],
        noise: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        log_probabilities = model(batch["image"]).log_softmax(dim=-1)
        given = nll_loss(log_probabilities, batch["label"])
        uniform = -log_probabilities.mean()
        smoothing = hp["label_smoothing"]
        return {"cross_entropy": (1 - smoothing) * given + smoothing * uniform}

    def metrics(self, model: nn.Module, split: Examples) -> dict[str, Tensor]:
        return classification_metrics(model(split["image"]), split["label"])
