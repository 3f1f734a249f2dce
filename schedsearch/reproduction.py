"""Training a config from scratch, and whether it gives again what its trial gave."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from schedsearch.engines import Engine, Snapshot, closest_numerics, make_engine
from schedsearch.engines.precision import start_torch_threads
from schedsearch.errors import InputError, TaskError, did_you_mean
from schedsearch.numerics import numerics_differences
from schedsearch.plan import Plan
from schedsearch.run import Run, RunHistory
from schedsearch.space import Space
from schedsearch.task import (
    OPTIMIZER_HYPERPARAMETERS,
    Task,
    TrainFunction,
    fingerprint,
    is_train_function,
    load_task,
)
from schedsearch.training import search_seeds, train_to_end, wrap_user_errors
from schedsearch.trajectories import TrajectoryStore
from schedsearch.trajectories.cached_runs import CachedRuns


@dataclass(frozen=True)
class TrainedRun:
    """What one run of a config gave.

    Attributes:
        epoch: the epoch that counts, from 1: the last, or the best where the objective says so.
        value: the objective's metric in that epoch; NaN if the run diverged.
        test: the metrics on the test split; empty if the task has none, or the run diverged.
        recorded: the value that the trial had with this seed, if the config says.
        model: None if a loop of the user's own offers no checkpoint.
        trained: how many epochs were trained; the others were known.
    """

    seed: int
    epoch: int
    value: float
    history: RunHistory
    test: Mapping[str, float]
    recorded: float | None
    model: Snapshot | None
    trained: int

    @property
    def diverged(self) -> bool:
        """Whether the run ended early in numbers that are not finite."""
        return math.isnan(self.value)

    @property
    def reproduced(self) -> bool | None:
        """Whether the recorded value came out again, exactly; None if there is none."""
        return None if self.recorded is None else self.recorded == self.value

    @property
    def validation(self) -> Mapping[str, float]:
        """All validation metrics of the epoch that counts."""
        return self.history.metrics[self.epoch - 1]


class Config:
    """A config, with its task and an engine set up as its numerics say.

    Args:
        space: the config.
        store: what is known already; None: every epoch is trained.

    Raises:
        InputError: something is left to choose, or the task does not fit.
    """

    def __init__(self, space: Space, store: TrajectoryStore | None = None) -> None:
        start_torch_threads(_whole(space, "threads"))
        task = load_task(space.task, space.document.arguments)
        self.space = space.with_defaults(task.hyperparameters)
        self.plan = self.space.plan()
        _check_names(self.plan, task, space.task)
        self._recorded = _recorded(space)
        here = _numerics(space, task)
        self.engine: Engine = make_engine(task, horizon=space.horizon, numerics=here)
        #: What differs from the config's own numerics and task, a phrase each.
        self.differences = numerics_differences(space.document.numerics, here)
        own = fingerprint(task, space.task, space.document.arguments)
        self._known = CachedRuns(store, space=self.space, fingerprint=own, numerics=here)
        if space.document.source.get("fingerprint", own) != own:
            self.differences.append("the task's source, arguments or data")

    @property
    def seeds(self) -> list[int]:
        """The seeds of the trial that the config comes from, else those of its [search]."""
        return list(self._recorded) or list(search_seeds(self.space))

    def train(self, seed: int, on_epoch: Callable[[Run], None]) -> TrainedRun:
        """Train in full, from scratch or from where something is known.

        Raises:
            SchedSearchError: the user's own code raised.
        """
        run = self._known.begin(self.engine, self.plan, seed, keep_best=True)
        try:
            train_to_end([run], lambda seconds, runs: on_epoch(run))
            diverged = math.isnan(run.metric)
            model = None if diverged else run.model_snapshot()
            with wrap_user_errors(self.space, seed):
                test = {} if diverged else run.test()
            return TrainedRun(
                seed=seed,
                epoch=_epoch_that_counts(run, self.space),
                value=math.nan if diverged else run.value,
                history=run.history,
                test=test,
                recorded=self._recorded.get(seed),
                model=model,
                trained=run.epochs_trained,
            )
        finally:
            run.leave_lane()
            self._known.end(run)
            self._known.flush()


def _epoch_that_counts(run: Run, space: Space) -> int:
    metrics = run.history.objective(space.objective.metric)
    if space.objective.value == "last" or math.isnan(metrics[-1]):
        return len(metrics)
    return metrics.index(run.value) + 1


def _recorded(space: Space) -> dict[int, float]:
    """Return the values of the trial's runs by their seeds, as far as the config says."""
    runs = space.document.source.get("runs", [])
    try:
        return {int(run["seed"]): float(run["value"]) for run in runs}
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f"{space.name}: source.runs is {runs!r}, but each must have a `seed` and a `value`"
        ) from None


def _numerics(space: Space, task: Task | TrainFunction) -> dict[str, Any]:
    """Return the config's numerics as far as this machine and this task can follow them."""
    recorded = space.document.numerics
    _whole(space, "lanes")
    engine = recorded.get("engine", "sequential")
    if engine not in ("sequential", "lanes", "loop"):
        raise InputError(
            f"{space.name}: numerics.engine is {engine!r}, but must be sequential, lanes or loop"
        )
    if is_train_function(task) or engine == "loop":
        engine = "loop" if is_train_function(task) else "sequential"
    return closest_numerics({**recorded, "engine": engine, "device": _device(space)})


def _whole(space: Space, key: str) -> int:
    """Return a whole number of the config's numerics, 1 where it says nothing."""
    number = space.document.numerics.get(key, 1)
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise InputError(
            f"{space.name}: numerics.{key} is {number!r}, but must be a whole number of at least 1"
        )
    return number


def _device(space: Space) -> str:
    """Return the device if this machine has it, else the CPU, which every machine has."""
    import torch

    wanted = str(space.document.numerics.get("device", "cpu"))
    accelerators = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return wanted if accelerators.get(wanted.partition(":")[0], True) else "cpu"


def _check_names(plan: Plan, task: Task | TrainFunction, reference: str) -> None:
    known = [*task.hyperparameters]
    if not is_train_function(task):
        known.extend(OPTIMIZER_HYPERPARAMETERS)
        known.extend(name for name in plan.names if name.startswith("weights."))
    for name in plan.names:
        if name not in known:
            hint = did_you_mean(name, known) or "it has " + ", ".join(dict.fromkeys(known))
            raise TaskError(f"{reference} has no hyperparameter `{name}`: {hint}")


def model_bytes(trained: TrainedRun, space: Space) -> bytes | None:
    """Return the model as a safetensors file: parameters and buffers by their names.

    Of a loop of the user's own: all tensors in the state that it gave to `run.checkpoint`, under
    dotted names, as model.0.weight. None if there are no tensors to save.
    """
    from safetensors.torch import save

    if trained.model is None:
        return None
    tensors = dict(_tensors(trained.model.model or trained.model.extra.get("state")))
    if not tensors:
        return None
    metadata = {"format": "pt", "config": space.name, "seed": str(trained.seed)}
    return save(tensors, metadata | {"epoch": str(trained.epoch)})


def _tensors(state: Any, prefix: str = "") -> Iterable[tuple[str, Any]]:
    import torch

    if isinstance(state, torch.Tensor):
        # A copy of its own: the format refuses tensors that share memory.
        yield prefix, state.detach().cpu().contiguous().clone()
    elif isinstance(state, Mapping):
        for name, item in state.items():
            yield from _tensors(item, f"{prefix}.{name}" if prefix else str(name))


def to_json(runs: list[TrainedRun], config: Config) -> dict[str, Any]:
    """Return the document that `train --json` prints: means over the runs, then each run."""
    return {
        "name": config.space.name,
        "seeds": [run.seed for run in runs],
        "validation": _means([run.validation for run in runs]),
        "test": _means([run.test for run in runs]),
        "values": _by_name(runs[0].history.values),
        "reproduced": _all([run.reproduced for run in runs]),
        "differences": config.differences,
        "runs": [_run_to_json(run) for run in runs],
    }


def _run_to_json(run: TrainedRun) -> dict[str, Any]:
    return {
        "seed": run.seed,
        "epoch": run.epoch,
        "value": _number(run.value),
        "recorded": run.recorded,
        "reproduced": run.reproduced,
        "epochs_trained": run.trained,
        "diverged": run.diverged,
        "validation": {name: _number(value) for name, value in run.validation.items()},
        "test": {name: _number(value) for name, value in run.test.items()},
        "values": _by_name(run.history.values),
        "metrics": _by_name(run.history.metrics),
        "terms": _by_name(run.history.terms),
    }


def _means(metrics: list[Mapping[str, float]]) -> dict[str, float | None]:
    names = dict.fromkeys(name for one in metrics for name in one)
    return {
        name: _number(statistics.fmean(one.get(name, math.nan) for one in metrics))
        for name in names
    }


def _all(answers: list[bool | None]) -> bool | None:
    known = [answer for answer in answers if answer is not None]
    return all(known) if known else None


def _by_name(epochs: list[Mapping[str, float]]) -> dict[str, list[float | None]]:
    names = dict.fromkeys(name for epoch in epochs for name in epoch)
    return {name: [_number(epoch.get(name, math.nan)) for epoch in epochs] for name in names}


def _number(value: float) -> float | None:
    """JSON knows no NaN."""
    return value if math.isfinite(value) else None
