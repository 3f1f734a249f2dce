"""The Task protocol: the user's model, data, loss terms and validation metrics."""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    Protocol,
    TypeAlias,
    TypeVar,
    cast,
    get_args,
)

from schedsearch.errors import TaskError, nearest

if TYPE_CHECKING:
    from torch import Tensor, nn
    from typing_extensions import TypeIs

_T = TypeVar("_T")

OptimizerName: TypeAlias = Literal["sgd", "adam", "adamw"]
#: Tensors by name whose first dimension counts the examples.
Examples: TypeAlias = "Mapping[str, Tensor]"


@dataclass(frozen=True)
class Splits:
    """A task's data in memory. The search reads `train` and `validation` only; never `test`."""

    train: Examples
    validation: Examples
    test: Examples


class Task(Protocol):
    """What schedsearch needs to know of a training.

    The objective is out of the schedule's reach: `metrics` never sees a hyperparameter.
    """

    #: Every name that the loss or the optimizer reads, with its default. `lr`, `weight_decay` and
    #: `momentum` (Adam's first beta) go to the optimizer, `weights.TERM` multiplies a loss term.
    hyperparameters: Mapping[str, float]
    optimizer: OptimizerName
    batch_size: int
    #: Optimizer steps per epoch; None: one pass over the training data; a last
    #: batch that is too short is left out.
    steps_per_epoch: int | None = None
    #: Random tensors that a step needs, by name and shape: standard normal, drawn by the engine
    #: from the run's seed, the epoch and the step.
    noise: Mapping[str, tuple[int, ...]] = MappingProxyType({})

    def data(self, seed: int) -> Splits:
        """Return the splits. What is drawn depends on the seed; the test split never does."""
        ...

    def model(self, seed: int) -> nn.Module:
        """Return a fresh model whose initial parameters depend on the seed alone."""
        ...

    def terms(
        self,
        model: nn.Module,
        batch: Examples,
        hp: Mapping[str, Tensor],
        noise: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        """Return the loss terms of a batch as 0-d tensors; `hp` holds 0-d tensors.

        The loss is the sum of `weights.TERM` times TERM, the weight 1 where it is not declared.
        """
        ...

    def metrics(self, model: nn.Module, split: Examples) -> dict[str, Tensor]:
        """Return the metrics of a whole split as 0-d tensors.

        The engines name them `val_NAME` and `test_NAME`. A share of examples is exact in float64.
        """
        ...


class TrainFunction(Protocol):
    """A training loop of the user's own: a function `train(run)` that knows its hyperparameters."""

    #: Every name that the loop reads from `hp`, with its default.
    hyperparameters: Mapping[str, float]

    def __call__(self, run: Any, /) -> object:
        """Train: `for epoch, hp in run`, with one `run.report(...)` in each epoch."""
        ...


def is_train_function(task: Task | TrainFunction) -> TypeIs[TrainFunction]:
    """Tell a training loop of the user's own from a task."""
    return callable(task) and not hasattr(task, "terms")


def count_examples(split: Examples) -> int:
    """Return the number of examples of a split; 0 if it holds no tensors.

    Raises:
        TaskError: the tensors disagree.
    """
    counts = {name: len(tensor) for name, tensor in split.items()}
    if len(set(counts.values())) > 1:
        raise TaskError(f"the tensors of a split must count the same examples, not {counts}")
    return next(iter(counts.values()), 0)


def count_steps(task: Task, examples: int) -> int:
    """Return the optimizer steps of an epoch over so many training examples.

    Raises:
        TaskError: there are fewer examples than a batch holds.
    """
    steps = task.steps_per_epoch or examples // task.batch_size
    if not steps:
        raise TaskError(
            f"{type(task).__name__}: the batch_size is {task.batch_size}, but must be at most the "
            f"number of training examples, {examples}"
        )
    return steps


def load_task(
    reference: str, arguments: Mapping[str, Any] = MappingProxyType({})
) -> Task | TrainFunction:
    """Return the task that "module:attribute" names; the current folder is importable.

    A class is called with the arguments. A function `train(run)` takes none.

    Raises:
        TaskError: the reference does not lead to a task; one line says where it ends.
    """
    module_name, separator, attribute = reference.partition(":")
    if not (separator and module_name and attribute):
        raise TaskError(
            f"task {reference!r} must be written MODULE:ATTRIBUTE, for instance "
            "schedsearch.tasks.noisy_digits:NoisyDigits"
        )
    module = _import(reference, module_name)
    if not hasattr(module, attribute):
        public = [name for name in vars(module) if not name.startswith("_")]
        raise TaskError(
            f"task {reference!r}: {module_name} has no `{attribute}`{_hint(attribute, public)}"
        )
    found = getattr(module, attribute)
    if inspect.isclass(found):
        found = call_user_code(f"task {reference!r}: {attribute}(…)", lambda: found(**arguments))
    elif arguments:
        raise TaskError(f"task {reference!r}: only a class takes arguments")
    if problem := _problem(found):
        raise TaskError(f"task {reference!r}: {problem}")
    return cast("Task | TrainFunction", found)


def _import(reference: str, name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise TaskError(
                f"task {reference!r}: {name} needs the module `{error.name}`"
            ) from error
        parent, _, last = error.name.rpartition(".")
        path = getattr(sys.modules.get(parent), "__path__", None) if parent else [here]
        known = [module.name for module in pkgutil.iter_modules(path)]
        hint = _hint(last, known)
        raise TaskError(f"task {reference!r}: there is no module `{error.name}`{hint}") from None
    except Exception as error:
        raise TaskError(f"task {reference!r}: importing {name} raises {_shown(error)}") from error


def _hint(name: str, known: Iterable[str]) -> str:
    hint = nearest(name, known)
    return f": {hint}" if hint else ""


def _shown(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def call_user_code(what: str, function: Callable[[], _T]) -> _T:
    """Return what a part of a task returns; what it raises becomes a TaskError of one line."""
    try:
        return function()
    except Exception as error:
        raise TaskError(f"{what} raises {_shown(error)}") from error


def _problem(found: Any) -> str | None:
    """Return why an object is not a task, as far as it can be told without calling it."""
    if is_train_function(found):
        if not hasattr(found, "hyperparameters"):
            name = getattr(found, "__name__", "train")
            return f"the function has no hyperparameters: set {name}.hyperparameters = {{…}}"
        return _hyperparameter_problem(found.hyperparameters)
    missing = [name for name in _MEMBERS if _is_missing(found, name)]
    if missing:
        return f"{type(found).__name__} is not a task: it has no {', '.join(missing)}"
    if found.optimizer not in get_args(OptimizerName):
        names = ", ".join(get_args(OptimizerName))
        return f"the optimizer is {found.optimizer!r}, but must be one of {names}"
    if not _is_count(found.batch_size):
        return f"the batch_size is {found.batch_size!r}, but must be a whole number of at least 1"
    if found.steps_per_epoch is not None and not _is_count(found.steps_per_epoch):
        return (
            f"the steps_per_epoch is {found.steps_per_epoch!r}, but must be a whole number of at "
            "least 1, or None for one pass over the data"
        )
    if problem := _hyperparameter_problem(found.hyperparameters):
        return problem
    if "lr" not in found.hyperparameters:
        return "the hyperparameters have no `lr`, which every optimizer reads"
    return None


_MEMBERS = (
    "hyperparameters",
    "optimizer",
    "batch_size",
    "steps_per_epoch",
    "noise",
    "data",
    "model",
    "terms",
    "metrics",
)


def _is_missing(found: Any, name: str) -> bool:
    """Tell whether an object lacks a member; a method merely inherited from Task is none."""
    inherited = getattr(Task, name, None)
    return not hasattr(found, name) or (
        inspect.isfunction(inherited) and getattr(type(found), name, None) is inherited
    )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _hyperparameter_problem(given: object) -> str | None:
    if not isinstance(given, Mapping):
        return f"hyperparameters is {given!r}, but must map names to their defaults"
    for name, value in given.items():
        if not isinstance(name, str):
            return f"a hyperparameter is called {name!r}, but names must be strings"
        if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
            return f"the default of `{name}` is {value!r}, but must be a finite number"
    return None
