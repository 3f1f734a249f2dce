"""The Task protocol: the user's model, data, loss terms and validation metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from schedsearch.errors import TaskError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from typing_extensions import TypeIs

#: The hyperparameters that an optimizer reads; torch's default where a task has not declared one.
OPTIMIZER_HYPERPARAMETERS = ("lr", "weight_decay", "momentum")
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
    #: `"sgd"`, `"adam"` or `"adamw"`: which of torch's optimizers trains the model.
    optimizer: OptimizerName
    #: Training examples per optimizer step.
    batch_size: int
    #: Optimizer steps per epoch, or None for one pass over the training data. A last batch that is
    #: too short is left out.
    steps_per_epoch: int | None = None
    #: Random tensors that a step needs, by name and shape. They are standard normal, drawn by the
    #: engine from the run's seed, the epoch and the step.
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
