"""Progress of diabetes by a regression that mixes the squared and the absolute error.

Data: scikit-learn's 442 patients with ten measurements each: 200 for training, 100 for validation,
142 for test. Measurements and target (disease progression after a year) are standardised. Model:
MLP 10-32-1, Adam, 60 epochs.

Scheduled: the two weights in

    loss = weights.l2 * mean r² + weights.l1 * mean |r|,   r = prediction - target.

The squared error has a gradient that shrinks near the solution, and follows outliers; the absolute
error is robust, and its gradient does not shrink. Beginning with the first and moving to the second
whenever the validation error improves may get the best of both. The metric `error` is the mean
absolute error in standard deviations of the target. Runtime: less than a second per run.

Source: Efron et al. (2004), Least Angle Regression, Annals of Statistics 32.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import MappingProxyType

import torch
from sklearn.datasets import load_diabetes
from torch import Tensor, nn

from schedsearch.task import Examples, OptimizerName, Splits
from schedsearch.tasks._networks import mlp

_TRAIN = 200
_TEST = 142


class TwoLosses:
    """Diabetes progression with an L2 and an L1 term; minimise the mean absolute `error`."""

    hyperparameters: Mapping[str, float] = MappingProxyType(
        {"lr": 0.001, "momentum": 0.9, "weight_decay": 0.0, "weights.l2": 0.8, "weights.l1": 0.2}
    )
    optimizer: OptimizerName = "adam"
    batch_size: int = 25
    steps_per_epoch: int | None = None
    noise: Mapping[str, tuple[int, ...]] = MappingProxyType({})

    def data(self, seed: int) -> Splits:
        inputs, targets = _patients()
        fixed = torch.randperm(len(targets), generator=torch.Generator().manual_seed(0))
        test, rest = fixed[:_TEST], fixed[_TEST:]
        rest = rest[torch.randperm(len(rest), generator=torch.Generator().manual_seed(seed))]
        train, validation = rest[:_TRAIN], rest[_TRAIN:]
        return Splits(
            train={"input": inputs[train], "target": targets[train]},
            validation={"input": inputs[validation], "target": targets[validation]},
            test={"input": inputs[test], "target": targets[test]},
        )

    def model(self, seed: int) -> nn.Module:
        return mlp((10, 32, 1), seed)

    def terms(
        self,
        model: nn.Module,
        batch: Examples,
        hp: Mapping[str, Tensor],
        noise: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        residual = model(batch["input"]).squeeze(-1) - batch["target"]
        return {"l2": residual.square().mean(), "l1": residual.abs().mean()}

    def metrics(self, model: nn.Module, split: Examples) -> dict[str, Tensor]:
        residual = model(split["input"]).squeeze(-1) - split["target"]
        return {"error": residual.abs().mean(), "rmse": residual.square().mean().sqrt()}


@functools.cache
def _patients() -> tuple[Tensor, Tensor]:
    """Return measurements (442, 10) and targets (442), both of mean 0 and variance 1."""
    patients = load_diabetes()
    table = torch.from_numpy(patients.data), torch.from_numpy(patients.target)
    inputs, targets = ((part - part.mean(dim=0)) / part.std(dim=0) for part in table)
    return inputs.float(), targets.float()
