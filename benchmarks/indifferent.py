"""A task on which no schedule can help: its hyperparameter has no effect on the distribution."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from schedsearch.task import Examples
from schedsearch.tasks.noisy_digits import NoisyDigits

_SHAPE = (NoisyDigits.batch_size, 64)


class Indifferent(NoisyDigits):
    """Digits with noisy pixels, where the hyperparameter only chooses among equal noises.

    image + (cos(a) noise_1 + sin(a) noise_2) / 2,  a = 10,000 * self_label_weight

    The sum is standard normal for each angle a, so all plans have the same distribution of results,
    yet no two of them train the same model.
    """

    noise: Mapping[str, tuple[int, ...]] = MappingProxyType({"first": _SHAPE, "second": _SHAPE})

    def terms(
        self,
        model: nn.Module,
        batch: Examples,
        hp: Mapping[str, Tensor],
        noise: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        angle = 1e4 * hp["self_label_weight"]
        noises = torch.cos(angle) * noise["first"] + torch.sin(angle) * noise["second"]
        logits = model(batch["image"] + noises / 2)
        return {"cross_entropy": cross_entropy(logits, batch["label"])}
