"""A plan in motion: the schedules' values, the lane that trains them, and the run's history."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping

from schedsearch.engines import Engine, EpochResult, Resumed, Snapshot
from schedsearch.errors import StorageError, TaskError, did_you_mean
from schedsearch.plan import Plan
from schedsearch.run.best_model import BestModel
from schedsearch.run.cache import EpochCursor, RunCache, save_if_resumable
from schedsearch.run.directory import RunDirectory
from schedsearch.run.history import RunHistory
from schedsearch.scheduler import Scheduler
from schedsearch.space import Space


class Run:
    """A plan in motion: it replays cached epochs first, then trains in a lane of an engine.

    An engine trains one epoch of all its lanes at once. So the caller reads `lane_values` of each
    run, trains the epoch, and passes each result to `record_epoch`.

    Args:
        engine: trains the run.
        space: has the objective and the horizon.
        plan: the schedules.
        seed: of the data, the model and all random numbers.
        keep_best: if the objective is the best epoch's metric, keep a snapshot of that epoch.
        cache: cached epochs of this run and runs like it; None: train every epoch.
        directory: the folder for files of a training loop that outlives the lane; None: there is
            only a temporary one.

    Attributes:
        lane: the engine's lane that trains the run; None while the run is in no lane.
        lane_epoch: the number of epochs that the lane has trained; a lane that was filled from a
            checkpoint first has to catch up with the run.
        epochs_trained: the number of epochs that engines trained for the run, repeated ones
            included.
        epochs_replayed: the number of epochs whose results were read from the cache.
        history: of all epochs of the run.
        stopped: whether the training loop of the run ended by itself before the horizon.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        space: Space,
        plan: Plan,
        seed: int,
        keep_best: bool = False,
        cache: RunCache | None = None,
        directory: RunDirectory | None = None,
    ) -> None:
        self.engine, self.seed, self.space, self.plan = engine, seed, space, plan
        self.lane: int | None = None
        self.lane_epoch = 0
        self.epochs_trained = 0
        self.epochs_replayed = 0
        self.history = RunHistory()
        self.stopped = False
        self.directory = directory
        # Results of epochs that the lane's loop has trained before, and that are to be appended.
        self._ahead: list[EpochResult] = []
        # Whether the loop reported the epoch in which it stopped.
        self._reported_stop = False
        self._scheduler = Scheduler.of_checked_plan(
            plan, horizon=space.horizon, seed=seed, direction=space.objective.direction
        )
        self._cache = cache
        self._best = BestModel() if keep_best and space.objective.value == "best" else None

    # --- state -----------------------------------------------------------------------------------

    @property
    def epochs(self) -> int:
        """The number of epochs in the history, replayed or trained."""
        return len(self.history.metrics)

    @property
    def ended(self) -> bool:
        """Whether the run has reached its horizon, has stopped before, or has diverged."""
        return bool(self.epochs) and (
            self.stopped or self.epochs >= self.space.horizon or math.isnan(self.metric)
        )

    @property
    def is_catching_up(self) -> bool:
        """Whether the lane still has to repeat epochs that are in the history."""
        return self.lane_epoch < self.epochs

    @property
    def is_behind_lane(self) -> bool:
        """Whether the loop in the lane continues after epochs that `replay_epoch` has to append."""
        return bool(self._ahead)

    @property
    def next_values(self) -> Mapping[str, float]:
        """The values of the first epoch that is not in the history."""
        return self._scheduler.epoch_values

    @property
    def lane_values(self) -> Mapping[str, float]:
        """The values of the next epoch of the lane."""
        if self.is_catching_up:
            return self.history.values[self.lane_epoch]
        return self._scheduler.epoch_values

    @property
    def metric(self) -> float:
        """The objective's metric after the last epoch; NaN if the run has diverged."""
        return self.history.metrics[-1][self.space.objective.metric]

    @property
    def value(self) -> float:
        """The objective's value so far: the metric of the last or of the best epoch."""
        if self.space.objective.value == "last":
            return self.metric
        lower = self.space.objective.to_minimize
        known = [m for m in self.history.objective(self.space.objective.metric) if m == m]
        return lower(min(map(lower, known))) if known else math.nan

    # --- epochs ----------------------------------------------------------------------------------

    def replay_epoch(self) -> bool:
        """Advance by one epoch that is known; return False if it must be trained, or the run ended.

        The epoch is cached, or the loop in the lane has its result from an earlier training.

        If the cache says that the run stopped within the epoch before its report, the run ends.

        A run with a read-only cache replays nothing more once it trains: what it trains is not in
        the cache, so its cursor no longer moves.
        """
        if self.ended:
            return False
        if self._ahead:
            self._append_known(self._ahead.pop(0))
            return True
        if self._cache is None:
            return False
        if self.epochs_trained and self._cache.is_read_only:
            return False
        result = self._cache.cursor.find(self._next_key)
        if result is None:
            return False
        if result.metrics:
            self._append(result)
            self.epochs_replayed += 1
        elif not self.epochs:
            raise StorageError(
                "the database is damaged: a recorded run stopped before its first result: use a "
                "copy of it, or pass --no-reuse"
            )
        self._stop_if(result)
        return True

    def _append_known(self, result: EpochResult) -> None:
        key = self._next_key
        self._append(result)
        self.epochs_replayed += 1
        if self._cache is not None and self._cache.is_read_only:
            self._cache = None  # its cursor stays behind
        if self._cache is not None:
            self._cache.cursor.add(key, result)

    def record_epoch(self, result: EpochResult | Resumed) -> None:
        """Record an epoch of the lane, and advance the schedules unless it was a repeated one.

        If the loop in the lane continues after other epochs, the lane is at that epoch from now on:
        `replay_epoch` appends the results that the run does not have yet.

        Raises:
            TaskError: the task does not give the objective's metric, or the loop continues after
                epochs of which it has no results.
        """
        if isinstance(result, Resumed):
            self._resume(result)
            return
        was_catching_up = self.is_catching_up
        if result.metrics:
            self.lane_epoch += 1
            self.epochs_trained += 1
        if was_catching_up and result.stopped:
            # Where a training is not deterministic, its loop may stop before the recorded one:
            # the lane has nothing more to repeat, and what is recorded counts.
            self.lane_epoch = self.epochs
            self._stop_if(result)
        if self.lane_epoch < self.epochs:
            return
        if was_catching_up:
            # The lane has caught up. Checkpoint here: this run branched off from the cached ones
            # at this epoch, so other runs are likely to do so too.
            self._save_to_cache()
            return
        if not result.metrics:
            if self._cache is not None and not self._cache.is_read_only:
                self._cache.cursor.add(self._next_key, result)
            self._stop_if(result)
            return
        self._append(result)
        self._stop_if(result)
        self._cache_epoch(result)
        if self._best is not None:
            rank = self.space.objective.to_minimize(self.metric)
            self._best.update(rank, self._required_snapshot)

    def _resume(self, resumed: Resumed) -> None:
        missing = resumed.epoch - self.epochs
        if missing > len(resumed.results):
            raise TaskError(
                f"the training loop continues after {resumed.epoch} epochs, but the state that it "
                f"loaded has the results of {len(resumed.results)}: remove it"
            )
        self.lane_epoch = resumed.epoch
        self._ahead = list(resumed.results[-missing:]) if missing > 0 else []

    def _stop_if(self, result: EpochResult) -> None:
        if result.stopped and not self.stopped:
            self.stopped = self.epochs < self.space.horizon
            self._reported_stop = bool(result.metrics)

    @property
    def _next_key(self) -> bytes:
        return self.engine.key(self._scheduler.epoch_values, self.seed)

    def _append(self, result: EpochResult) -> None:
        name = self.space.objective.metric
        if name not in result.metrics:
            hint = did_you_mean(name, result.metrics)
            raise TaskError(
                f"objective.metric of {self.space.name} is `{name}`, but {self.space.task} reports "
                f"{', '.join(result.metrics)}: " + (hint or "set it to one of these")
            )
        self.history.values.append(self._scheduler.epoch_values)
        self.history.clamped.append(self._scheduler.clamped)
        self.history.metrics.append(result.metrics)
        self.history.terms.append(result.terms)
        self._scheduler.step(result.metrics[name], terms=result.terms, metrics=result.metrics)

    # --- lanes -----------------------------------------------------------------------------------

    def enter_lane(self, lane: int, engine: Engine | None = None) -> None:
        """Fill a lane of the engine, or of an equal one, from the run's last checkpoint if any.

        Raises what the user's code raises while it makes its data and its model.
        """
        from schedsearch.engines.loop import LoopContext, fill_lane  # loads torch

        self.engine = engine or self.engine
        snapshot = None
        if self._cache is not None and self.epochs:
            snapshot = self._cache.cursor.restore()
        epoch = 0 if snapshot is None else snapshot.epoch
        results = map(EpochResult, self.history.metrics[:epoch], self.history.terms[:epoch])
        directory = (lambda: None) if self.directory is None else self.directory.create
        context = LoopContext(self._identity, tuple(results), directory)
        fill_lane(self.engine, lane, self.seed, snapshot, context)
        self.lane, self.lane_epoch, self._ahead = lane, epoch, []

    @property
    def _identity(self) -> str:
        """The identity of the run's plan, seed and horizon, for states that a loop saves."""
        parts = [self.plan.to_tables(), self.seed, self.space.horizon]
        return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()

    def restart_from_checkpoint(self) -> None:
        """Fill the run's lane again, from its last checkpoint or its beginning."""
        assert self.lane is not None
        self.enter_lane(self.lane)

    def leave_lane(self) -> None:
        """Release the lane, if the run is in one."""
        if self.lane is not None:
            self.engine.release(self.lane)
            self.lane = None

    # --- cache -----------------------------------------------------------------------------------

    def stop_caching(self) -> None:
        """Train every epoch from here on, and add nothing to the cache."""
        self._cache = None

    def save_checkpoint(self) -> None:
        """Save a checkpoint of the run's last epoch, if its lane has trained it and it has a cache.

        Called when the worker stops, so that the run's successor continues here.
        """
        if self.lane is not None and self.lane_epoch == self.epochs > 0:
            self._save_to_cache()

    def save_all_epochs(self, cursor: EpochCursor) -> None:
        """Cache all epochs from a cursor at the beginning, and a checkpoint of the last one."""
        history = self.history
        epochs = zip(history.values, history.metrics, history.terms, strict=True)
        for epoch, (values, metrics, terms) in enumerate(epochs, start=1):
            stopped = self.stopped and self._reported_stop and epoch == self.epochs
            key = self.engine.key(values, self.seed)
            cursor.add(key, EpochResult(metrics, terms, stopped=stopped))
        if self.stopped and not self._reported_stop:
            cursor.add(self._next_key, EpochResult({}, {}, stopped=True))
        save_if_resumable(cursor, self._snapshot())

    def _cache_epoch(self, result: EpochResult) -> None:
        cache = self._cache
        if cache is None or cache.checkpoint_policy is None:
            return
        *_, before, now = None, None, *self.history.values[-2:]
        cache.cursor.add(self.engine.key(self.history.values[-1], self.seed), result)
        then = None if self.ended else self._scheduler.epoch_values
        diverged = math.isnan(self.metric)
        policy = cache.checkpoint_policy
        if not diverged and (self.stopped or policy.should_save(self.epochs, before, now, then)):
            self._save_to_cache()

    def _save_to_cache(self) -> None:
        from schedsearch.engines.loop import can_resume  # loads torch

        if self._cache is not None and can_resume(self.engine):
            self._cache.save(self._snapshot)

    # --- models ----------------------------------------------------------------------------------

    def model_snapshot(self) -> Snapshot | None:
        """Return the trained model: that of the best epoch if the objective counts the best.

        None if a training loop offers no checkpoint.
        """
        return (self._best and self._best.snapshot) or self._snapshot()

    def test(self) -> dict[str, float]:
        """Return the metrics of that model on the test split; the run cannot train any more."""
        assert self.lane is not None
        if self._best is not None and self._best.snapshot is not None:
            self.engine.fill(self.lane, self.seed, self._best.snapshot)
        return self.engine.test(self.lane)

    def _snapshot(self) -> Snapshot | None:
        assert self.lane is not None
        return self.engine.snapshot(self.lane)

    def _required_snapshot(self) -> Snapshot:
        snapshot = self._snapshot()
        if snapshot is None:
            raise TaskError(
                f"{self.space.task} gave no checkpoint in epoch {self.epochs}, which is the best "
                'so far: with `value = "best"`, call run.checkpoint in every epoch'
            )
        return snapshot
