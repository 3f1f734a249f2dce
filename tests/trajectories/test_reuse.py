"""A training that reuses epochs gives the same bits, and trains only new epochs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from schedsearch.engines import Engine, EpochResult, make_engine
from schedsearch.storage import Database
from schedsearch.trajectories import Folder, TrajectoryStore
from tests.engines.toys import Toy
from tests.trajectories.stores import ROOT, opened

NUMERICS: dict[str, dict[str, Any]] = {
    "sequential": {"engine": "sequential"},
    "lanes": {"engine": "lanes", "lanes": 2, "compiled": False},
}
#: The learning rate by epoch: two paths that branch after three epochs, and one after five.
PATHS = ([0.1] * 6, [0.1] * 3 + [0.01] * 3, [0.1] * 5 + [0.05])


def alone(engine: Engine, rates: Sequence[float]) -> list[EpochResult]:
    engine.fill(0, seed=1)
    return [epoch(engine, rate) for rate in rates]


def reusing(
    engine: Engine, rates: Sequence[float], store: TrajectoryStore
) -> tuple[list[EpochResult], int]:
    """Return the result of each epoch, and how many epochs were trained."""
    cursor, results = store.cursor(ROOT), []
    keys = [engine.key({"lr": rate}, 0) for rate in rates]
    while len(results) < len(rates) and (found := cursor.find(keys[len(results)])) is not None:
        results.append(found)
    if len(results) == len(rates):
        return results, 0
    snapshot = cursor.restore()
    engine.fill(0, 1, snapshot)
    begun = snapshot.epoch if snapshot else 0
    for at in range(begun, len(rates)):
        result = epoch(engine, rates[at])
        if at < len(results):
            assert result == results[at]  # a repeated epoch has the same result
        else:
            cursor.add(keys[at], result)
            results.append(result)
        kept = engine.snapshot(0)
        assert kept is not None
        if (at + 1) % 3 == 0:
            cursor.save(kept)
    cursor.end()
    store.flush()
    return results, len(rates) - begun


def epoch(engine: Engine, rate: float) -> EpochResult:
    [result, *_] = engine.train_epoch([{"lr": rate}, *[None] * (engine.lanes - 1)])
    assert isinstance(result, EpochResult)
    return result


@pytest.mark.parametrize("numerics", NUMERICS.values(), ids=NUMERICS)
def test_reuse_does_not_change_any_result(
    database: Database, folder: Folder, numerics: dict[str, Any]
) -> None:
    engine, fresh = (make_engine(Toy("batch_norm"), horizon=6, numerics=numerics) for _ in range(2))
    costs = []
    for rates in (*PATHS, PATHS[0]):
        # A new store, as in another worker.
        results, trained = reusing(engine, rates, opened(database, folder))
        assert results == alone(fresh, rates)
        costs.append(trained)
    assert costs == [6, 3, 3, 0]
