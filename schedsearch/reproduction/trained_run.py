"""The result of training a config with one seed, and its model as a file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from schedsearch.engines import Snapshot
from schedsearch.run import RunHistory
from schedsearch.space import Space


@dataclass(frozen=True)
class TrainedRun:
    """The result of training a config with one seed.

    Attributes:
        seed: the seed of the run.
        epoch: the epoch whose metrics count, from 1: the last, or the best, as the objective says.
        value: the objective's metric after that epoch; NaN if the run diverged.
        history: values, metrics and loss terms by epoch.
        test: the metrics on the test split; empty if the task has none, or the run diverged.
        recorded: the trial's value with this seed; None if the config does not record it.
        model: the model after that epoch; None if a training loop saves no checkpoint.
        epochs_trained: how many epochs have results that were trained now.
        epochs_read: how many epochs have results that were read from the record.
        epochs_repeated: how many of the latter were trained once more to get the model, without a
            use of their results.
        stopped_after: the number of epochs of a run that stopped before the horizon; else None.
        trained_at: when the last of these was trained; None if none was read, or if version 0.1
            recorded it.
    """

    seed: int
    epoch: int
    value: float
    history: RunHistory
    test: Mapping[str, float]
    recorded: float | None
    model: Snapshot | None
    epochs_trained: int
    epochs_read: int
    epochs_repeated: int
    trained_at: datetime | None
    stopped_after: int | None = None

    @property
    def diverged(self) -> bool:
        """Whether the run ended early with a metric that is not finite."""
        return math.isnan(self.value)

    @property
    def reproduced(self) -> bool | None:
        """Whether the value equals the recorded one exactly.

        None if none is recorded, or if the value was not trained but read from the record.
        """
        if self.recorded is None or self.epochs_read:
            return None
        return self.recorded == self.value

    @property
    def validation(self) -> Mapping[str, float]:
        """All validation metrics after the epoch that counts."""
        return self.history.metrics[self.epoch - 1]


def model_bytes(trained: TrainedRun, space: Space) -> bytes | None:
    """Return the model as a safetensors file: parameters and buffers by name.

    For a training loop: all tensors of the state that it passed to `run.checkpoint`, under dotted
    names such as model.0.weight. None if there are no tensors.
    """
    from safetensors.torch import save

    if trained.model is None:
        return None
    tensors = dict(_named_tensors(trained.model.model or trained.model.extra.get("state")))
    if not tensors:
        return None
    metadata = {"format": "pt", "config": space.name, "seed": str(trained.seed)}
    return save(tensors, metadata | {"epoch": str(trained.epoch)})


def _named_tensors(state: Any, prefix: str = "") -> Iterable[tuple[str, Any]]:
    import torch

    if isinstance(state, torch.Tensor):
        # A copy, because safetensors refuses tensors that share memory.
        yield prefix, state.detach().cpu().contiguous().clone()
    elif isinstance(state, Mapping):
        for name, item in state.items():
            yield from _named_tensors(item, f"{prefix}.{name}" if prefix else str(name))
