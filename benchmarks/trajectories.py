"""What the store of trajectories costs: a node written, a path looked up, a checkpoint kept.

    python -m benchmarks.trajectories [--nodes 100000] [--lanes 32]

The paths branch at random, as those of trials that share prefixes do; a look-up is by another
worker, which has read nothing before.
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

from benchmarks.measuring import machine, quiet, seconds, table
from schedsearch.engines import EpochResult, Snapshot
from schedsearch.storage import Database, open_database
from schedsearch.trajectories import TrajectoryStore, TrieCursor, open_store, root_hash

_EPOCHS = 60
_ROOT = root_hash("benchmark", 0, {})
_RESULT = EpochResult({"val_error": 0.0625, "val_loss": 0.25}, {"cross_entropy": 0.3125})
#: The choices at each of a path's branches, and the epochs between two of them.
_CHOICES, _SEGMENT = 24, 15
_LOOK_UPS = 200


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--nodes", type=int, default=100_000)
    options.add_argument("--lanes", type=int, default=32)
    given = options.parse_args()
    quiet()
    with tempfile.TemporaryDirectory() as folder:
        database = open_database(f"sqlite:///{Path(folder) / 'studies.db'}", create=True)
        rows = [["nodes written", *_write(database, given.nodes, given.lanes)]]
        rows.append([f"{_EPOCHS}-epoch paths looked up", *_look_up(database)])
        rows.append(["checkpoints of 57 kB kept", *_keep(database, given.lanes)])
        rows.append(["checkpoints of 57 kB restored", *_restore(database)])
    print("\n".join(table(["", "number", "median ms each", "worst ms each"], rows)))
    print(f"\n{given.lanes} lanes to a write, SQLite on a local disk; {machine()}")


def _opened(database: Database) -> TrajectoryStore:
    store = open_store(database, print)
    assert store is not None
    return store


def _keys(seed: int) -> Iterator[bytes]:
    draws = random.Random(seed)
    for epoch in range(_EPOCHS):
        if epoch % _SEGMENT == 0:
            value = draws.randrange(_CHOICES)
        yield bytes([value])


def _walked(store: TrajectoryStore, seed: int) -> tuple[TrieCursor, list[bytes]]:
    """Return a cursor at the end of what is known, and the values that follow there."""
    cursor, keys = store.cursor(_ROOT), list(_keys(seed))
    while cursor.epoch < _EPOCHS and cursor.find(keys[cursor.epoch]) is not None:
        pass
    return cursor, keys[cursor.epoch :]


def _write(database: Database, number: int, lanes: int) -> list[str]:
    """Write so many nodes in rounds, as a worker does; what counts is the last tenth."""
    store = _opened(database)
    written, seed = 0, 0
    costs: list[float] = []
    live: list[tuple[TrieCursor, list[bytes]]] = []
    while written < number:
        while len(live) < lanes:
            cursor, keys = _walked(store, seed)
            seed += 1
            if keys:
                live.append((cursor, keys))
        costs.append(seconds(partial(_write_round, store, live)) / lanes)
        written += lanes
        live = [(cursor, keys) for cursor, keys in live if keys]
    return [f"{written:,}", *_milliseconds(costs[-len(costs) // 10 :])]


def _write_round(store: TrajectoryStore, live: list[tuple[TrieCursor, list[bytes]]]) -> None:
    for cursor, keys in live:
        cursor.add(keys.pop(0), _RESULT)
        if keys:
            cursor.request_lease(keys[0])
        else:
            cursor.end()
    store.flush()


def _look_up(database: Database) -> list[str]:
    costs = []
    for seed in range(_LOOK_UPS):
        store = _opened(database)
        costs.append(seconds(partial(_walked, store, seed)))
    return [f"{_LOOK_UPS:,}", *_milliseconds(costs)]


def _keep(database: Database, lanes: int) -> list[str]:
    store = _opened(database)
    snapshot = _snapshot()
    costs = []
    for seed in range(_LOOK_UPS // lanes):
        cursors = [_walked(store, seed * lanes + lane)[0] for lane in range(lanes)]
        costs.append(seconds(partial(_keep_round, store, cursors, snapshot)) / lanes)
    return [f"{len(costs) * lanes:,}", *_milliseconds(costs)]


def _keep_round(store: TrajectoryStore, cursors: list[TrieCursor], snapshot: Snapshot) -> None:
    for cursor in cursors:
        cursor.save(snapshot)
    store.flush()


def _restore(database: Database) -> list[str]:
    store = _opened(database)
    cursors = [_walked(store, seed)[0] for seed in range(_LOOK_UPS // 2)]
    return [f"{len(cursors):,}", *_milliseconds([seconds(cursor.restore) for cursor in cursors])]


def _snapshot() -> Snapshot:
    """Return what Adam keeps of an MLP 64-64-10, at the end of a training."""
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
