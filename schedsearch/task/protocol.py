"""The Task protocol: data, model, loss terms and validation metrics of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from schedsearch.errors import TaskError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from typing_extensions import TypeIs

#: The hyperparameters of an optimizer; an undeclared one has the default of torch.
OPTIMIZER_HYPERPARAMETERS = ("lr", "weight_decay", "momentum")
OptimizerName: TypeAlias = Literal["sgd", "adam", "adamw"]
#: Tensors by name; the first dimension of each is the number of examples.
Examples: TypeAlias = "Mapping[str, Tensor]"


@dataclass(frozen=True)
class Splits:
    """The data of a task, in memory.

    Args:
        train: training examples: tensors by name, with the examples along the first dimension.
        validation: examples for the validation metrics, which the search optimises.
        test: held-out examples, used only to compare confirmed plans and never in a search.
    """

    train: Examples
    validation: Examples
    test: Examples


class Task(Protocol):
    """The data, model, loss terms and metrics of a training that schedsearch runs.

    `metrics` receives no hyperparameters, so a schedule cannot change how it is measured.
    """

    #: The name and the default of every value that the loss or the optimizer uses. `lr`,
    #: `weight_decay` and `momentum` (the first beta of Adam) are set in the optimizer;
    #: `weights.TERM` multiplies a loss term.
    hyperparameters: Mapping[str, float]
    #: `"sgd"`, `"adam"` or `"adamw"`: which of torch's optimizers trains the model.
    optimizer: OptimizerName
    #: Training examples per optimizer step.
    batch_size: int
    #: Optimizer steps per epoch, or None for one pass over the training data without an incomplete
    #: last batch.
    steps_per_epoch: int | None = None
    #: The names and shapes of the random tensors of a step. They are standard normal; the engine
    #: draws them from the seed of the run, the epoch and the step.
    noise: Mapping[str, tuple[int, ...]] = MappingProxyType({})
    #: The files and folders that the task reads, relative to the current folder. If one of them
    #: changes, results of before are not reused. What `data` returns for seed 0 needs no entry.
    data_files: Sequence[str | PathLike[str]] = ()
    #: The environment variables that the task reads, for the same purpose.
    environment: Sequence[str] = ()

    def data(self, seed: int) -> Splits:
        """Return the splits; training and validation data may depend on the seed, test data not."""
        ...

    def model(self, seed: int) -> nn.Module:
        """Return a new model whose initial parameters depend only on the seed."""
        ...

    def terms(
        self,
        model: nn.Module,
        batch: Examples,
        hp: Mapping[str, Tensor],
        noise: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        """Return the loss terms of a batch as 0-d tensors by name.

        The loss is the sum of `weights.TERM` times TERM; an undeclared weight is 1.

        Args:
            model: the model in training mode.
            batch: `batch_size` examples of the training split, by name.
            hp: the current value of each hyperparameter as a 0-d tensor.
            noise: standard normal tensors with the names and shapes of `noise`.
        """
        ...

    def metrics(self, model: nn.Module, split: Examples) -> dict[str, Tensor]:
        """Return the metrics of a whole split as 0-d tensors by name.

        Metric NAME is reported as `val_NAME` or `test_NAME`. Use float64 for fractions of examples:
        they are then exact.
        """
        ...


class TrainFunction(Protocol):
    """A training loop as a function `train(run)` with an attribute `hyperparameters`.

    It may also have the attributes `data_files` and `environment`, see `Task`, and `arguments`: the
    name and the default of everything that it reads from `run.arguments`.
    """

    #: The name and the default of every value that the loop reads from `hp`.
    hyperparameters: Mapping[str, float]

    def __call__(self, run: Any, /) -> object:
        """Train with `for epoch, hp in run`, and call `run.report(...)` once in each epoch."""
        ...


def is_train_function(task: Task | TrainFunction) -> TypeIs[TrainFunction]:
    """Return whether a task is a train function, that is a training loop."""
    return callable(task) and not hasattr(task, "terms")


def count_examples(split: Examples) -> int:
    """Return the number of examples of a split; 0 if it has no tensors.

    Raises:
        TaskError: the tensors have different lengths.
    """
    counts = {name: len(tensor) for name, tensor in split.items()}
    if len(set(counts.values())) > 1:
        raise TaskError(f"the tensors of a split must have the same length, not {counts}")
    return next(iter(counts.values()), 0)


def count_steps(task: Task, examples: int) -> int:
    """Return the number of optimizer steps in an epoch with this number of training examples.

    Raises:
        TaskError: there are fewer examples than the batch size.
    """
    steps = task.steps_per_epoch or examples // task.batch_size
    if not steps:
        raise TaskError(
            f"{type(task).__name__}: the batch_size is {task.batch_size}, but must be at most the "
            f"number of training examples, {examples}"
        )
    return steps
