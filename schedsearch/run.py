"""One run of a plan: what an engine trains, what the schedules make of it, and what is kept."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from schedsearch.engines import Engine, EpochResult, Snapshot
from schedsearch.errors import TaskError, did_you_mean
from schedsearch.plan import Plan
from schedsearch.scheduler import Scheduler
from schedsearch.space import Space


@dataclass
class RunHistory:
    """What a run went through, a list item for each epoch trained."""

    values: list[Mapping[str, float]] = field(default_factory=list)
    metrics: list[Mapping[str, float]] = field(default_factory=list)
    terms: list[Mapping[str, float]] = field(default_factory=list)
    clamped: list[tuple[str, ...]] = field(default_factory=list)

    def objective(self, metric: str) -> list[float]:
        """Return one metric by epoch."""
        return [metrics[metric] for metrics in self.metrics]


class TrieCursor(Protocol):
    """Where a run stands among all that was trained; see `trajectories.Trail`."""

    def find(self, key: bytes) -> EpochResult | None:
        """Go on by an epoch with these values, if it is known, and return what it gave."""
        ...

    def add(self, key: bytes, result: EpochResult) -> None:
        """Go on by an epoch with these values, which gave this."""
        ...

    def keep(self, snapshot: Snapshot) -> bool:
        """Keep a checkpoint of the run."""
        ...

    def restore(self) -> Snapshot | None:
        """Return the last checkpoint on the way to where the run stands."""
        ...


class SavePolicy(Protocol):
    """Decides where a run keeps a checkpoint; see `trajectories.CheckpointPolicy`."""

    def should_save(
        self,
        epoch: int,
        before: Mapping[str, float] | None = None,
        now: Mapping[str, float] | None = None,
        then: Mapping[str, float] | None = None,
    ) -> bool:
        """Tell whether it does after so many epochs."""
        ...


class Run:
    """A plan in motion: first along what is known, then in a lane of an engine.

    The engine trains the lanes of all runs at once, so a run is asked for its `values`, and then
    given the result.

    Args:
        engine: trains it.
        space: says the objective and the horizon.
        keep_best: with an objective of the best epoch, keep a snapshot of that epoch's model.
        trail: what is known of such runs; None: train every epoch.
        placement: where to keep checkpoints on the trail; None: nothing that is trained is kept.

    Attributes:
        lane: the engine's lane that trains the run; None while it is in none.
        at: the epoch that the lane stands at; it may have to catch up with the run.
        trained: the epochs that an engine trained for it; the others were known.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        space: Space,
        plan: Plan,
        seed: int,
        keep_best: bool = False,
        cursor: TrieCursor | None = None,
        checkpoint_policy: SavePolicy | None = None,
    ) -> None:
        self.engine, self.seed, self.space = engine, seed, space
        self.lane: int | None = None
        self.trained = 0
        self.history = RunHistory()
        self._scheduler = Scheduler(
            plan, horizon=space.horizon, seed=seed, direction=space.objective.direction
        )
        self._cursor, self._checkpoint_policy = cursor, checkpoint_policy
        self._keeps = cursor is not None and checkpoint_policy is not None
        self.at = 0
        self._keep_best = keep_best and space.objective.value == "best"
        self._best: tuple[float, Snapshot | None] = (math.inf, None)

    def enter(self, lane: int, engine: Engine | None = None) -> None:
        """Go on in a lane of the engine, or of one like it, from the last checkpoint if any.

        Raises what the user's own code raises while it makes its data and its model.
        """
        self.engine = engine or self.engine
        snapshot = None if self._cursor is None or not self.epochs else self._cursor.restore()
        self.engine.fill(lane, self.seed, snapshot)
        self.lane, self.at = lane, 0 if snapshot is None else snapshot.epoch

    def retrace(self) -> None:
        """Go back to the last checkpoint, or to the beginning, and catch up from there."""
        assert self.lane is not None
        self.enter(self.lane)

    def follow(self) -> bool:
        """Go on by an epoch that is known already; False if it is not, or the run has ended.

        A run that keeps nothing has left what is known for good once it trains.
        """
        if self._cursor is None or self.ended or (self.trained and not self._keeps):
            return False
        result = self._cursor.find(self.engine.key(self._scheduler.values))
        if result is None:
            return False
        self._record(result)
        return True

    def detach_cursor(self) -> None:
        """Train every epoch from here on, and keep nothing."""
        self._cursor, self._keeps = None, False

    @property
    def next_values(self) -> Mapping[str, float]:
        """The values in force for the first epoch that is not known yet."""
        return self._scheduler.values

    @property
    def ended(self) -> bool:
        """Whether the run has come to its horizon, or has diverged."""
        return bool(self.epochs) and (self.epochs >= self.space.horizon or math.isnan(self.metric))

    @property
    def is_behind(self) -> bool:
        """Whether the lane has still to catch up with the run."""
        return self.at < self.epochs

    @property
    def values(self) -> Mapping[str, float]:
        """The values in force for the epoch that the lane is to train."""
        return self.history.values[self.at] if self.is_behind else self._scheduler.values

    @property
    def epochs(self) -> int:
        """How many epochs have been trained."""
        return len(self.history.metrics)

    @property
    def metric(self) -> float:
        """The objective's metric after the last epoch; NaN if the run has diverged."""
        return self.history.metrics[-1][self.space.objective.metric]

    @property
    def value(self) -> float:
        """What the run counts for so far: the last or the best epoch's metric."""
        if self.space.objective.value == "last":
            return self.metric
        lower = self.space.objective.lower_is_better
        known = [m for m in self.history.objective(self.space.objective.metric) if m == m]
        return lower(min(map(lower, known))) if known else math.nan

    def take(self, result: EpochResult) -> None:
        """Record what the epoch gave, and move the schedules on; nothing while catching up.

        Raises:
            TaskError: the task does not give the objective's metric.
        """
        self.at += 1
        self.trained += 1
        if self.at < self.epochs:
            return
        if self.at == self.epochs:
            # Where one run parted from what is known, others may.
            self._keep_snapshot()
            return
        key = self.engine.key(self._scheduler.values) if self._keeps else b""
        self._record(result)
        if self._cursor is not None and self._keeps:
            self._cursor.add(key, result)
            self._keep_checkpoint()
        rank = self.space.objective.lower_is_better(self.metric)
        if self._keep_best and rank < self._best[0]:
            self._best = (rank, self._checkpoint())

    def _record(self, result: EpochResult) -> None:
        name = self.space.objective.metric
        if name not in result.metrics:
            hint = did_you_mean(name, result.metrics) or f"it gives {', '.join(result.metrics)}"
            raise TaskError(f"{self.space.task} gives no metric `{name}`: {hint}")
        self.history.values.append(self._scheduler.values)
        self.history.clamped.append(self._scheduler.clamped)
        self.history.metrics.append(result.metrics)
        self.history.terms.append(result.terms)
        self._scheduler.step(result.metrics[name], terms=result.terms, metrics=result.metrics)

    def _keep_checkpoint(self) -> None:
        if self._checkpoint_policy is None or math.isnan(self.metric):
            return
        then = None if self.epochs >= self.space.horizon else self._scheduler.values
        *_, before, now = None, None, *self.history.values[-2:]
        if self._checkpoint_policy.should_save(self.epochs, before, now, then):
            self._keep_snapshot()

    def keep(self) -> None:
        """Keep a checkpoint of where the run stands, if it is in a lane and follows a trail."""
        if self.lane is not None and self.at == self.epochs > 0:
            self._keep_snapshot()

    def keep_whole(self, cursor: TrieCursor) -> None:
        """Keep all epochs on a trail that is at its beginning, and a checkpoint of the last."""
        history = self.history
        for values, metrics, terms in zip(
            history.values, history.metrics, history.terms, strict=True
        ):
            cursor.add(self.engine.key(values), EpochResult(metrics, terms))
        self._keep_snapshot_on(cursor)

    def _keep_snapshot(self) -> None:
        if self._cursor is not None and self._keeps:
            self._keep_snapshot_on(self._cursor)

    def _keep_snapshot_on(self, cursor: TrieCursor) -> None:
        assert self.lane is not None
        snapshot = self.engine.snapshot(self.lane)
        if snapshot is not None and snapshot.resumable:
            cursor.keep(snapshot)

    def _checkpoint(self) -> Snapshot:
        assert self.lane is not None
        snapshot = self.engine.snapshot(self.lane)
        if snapshot is None:
            raise TaskError(
                f"{self.space.task} gave no checkpoint in epoch {self.epochs}, which is the best "
                'so far: with `value = "best"`, call run.checkpoint in every epoch'
            )
        return snapshot

    def model(self) -> Snapshot | None:
        """Return the trained model: the best epoch's where the objective says so.

        None if a loop of the user's own offers no checkpoint.
        """
        assert self.lane is not None
        return self._best[1] or self.engine.snapshot(self.lane)

    def test(self) -> dict[str, float]:
        """Return the metrics of that model on the test split; the run is over."""
        assert self.lane is not None
        if self._best[1] is not None:
            self.engine.fill(self.lane, self.seed, self._best[1])
        return self.engine.test(self.lane)

    def leave(self) -> None:
        """Free the lane, if the run is in one."""
        if self.lane is not None:
            self.engine.release(self.lane)
            self.lane = None
