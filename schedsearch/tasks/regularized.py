"""Handwritten digits from few examples, with a penalty on the weights.

Data: scikit-learn's 1,797 digits, 8 x 8: 100 for training, 200 for validation, 397 for test. Model:
MLP 64-64-10, stochastic gradient descent with momentum, 60 epochs.

Scheduled: `weights.l2`, the lambda of ridge regularisation over n = 100 training examples,

    loss = cross-entropy + lambda * |W|² / (2 n),

where W are the weight matrices. A large lambda early keeps the network simple while it finds the
coarse structure, a small one late lets it fit: lambda(t) = 0.9^t, or lambda = 10 * lr with a
learning rate that a plateau of the validation loss cuts. Runtime: less than a second per run.

Source: E. Alpaydin and C. Kaynak (1998), Optical Recognition of Handwritten Digits, UCI.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from schedsearch.task import Examples, OptimizerName, Splits
from schedsearch.tasks._labels import classification_metrics
from schedsearch.tasks._networks import mlp

_TRAIN = 100
_VALIDATION = 200
_TEST = 397


class PenalisedMLP(nn.Module):
    """A perceptron that also returns half the sum of its squared weights, biases left out."""

    def __init__(self, widths: Sequence[int], seed: int) -> None:
        super().__init__()
        self.layers = mlp(widths, seed)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the outputs (N, classes) and the penalty (0-d)."""
        matrices = [parameter for parameter in self.layers.parameters() if parameter.dim() == 2]
        penalty = torch.stack([matrix.square().sum() for matrix in matrices]).sum() / 2
        return self.layers(inputs), penalty


class Regularized:
    """Digits from 100 examples with a ridge penalty; minimise the validation `loss`."""

    hyperparameters: Mapping[str, float] = MappingProxyType(
        {"lr": 0.1, "momentum": 0.9, "weights.l2": 0.5}
    )
    optimizer: OptimizerName = "sgd"
    batch_size: int = 25
    steps_per_epoch: int | None = None
    noise: Mapping[str, tuple[int, ...]] = MappingProxyType({})

    def data(self, seed: int) -> Splits:
        images, labels = _digits()
        fixed = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
        test, rest = fixed[:_TEST], fixed[_TEST:]
        rest = rest[torch.randperm(len(rest), generator=torch.Generator().manual_seed(seed))]
        train, validation = rest[:_TRAIN], rest[_TRAIN : _TRAIN + _VALIDATION]
        return Splits(
            train={"image": images[train], "label": labels[train]},
            validation={"image": images[validation], "label": labels[validation]},
            test={"image": images[test], "label": labels[test]},
        )

    def model(self, seed: int) -> nn.Module:
        return PenalisedMLP((64, 64, 10), seed)

    def terms(
        self,
        model: nn.Module,
        batch: Examples,
        hp: Mapping[str, Tensor],
        noise: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        logits, penalty = model(batch["image"])
        return {"cross_entropy": cross_entropy(logits, batch["label"]), "l2": penalty / _TRAIN}

    def metrics(self, model: nn.Module, split: Examples) -> dict[str, Tensor]:
        logits, _ = model(split["image"])
        return classification_metrics(logits, split["label"])


@functools.cache
def _digits() -> tuple[Tensor, Tensor]:
    digits = load_digits()
    return torch.from_numpy(digits.data / 16).float(), torch.from_numpy(digits.target).long()
