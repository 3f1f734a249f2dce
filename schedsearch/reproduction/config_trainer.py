"""The trainer of a config: with the numerics, the task and the cached epochs of its study."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from schedsearch.engines import closest_numerics
from schedsearch.engines.precision import start_torch_threads
from schedsearch.errors import InputError, TaskError, did_you_mean
from schedsearch.numerics import numerics_differences
from schedsearch.plan import Plan
from schedsearch.ranks.rank_group import RankGroup
from schedsearch.reproduction.trained_run import TrainedRun
from schedsearch.run import Run
from schedsearch.space import Space
from schedsearch.space.recorded_numerics import invalid_numerics
from schedsearch.storage import StudyHandle
from schedsearch.study_task import (
    LoadedTask,
    accepted_versions,
    engine_for,
    load_with_fingerprint,
    study_task_changes,
)
from schedsearch.task import (
    OPTIMIZER_HYPERPARAMETERS,
    Task,
    TrainFunction,
    argument_defaults,
    is_train_function,
)
from schedsearch.training import search_seeds, train_to_end, wrap_user_errors
from schedsearch.trajectories import TrajectoryStore
from schedsearch.trajectories.cached_runs import CachedRuns


class ConfigTrainer:
    """Trains a config on its task, with the numerics that it records.

    Args:
        space: the config.
        store: the cached trajectories; None trains every epoch.
        study: the study that the config was exported from, if it is known: it says which versions
            of the task are the same training.
        file: the config's file, for messages.
        group: the processes that train together; None: this one alone.

    Raises:
        InputError: a parameter can take several values, the config does not fit its task, or
            several processes are to train a task that is no training loop.
    """

    def __init__(
        self,
        space: Space,
        store: TrajectoryStore | None = None,
        study: StudyHandle | None = None,
        file: Path | str | None = None,
        group: RankGroup | None = None,
    ) -> None:
        _check_numerics(space)
        start_torch_threads(space.document.numerics.get("threads", 1))
        if group is not None:
            group.set_up(space, {"threads": 1, **space.document.numerics})
        loaded = load_with_fingerprint(space, file)
        task = loaded.task
        space = space.with_argument_defaults(argument_defaults(task))
        self.space = space.with_defaults(task.hyperparameters)
        self.plan = self.space.plan()
        _check_names(self.plan, task, space.task)
        self._recorded = _recorded_values(space)
        numerics = _usable_numerics(space, task, 1 if group is None else group.size)
        engine = engine_for(self.space, task, numerics, self.plan.arguments)
        self.engine = engine if group is None else group.lead(engine, self.plan.arguments)
        #: How numerics and task differ from those that the config records, a phrase each.
        self.differences = numerics_differences(space.document.numerics, numerics)
        digest, changes = _match_versions(space, loaded, study)
        self._cache = CachedRuns(store, space=self.space, fingerprint=digest, numerics=numerics)
        self.differences.extend(changes)

    @property
    def seeds(self) -> list[int]:
        """The seeds of the config's trial; if it names none, those of its [search] table."""
        return list(self._recorded) or list(search_seeds(self.space))

    def train(self, seed: int, on_epoch: Callable[[Run], None]) -> TrainedRun:
        """Train up to the horizon, from the last cached epoch or from scratch.

        Raises:
            SchedSearchError: the user's code raised an exception.
        """
        run = self._cache.begin(self.engine, self.plan, seed, keep_best=True)
        try:
            while run.replay_epoch():
                pass
            trained_at = self._cache.time_of_last_epoch(run) if run.epochs_replayed else None
            train_to_end([run], lambda seconds, runs: on_epoch(run))
            diverged = math.isnan(run.metric)
            model = None if diverged else run.model_snapshot()
            with wrap_user_errors(self.space, seed):
                test = {} if diverged else run.test()
            trained = run.epochs - run.epochs_replayed
            return TrainedRun(
                seed=seed,
                epoch=_counted_epoch(run, self.space),
                value=math.nan if diverged else run.value,
                history=run.history,
                test=test,
                recorded=self._recorded.get(seed),
                model=model,
                epochs_trained=trained,
                epochs_repeated=run.epochs_trained - trained,
                epochs_read=run.epochs_replayed,
                trained_at=trained_at,
                stopped_after=run.epochs if run.stopped else None,
            )
        finally:
            run.leave_lane()
            self._cache.end(run)
            self._cache.flush()


def _match_versions(
    space: Space, loaded: LoadedTask, study: StudyHandle | None
) -> tuple[str, list[str]]:
    """Return the fingerprint that identifies the cached epochs, and how the task has changed."""
    recorded = space.document.source.get("fingerprint", loaded.digest)
    accepted = set() if study is None else accepted_versions(study)
    if study is not None and recorded in accepted:
        changes = study_task_changes(study, loaded)
        return loaded.digest if changes else study.record.fingerprint, changes
    if recorded == loaded.digest:
        return loaded.digest, []
    if loaded.has_legacy_fingerprint(recorded):
        return recorded, []
    return loaded.digest, ["the task's source, arguments or data"]


def _counted_epoch(run: Run, space: Space) -> int:
    metrics = run.history.objective(space.objective.metric)
    if space.objective.value == "last" or math.isnan(metrics[-1]):
        return len(metrics)
    return metrics.index(run.value) + 1


def _recorded_values(space: Space) -> dict[int, float]:
    """Return the recorded values of the trial's runs by seed."""
    runs = space.document.source.get("runs", [])
    try:
        return {int(run["seed"]): float(run["value"]) for run in runs}
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f"{space.name}: source.runs is {runs!r}, but each must have a `seed` and a `value`"
        ) from None


def _usable_numerics(space: Space, task: Task | TrainFunction, processes: int) -> dict[str, Any]:
    """Return the config's numerics as far as this machine and this task support them."""
    recorded = space.document.numerics
    engine = recorded.get("engine", "sequential")
    if engine not in ("sequential", "lanes", "loop"):
        raise InputError(
            f"{space.name}: numerics.engine is {engine!r}, but must be sequential, lanes or loop"
        )
    if is_train_function(task) or engine == "loop":
        engine = "loop" if is_train_function(task) else "sequential"
    return closest_numerics(
        {**recorded, "engine": engine, "device": _device(space), "processes": processes}
    )


def _check_numerics(space: Space) -> None:
    if wrong := invalid_numerics(dict(space.document.numerics)):
        raise InputError(f"{space.name}: {wrong}")


def _device(space: Space) -> str:
    """Return the config's device if this machine has it, otherwise the CPU."""
    import torch

    wanted = str(space.document.numerics.get("device", "cpu"))
    accelerators = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return wanted if accelerators.get(wanted.partition(":")[0], True) else "cpu"


def _check_names(plan: Plan, task: Task | TrainFunction, reference: str) -> None:
    allowed = [*task.hyperparameters]
    if not is_train_function(task):
        allowed.extend(OPTIMIZER_HYPERPARAMETERS)
        allowed.extend(name for name in plan.names if name.startswith("weights."))
    for name in plan.names:
        if name not in allowed:
            hint = did_you_mean(name, allowed) or "it has " + ", ".join(dict.fromkeys(allowed))
            raise TaskError(f"{reference} has no hyperparameter `{name}`: {hint}")
