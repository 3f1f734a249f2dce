"""The data of all lanes: training data is stored once per seed, validation data once per lane."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from schedsearch.errors import SchedSearchError
from schedsearch.task import Examples, Splits, count_examples


class LaneData:
    """The training and validation data of the lanes.

    Validation data is copied for each lane, so that its layout, and with it every rounding, does
    not depend on the seeds of the other lanes.

    Attributes:
        rows: the training examples of all seeds in use, concatenated, by name.
        validation: by name, with lanes as the first dimension.
    """

    def __init__(self, splits: Splits, lanes: int) -> None:
        self._layout = _layout(splits)
        self._seeds: list[int | None] = [None] * lanes
        self._splits: dict[int, Splits] = {}
        self._first_row: dict[int, int] = {}
        self.rows: Examples = {}
        self.validation: Examples = {
            name: torch.stack([tensor] * lanes) for name, tensor in splits.validation.items()
        }

    def assign_seed(self, lane: int, seed: int, splits: Splits) -> None:
        """Assign the data of a seed to a lane.

        Raises:
            SchedSearchError: its tensors differ from the first seed's in names, types or shapes.
        """
        if (layout := _layout(splits)) != self._layout:
            raise SchedSearchError(
                f"the data of seed {seed} has the layout {layout}, but lanes need that of the "
                f"first seed, {self._layout}: train with --lanes 1"
            )
        if self._seeds[lane] == seed:
            return
        self._seeds[lane] = seed
        for name, tensor in splits.validation.items():
            self.validation[name][lane].copy_(tensor)
        if seed not in self._splits:
            self._splits = {s: p for s, p in self._splits.items() if s in self._seeds}
            self._splits[seed] = splits
            self._concatenate()

    def first_row(self, lane: int) -> int:
        """Return the first row of a lane's training examples."""
        seed = self._seeds[lane]
        return 0 if seed is None else self._first_row[seed]

    def _concatenate(self) -> None:
        parts = [splits.train for splits in self._splits.values()]
        self.rows = {name: _concatenated([part[name] for part in parts]) for name in parts[0]}
        counts = [count_examples(part) for part in parts]
        starts = [sum(counts[:number]) for number in range(len(counts))]
        self._first_row = dict(zip(self._splits, starts, strict=True))


def _concatenated(tensors: list[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)


def _layout(splits: Splits) -> Mapping[str, Mapping[str, Any]]:
    """Return what must be equal in all lanes: the step is traced for these types and shapes."""
    return {
        part: {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in examples.items()}
        for part, examples in (("train", splits.train), ("validation", splits.validation))
    }
