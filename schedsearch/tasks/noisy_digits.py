"""Handwritten digits of which half carry a label drawn at random.

Data: scikit-learn's 1,797 digits, 8 x 8: 1,200 for training with half of their labels redrawn, 200
clean ones for validation, 397 clean ones for test. Model: MLP 64-64-10, Adam, 60 epochs.

Scheduled: `self_label_weight`, the share u of the model's own label in the target,

    target = (1 - u) * given label + u * own label.

A network learns what the true labels have in common before it learns the wrong ones by heart. A u
that is large from the start teaches the model its own first guesses; one that stays small lets it
learn the wrong labels in the end. Runtime: half a second per run on one core.

Source: Reed et al. (2015), Training Deep Neural Networks on Noisy Labels with Bootstrapping, the
hard variant.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from torch import Tensor, nn

from schedsearch.task import Examples, OptimizerName, Splits
from schedsearch.tasks import _digits
from schedsearch.tasks._labels import classification_metrics, self_labelled_cross_entropy


class NoisyDigits:
    """Digits, half of the training labels redrawn; minimise the clean validation `error`."""

    hyperparameters: Mapping[str, float] = MappingProxyType(
        {"lr": 0.003, "momentum": 0.9, "weight_decay": 0.0, "self_label_weight": 0.0}
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
        logits = model(batch["image"])
        share = hp["self_label_weight"]
        return {"cross_entropy": self_labelled_cross_entropy(logits, batch["label"], share)}

    def metrics(self, model: nn.Module, split: Examples) -> dict[str, Tensor]:
        return classification_metrics(model(split["image"]), split["label"])
