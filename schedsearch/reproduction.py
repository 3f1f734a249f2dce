"""Training a config from scratch, and comparing the result with the value that it records."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from schedsearch.engines import Engine, Snapshot, closest_numerics, make_engine
from schedsearch.engines.precision import start_torch_threads
from schedsearch.errors import InputError, TaskError, did_you_mean
from schedsearch.numerics import numerics_differences
from schedsearch.plan import Plan
from schedsearch.run import Run, RunHistory
from schedsearch.space import Space
from schedsearch.space.recorded_numerics import invalid_numerics
from schedsearch.storage import StudyHandle
from schedsearch.study_task import (
    LoadedTask,
    accepted_versions,
    load_with_fingerprint,
    study_task_changes,
)
from schedsearch.task import OPTIMIZER_HYPERPARAMETERS, Task, TrainFunction, is_train_function
from schedsearch.training import search_seeds, train_to_end, wrap_user_errors
from schedsearch.trajectories import TrajectoryStore
from schedsearch.trajectories.cached_runs import CachedRuns


@dataclass(frozen=True)
class TrainedRun:
    """The result of training a config with one seed.

    Attributes:
        seed: the seed of the run.
        epoch: the epoch whose metrics count, from 1: the last, or the best, as the objective says.
        value: the objective's metric after that epoch; NaN if the run diverged.
        history: values, metrics and loss terms by epoch.
        test: the metrics on the test split; empty if the task has none, or the run diverged.
        recorded: the trial's value with this seed; None if the config does not record it.
        model: the model after that epoch; None if a training loop saves no checkpoint.
        epochs_trained: how many epochs were trained, those included that were only repeated to get
            the model.
        epochs_read: how many epochs have results that were read from the record.
        trained_at: when the last of these was trained; None if none was read, or if version 0.1
            recorded it.
    """

    seed: int
    epoch: int
    value: float
    history: RunHistory
    test: Mapping[str, float]
    recorded: float | None
    model: Snapshot | None
    epochs_trained: int
    epochs_read: int
    trained_at: datetime | None

    @property
    def diverged(self) -> bool:
        """Whether the run ended early with a metric that is not finite."""
        return math.isnan(self.value)

    @property
    def reproduced(self) -> bool | None:
        """Whether the value equals the recorded one exactly.

        None if none is recorded, or if the value was not trained but read from the record.
        """
        if self.recorded is None or self.epochs_read:
            return None
        return self.recorded == self.value

    @property
    def validation(self) -> Mapping[str, float]:
        """All validation metrics after the epoch that counts."""
        return self.history.metrics[self.epoch - 1]


class ConfigTrainer:
    """Trains a config on its task, with the numerics that it records.

    Args:
        space: the config.
        store: the cached trajectories; None trains every epoch.
        study: the study that the config was exported from, if it is known: it says which versions
            of the task are the same training.
        file: the config's file, for messages.

    Raises:
        InputError: a parameter can take several values, or the config does not fit its task.
    """

    def __init__(
        self,
        space: Space,
        store: TrajectoryStore | None = None,
        study: StudyHandle | None = None,
        file: Path | str | None = None,
    ) -> None:
        _check_numerics(space)
        start_torch_threads(space.document.numerics.get("threads", 1))
        loaded = load_with_fingerprint(space, file)
        task = loaded.task
        self.space = space.with_defaults(task.hyperparameters)
        self.plan = self.space.plan()
        _check_names(self.plan, task, space.task)
        self._recorded = _recorded_values(space)
        numerics = _usable_numerics(space, task)
        self.engine: Engine = make_engine(task, horizon=space.horizon, numerics=numerics)
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
            return TrainedRun(
                seed=seed,
                epoch=_counted_epoch(run, self.space),
                value=math.nan if diverged else run.value,
                history=run.history,
                test=test,
                recorded=self._recorded.get(seed),
                model=model,
                epochs_trained=run.epochs_trained,
                epochs_read=run.epochs_replayed,
                trained_at=trained_at,
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


def _usable_numerics(space: Space, task: Task | TrainFunction) -> dict[str, Any]:
    """Return the config's numerics as far as this machine and this task support them."""
    recorded = space.document.numerics
    engine = recorded.get("engine", "sequential")
    if engine not in ("sequential", "lanes", "loop"):
        raise InputError(
            f"{space.name}: numerics.engine is {engine!r}, but must be sequential, lanes or loop"
        )
    if is_train_function(task) or engine == "loop":
        engine = "loop" if is_train_function(task) else "sequential"
    return closest_numerics({**recorded, "engine": engine, "device": _device(space)})


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


def model_bytes(trained: TrainedRun, space: Space) -> bytes | None:
    """Return the model as a safetensors file: parameters and buffers by name.

    For a training loop: all tensors of the state that it passed to `run.checkpoint`, under dotted
    names such as model.0.weight. None if there are no tensors.
    """
    from safetensors.torch import save

    if trained.model is None:
        return None
    tensors = dict(_named_tensors(trained.model.model or trained.model.extra.get("state")))
    if not tensors:
        return None
    metadata = {"format": "pt", "config": space.name, "seed": str(trained.seed)}
    return save(tensors, metadata | {"epoch": str(trained.epoch)})


def _named_tensors(state: Any, prefix: str = "") -> Iterable[tuple[str, Any]]:
    import torch

    if isinstance(state, torch.Tensor):
        # A copy, because safetensors refuses tensors that share memory.
        yield prefix, state.detach().cpu().contiguous().clone()
    elif isinstance(state, Mapping):
        for name, item in state.items():
            yield from _named_tensors(item, f"{prefix}.{name}" if prefix else str(name))


def to_json(runs: list[TrainedRun], trainer: ConfigTrainer) -> dict[str, Any]:
    """Return the document that `train --json` prints: means over all runs, and every run."""
    return {
        "name": trainer.space.name,
        "seeds": [run.seed for run in runs],
        "validation": _means([run.validation for run in runs]),
        "test": _means([run.test for run in runs]),
        "values": _by_name(runs[0].history.values),
        "reproduced": _all_or_none([run.reproduced for run in runs]),
        "differences": trainer.differences,
        "runs": [_run_to_json(run) for run in runs],
    }


def _run_to_json(run: TrainedRun) -> dict[str, Any]:
    return {
        "seed": run.seed,
        "epoch": run.epoch,
        "value": _finite_or_none(run.value),
        "recorded": run.recorded,
        "reproduced": run.reproduced,
        "epochs_trained": run.epochs_trained,
        "epochs_read": run.epochs_read,
        "trained_at": None if run.trained_at is None else run.trained_at.isoformat(),
        "diverged": run.diverged,
        "validation": {name: _finite_or_none(value) for name, value in run.validation.items()},
        "test": {name: _finite_or_none(value) for name, value in run.test.items()},
        "values": _by_name(run.history.values),
        "metrics": _by_name(run.history.metrics),
        "terms": _by_name(run.history.terms),
    }


def _means(runs: list[Mapping[str, float]]) -> dict[str, float | None]:
    names = dict.fromkeys(name for metrics in runs for name in metrics)
    return {
        name: _finite_or_none(statistics.fmean(metrics.get(name, math.nan) for metrics in runs))
        for name in names
    }


def _all_or_none(answers: list[bool | None]) -> bool | None:
    answered = [answer for answer in answers if answer is not None]
    return all(answered) if answered else None


def _by_name(epochs: list[Mapping[str, float]]) -> dict[str, list[float | None]]:
    names = dict.fromkeys(name for epoch in epochs for name in epoch)
    return {
        name: [_finite_or_none(epoch.get(name, math.nan)) for epoch in epochs] for name in names
    }


def _finite_or_none(value: float) -> float | None:
    """Return the value; None if it is not finite, since JSON has no NaN."""
    return value if math.isfinite(value) else None
