"""The values and the loss terms that a trial recorded, by epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from schedsearch.storage.attributes import EVERY


def recorded_values(attributes: Mapping[str, Any], key: str, epochs: int) -> dict[str, list[float]]:
    """Return what a trial recorded, by name: a number for each of the first epochs.

    Of a long run only each `every`-th epoch is stored: the others have the value of the stored one
    before them, and epochs after the end have the last one. One number stands for epochs that all
    have the same.

    >>> recorded_values({"values": {"lr": [0.2, 0.1], "l2": 0.5}, "every": 2}, "values", 5)
    {'lr': [0.2, 0.2, 0.1, 0.1, 0.1], 'l2': [0.5, 0.5, 0.5, 0.5, 0.5]}

    Args:
        attributes: of the trial.
        key: VALUES or TERMS.
        epochs: how many.

    Returns:
        NaN stands for a number that is missing.
    """
    every: int = attributes.get(EVERY, 1)
    stored: Mapping[str, Any] = attributes.get(key, {})
    return {name: _by_epoch(numbers, every, epochs) for name, numbers in stored.items()}


def _by_epoch(
    stored: float | Sequence[float | None] | None, every: int, epochs: int
) -> list[float]:
    numbers = stored if isinstance(stored, Sequence) else [stored]
    held = (numbers[min(epoch // every, len(numbers) - 1)] for epoch in range(epochs))
    return [math.nan if number is None else float(number) for number in held]
