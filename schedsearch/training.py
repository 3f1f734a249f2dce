"""One run of a plan: what an engine trains, what the schedules make of it, and what is kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from schedsearch.engines import Engine, EpochResult, Snapshot
from schedsearch.errors import SchedSearchError, TaskError, nearest
from schedsearch.plan import Plan, Scheduler
from schedsearch.space import Space
from schedsearch.task.user_code import one_line

#: Epochs whose values a trial keeps; of a longer run they are thinned evenly.
_KEPT_EPOCHS = 500


@dataclass
class History:
    """What a run went through, a list item for each epoch trained."""

    values: list[Mapping[str, float]] = field(default_factory=list)
    metrics: list[Mapping[str, float]] = field(default_factory=list)
    terms: list[Mapping[str, float]] = field(default_factory=list)
    clamped: list[tuple[str, ...]] = field(default_factory=list)

    def objective(self, metric: str) -> list[float]:
        """Return one metric by epoch."""
        return [metrics[metric] for metrics in self.metrics]


class Run:
    """A plan in motion in a lane of an engine.

    The engine trains the lanes of all runs at once, so a run is asked for its `values`, and then
    given the result.

    Args:
        engine: trains it, in this lane.
        space: says the objective and the horizon.
        keep_best: with an objective of the best epoch, keep a snapshot of that epoch's model.
    """

    def __init__(
        self,
        engine: Engine,
        lane: int,
        *,
        space: Space,
        plan: Plan,
        seed: int,
        keep_best: bool = False,
    ) -> None:
        self.engine, self.lane, self.seed = engine, lane, seed
        self.space = space
        self._scheduler = Scheduler(
            plan, horizon=space.horizon, seed=seed, direction=space.objective.direction
        )
        self._keep_best = keep_best and space.objective.value == "best"
        self._best: tuple[float, Snapshot | None] = (math.inf, None)
        self.history = History()
        engine.fill(lane, seed)

    @property
    def values(self) -> dict[str, float]:
        """The values in force for the coming epoch."""
        return self._scheduler.values

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
        """Record what the epoch gave, and move the schedules on.

        Raises:
            TaskError: the task does not give the objective's metric.
        """
        name = self.space.objective.metric
        if name not in result.metrics:
            hint = nearest(name, result.metrics) or f"it gives {', '.join(result.metrics)}"
            raise TaskError(f"{self.space.task} gives no metric `{name}`: {hint}")
        self.history.values.append(self._scheduler.values)
        self.history.clamped.append(self._scheduler.clamped)
        self.history.metrics.append(result.metrics)
        self.history.terms.append(result.terms)
        self._scheduler.step(result.metrics[name], terms=result.terms, metrics=result.metrics)
        rank = self.space.objective.lower_is_better(result.metrics[name])
        if self._keep_best and rank < self._best[0]:
            self._best = (rank, self._checkpoint())

    def _checkpoint(self) -> Snapshot:
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
        return self._best[1] or self.engine.snapshot(self.lane)

    def test(self) -> dict[str, float]:
        """Return the metrics of that model on the test split; the run is over."""
        if self._best[1] is not None:
            self.engine.fill(self.lane, self.seed, self._best[1])
        return self.engine.test(self.lane)

    def release(self) -> None:
        """Free the lane."""
        self.engine.release(self.lane)


def train_epoch(runs: Iterable[Run]) -> dict[Run, EpochResult | Exception]:
    """Train runs for one epoch with the values in force, all lanes of an engine at once."""
    by_engine: dict[Engine, dict[int, Run]] = {}
    for run in runs:
        by_engine.setdefault(run.engine, {})[run.lane] = run
    results: dict[Run, EpochResult | Exception] = {}
    for engine, lanes in by_engine.items():
        values = [lanes[i].values if i in lanes else None for i in range(engine.lanes)]
        for lane, result in enumerate(engine.train_epoch(values)):
            if result is not None:
                results[lanes[lane]] = result
    return results


def train_whole(
    runs: Sequence[Run], horizon: int, each_epoch: Callable[[], None] | None = None
) -> None:
    """Train runs side by side, each to its horizon or until it diverges.

    Raises:
        SchedSearchError: the user's own code raised.
    """
    training = list(runs)
    while training:
        for run, result in train_epoch(training).items():
            with user_code(run.space, run.seed):
                if isinstance(result, Exception):
                    raise result
            run.take(result)
        if each_epoch is not None:
            each_epoch()
        training = [r for r in training if r.epochs < horizon and not math.isnan(r.metric)]


@contextmanager
def user_code(space: Space, seed: int) -> Iterator[None]:
    """Make one line, with the task and the run's seed, of what the user's own code raises."""
    try:
        yield
    except SchedSearchError:
        raise
    except Exception as error:
        raise SchedSearchError(f"{space.task} raised {one_line(error)} (seed {seed})") from error


def search_seeds(space: Space) -> range:
    """Return the seeds of a trial's runs: the same for every trial, so that all meet one noise."""
    first = space.search.seed
    return range(first, first + space.search.seeds)


def fresh_seeds(space: Space, number: int) -> range:
    """Return seeds that no trial of the study has met."""
    first = space.search.seed + 1_000_000
    return range(first, first + number)


def summary(runs: Sequence[Run]) -> dict[str, Any]:
    """Return what a trial keeps of its runs, small enough for attributes.

    `values` and `terms` are the first seed's by epoch, to six digits, or one number where every
    epoch has the same; `runs` gives each seed's own objective; of a run
    longer than 500 epochs each `every`-th one is kept; `clamped` counts the epochs in
    which bounds held a hyperparameter back.
    """
    history = runs[0].history
    every = math.ceil(len(history.metrics) / _KEPT_EPOCHS)
    kept: dict[str, Any] = {
        "values": _by_name(history.values[::every]),
        "terms": _by_name(history.terms[::every]),
        "runs": [{"seed": run.seed, "value": _json_number(run.value)} for run in runs],
    }
    if every > 1:
        kept["every"] = every
    clamped = [name for names in history.clamped for name in names]
    if clamped:
        kept["clamped"] = {name: clamped.count(name) for name in dict.fromkeys(clamped)}
    return kept


def _by_name(epochs: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    by_name: dict[str, Any] = {}
    for name in dict.fromkeys(name for epoch in epochs for name in epoch):
        numbers = [_json_number(epoch.get(name, math.nan), digits=6) for epoch in epochs]
        by_name[name] = numbers[0] if len(set(numbers)) == 1 else numbers
    return by_name


def _json_number(value: float, digits: int = 17) -> float | None:
    """Return a number that survives JSON: NaN is None, and 17 digits lose nothing."""
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None
