"""A run on a scripted engine, with a list of cached epochs: fast, and every call is recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from schedsearch.engines import EpochResult, Snapshot
from schedsearch.engines.precision import pack_float64
from schedsearch.plan import Plan
from schedsearch.run import CheckpointPolicy, Run, RunCache
from schedsearch.space import Space
from tests.searches import DEFAULTS, document

HORIZON = 6
#: A policy that saves at the horizon only.
AT_HORIZON = CheckpointPolicy(HORIZON, spacing=100)


class ScriptedEngine:
    """An engine of one lane whose metric after each epoch is given; it records how it is used."""

    lanes = 1

    def __init__(self, metrics: Sequence[float], *, resumable: bool = True) -> None:
        self.metrics = metrics
        self.resumable = resumable
        self.epoch = 0
        self.trained: list[int] = []
        self.filled_from: list[int | None] = []
        self.released: list[int] = []

    def fill(self, lane: int, seed: int, snapshot: Snapshot | None = None) -> None:
        self.epoch = 0 if snapshot is None else snapshot.epoch
        self.filled_from.append(None if snapshot is None else snapshot.epoch)

    def train_epoch(
        self, values: Sequence[Mapping[str, float] | None]
    ) -> list[EpochResult | Exception | None]:
        metric = self.metrics[self.epoch]
        self.epoch += 1
        self.trained.append(self.epoch)
        return [EpochResult({"val_loss": metric}, {"fit": metric})]

    def test(self, lane: int) -> dict[str, float]:
        return {"test_epoch": float(self.epoch)}

    def snapshot(self, lane: int) -> Snapshot | None:
        return Snapshot(self.epoch, {}, resumable=self.resumable)

    def release(self, lane: int) -> None:
        self.released.append(lane)

    def key(self, values: Mapping[str, float], seed: int) -> bytes:
        return pack_float64(values)


class ListCursor:
    """A cursor over one list of cached epochs, each with its key."""

    def __init__(self, cached: Sequence[tuple[bytes, EpochResult]] = ()) -> None:
        self.cached = list(cached)
        self.epoch = 0
        self.lookups = 0
        self.saved: list[int] = []

    def find(self, key: bytes) -> EpochResult | None:
        self.lookups += 1
        if self.epoch < len(self.cached) and self.cached[self.epoch][0] == key:
            self.epoch += 1
            return self.cached[self.epoch - 1][1]
        return None

    def add(self, key: bytes, result: EpochResult) -> None:
        self.cached[self.epoch :] = [(key, result)]
        self.epoch += 1

    def save(self, snapshot: Snapshot) -> bool:
        self.saved.append(snapshot.epoch)
        return True

    def restore(self) -> Snapshot | None:
        reached = [epoch for epoch in self.saved if epoch <= self.epoch]
        return Snapshot(max(reached), {}) if reached else None


def engine_of(*metrics: float, **options: Any) -> ScriptedEngine:
    return ScriptedEngine(metrics or [1.0 / (1 + e) for e in range(HORIZON)], **options)


def run_of(
    engine: ScriptedEngine,
    cursor: ListCursor | None = None,
    policy: CheckpointPolicy | None = AT_HORIZON,
    *,
    rates: Sequence[float] = (0.1,),
    value: str = "last",
) -> Run:
    """Return a run whose learning rate has one value per segment of its horizon."""
    content = document() | {"horizon": HORIZON}
    content["objective"] |= {"value": value}
    space = Space.from_document(content, "small.toml").with_defaults(DEFAULTS)
    lr = {"piecewise": {"values": list(rates)}}
    plan = Plan.from_tables({"hyperparameters": {"lr": {"families": lr}}})
    cache = None if cursor is None else RunCache(cursor, policy)
    keep_best = value == "best"
    return Run(engine, space=space, plan=plan, seed=0, keep_best=keep_best, cache=cache)


def train(run: Run, epochs: int | None = None) -> None:
    """Train so many epochs of the run's lane, or to its end."""
    while epochs != 0 if epochs is not None else run.is_catching_up or not run.ended:
        [result] = run.engine.train_epoch([run.lane_values])
        assert isinstance(result, EpochResult)
        run.record_epoch(result)
        epochs = None if epochs is None else epochs - 1


def cached_by(run: Run, cursor: ListCursor, epochs: int) -> ListCursor:
    """Train some epochs of a run, and return a new cursor over what it cached."""
    run.enter_lane(0)
    train(run, epochs)
    return ListCursor(cursor.cached)


def replayed(epochs: int, policy: CheckpointPolicy | None = AT_HORIZON, **options: Any):
    """Return a run that has replayed some epochs, its engine, and its cursor."""
    writer = ListCursor()
    cursor = cached_by(run_of(engine_of(), writer), writer, epochs)
    engine = engine_of(**options)
    run = run_of(engine, cursor, policy)
    while run.replay_epoch():
        pass
    assert run.epochs == epochs
    return run, engine, cursor
