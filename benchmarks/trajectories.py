"""The cost of the trajectory store: writing nodes, looking up paths, storing checkpoints.

    python -m benchmarks.trajectories [--nodes 100000] [--lanes 32]

The paths branch at random, like those of trials that share prefixes. Each lookup is by another
worker with an empty cache.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from benchmarks.measurement import describe_machine, markdown_table, time_call, use_one_thread
from schedsearch.engines import EpochResult, Snapshot
from schedsearch.storage import Database, open_database
from schedsearch.trajectories import TrajectoryStore, TrieCursor, open_store, root_hash

_EPOCHS = 60
_ROOT = root_hash("benchmark", 0, {})
_RESULT = EpochResult({"val_error": 0.0625, "val_loss": 0.25}, {"cross_entropy": 0.3125})
#: The values to choose from at each branch of a path, and the epochs between two branches.
_CHOICES, _SEGMENT = 24, 15
_LOOKUPS = 200


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--nodes", type=int, default=100_000)
    options.add_argument("--lanes", type=int, default=32)
    given = options.parse_args()
    if not 1 <= given.lanes <= _LOOKUPS:
        options.error(f"--lanes is {given.lanes}, but must be from 1 to {_LOOKUPS}")
    if given.nodes < (least := _EPOCHS * (_LOOKUPS + given.lanes)):
        options.error(
            f"--nodes is {given.nodes}, but must be at least {least} with {given.lanes} lanes: "
            f"the first {_LOOKUPS} paths must be complete, to store checkpoints at their ends"
        )
    use_one_thread()
    with tempfile.TemporaryDirectory() as folder:
        database = open_database(f"sqlite:///{Path(folder) / 'studies.db'}", create=True)
        rows = [["nodes written", *_write(database, given.nodes, given.lanes)]]
        rows.append([f"{_EPOCHS}-epoch paths looked up", *_look_up_paths(database)])
        rows.append(["checkpoints of 57 kB stored", *_store_checkpoints(database, given.lanes)])
        rows.append(["checkpoints of 57 kB restored", *_restore_checkpoints(database)])
    print("\n".join(markdown_table(["", "number", "median ms each", "worst ms each"], rows)))
    print(f"\n{given.lanes} lanes per write, SQLite on a local disk; {describe_machine()}")


def _open(database: Database) -> TrajectoryStore:
    store = open_store(database, print)
    assert store is not None
    return store


def _keys(seed: int) -> Iterator[bytes]:
    rng = random.Random(seed)
    for epoch in range(_EPOCHS):
        if epoch % _SEGMENT == 0:
            value = rng.randrange(_CHOICES)
        yield bytes([value])


def _cached_path(store: TrajectoryStore, seed: int) -> tuple[TrieCursor, list[bytes]]:
    """Return a cursor at the end of the stored epochs of a path, and the keys that follow."""
    cursor, keys = store.cursor(_ROOT), list(_keys(seed))
    while cursor.epoch < _EPOCHS and cursor.find(keys[cursor.epoch]) is not None:
        pass
    return cursor, keys[cursor.epoch :]


def _write(database: Database, number: int, lanes: int) -> list[str]:
    """Write nodes in batches, as a worker does; the result is that of the last tenth."""
    store = _open(database)
    written, seed = 0, 0
    costs: list[float] = []
    live: list[tuple[TrieCursor, list[bytes]]] = []
    while written < number:
        while len(live) < lanes:
            cursor, keys = _cached_path(store, seed)
            seed += 1
            if keys:
                live.append((cursor, keys))
        costs.append(time_call(partial(_write_batch, store, live)) / lanes)
        written += lanes
        live = [(cursor, keys) for cursor, keys in live if keys]
    return [f"{written:,}", *_milliseconds(costs[-len(costs) // 10 :])]


def _write_batch(store: TrajectoryStore, live: list[tuple[TrieCursor, list[bytes]]]) -> None:
    for cursor, keys in live:
        cursor.add(keys.pop(0), _RESULT)
        if keys:
            cursor.request_lease(keys[0])
        else:
            cursor.end()
    store.flush()


def _look_up_paths(database: Database) -> list[str]:
    costs = []
    for seed in range(_LOOKUPS):
        store = _open(database)
        costs.append(time_call(partial(_cached_path, store, seed)))
    return [f"{_LOOKUPS:,}", *_milliseconds(costs)]


def _store_checkpoints(database: Database, lanes: int) -> list[str]:
    store = _open(database)
    snapshot = _snapshot()
    costs = []
    for seed in range(_LOOKUPS // lanes):
        cursors = [_cached_path(store, seed * lanes + lane)[0] for lane in range(lanes)]
        costs.append(time_call(partial(_store_batch, store, cursors, snapshot)) / lanes)
    return [f"{len(costs) * lanes:,}", *_milliseconds(costs)]


def _store_batch(store: TrajectoryStore, cursors: list[TrieCursor], snapshot: Snapshot) -> None:
    for cursor in cursors:
        cursor.save(snapshot)
    store.flush()


def _restore_checkpoints(database: Database) -> list[str]:
    store = _open(database)
    cursors = [_cached_path(store, seed)[0] for seed in range(_LOOKUPS // 2)]
    return [f"{len(cursors):,}", *_milliseconds([time_call(cursor.restore) for cursor in cursors])]


def _snapshot() -> Snapshot:
    """Return the state of an MLP 64-64-10 and of Adam at the end of a training."""
    shapes = {"0.weight": (64, 64), "0.bias": (64,), "2.weight": (10, 64), "2.bias": (10,)}
    model = {name: torch.randn(shape) for name, shape in shapes.items()}
    moments = {
        f"{key}.{name}": torch.randn(shape)
        for key in ("exp_avg", "exp_avg_sq")
        for name, shape in shapes.items()
    }
    return Snapshot(_EPOCHS, model, moments)


def _milliseconds(costs: list[float]) -> list[str]:
    return [f"{1e3 * statistics.median(costs):.3f}", f"{1e3 * max(costs):.3f}"]


if __name__ == "__main__":
    main()
