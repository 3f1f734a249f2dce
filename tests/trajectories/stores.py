"""Stores, cursors and snapshots for tests; quick to import in other processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from schedsearch.engines import EpochResult, Snapshot
from schedsearch.storage import Database
from schedsearch.trajectories import Folder, TrajectoryStore, TrieCursor, open_store, root_hash

ROOT = root_hash("fingerprint", 0, {"threads": 1})


def opened(
    database: Database, folder: Folder, say: Callable[[str], None] = print, **options: Any
) -> TrajectoryStore:
    store = open_store(database, say, artifacts=folder, **options)
    assert store is not None
    return store


def key(value: int) -> bytes:
    return value.to_bytes(2, "big")


def result(path: Sequence[int]) -> EpochResult:
    """Return the result of the last epoch of a path: a number that depends on its values."""
    number = 0.1
    for value in path:
        number = number * 1.7 + value / 3
    return EpochResult({"val_loss": number}, {"term": -number})


def snapshot(path: Sequence[int], size: int = 4) -> Snapshot:
    weights = torch.full((size,), result(path).metrics["val_loss"])
    return Snapshot(len(path), {"weight": weights}, {"exp_avg.weight": -weights})


def follow(store: TrajectoryStore, values: Sequence[int], root: str = ROOT) -> TrieCursor:
    """Return a cursor after all cached epochs of these values; check each result."""
    cursor = store.cursor(root)
    while cursor.epoch < len(values):
        found = cursor.find(key(values[cursor.epoch]))
        if found is None:
            break
        assert found == result(values[: cursor.epoch])
    return cursor


def train(
    store: TrajectoryStore, values: Sequence[int], *, keep: Sequence[int] = (), root: str = ROOT
) -> TrieCursor:
    """Follow the values, add the epochs that are not cached, and save checkpoints after some."""
    cursor = follow(store, values, root)
    while cursor.epoch < len(values):
        cursor.add(key(values[cursor.epoch]), result(values[: cursor.epoch + 1]))
        if cursor.epoch in keep:
            assert cursor.save(snapshot(values[: cursor.epoch]))
    return cursor


def same(left: Snapshot | None, right: Snapshot | None) -> bool:
    """Return whether two snapshots of tensors are equal bit for bit."""
    if left is None or right is None:
        return left is right
    parts = ((left.model, right.model), (left.optimizer, right.optimizer))
    return left.epoch == right.epoch and all(
        a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a) for a, b in parts
    )
