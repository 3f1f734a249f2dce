"""The runs of a confirmation as data: what is to be trained, and what it gave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from schedsearch.errors import SchedSearchError


@dataclass(frozen=True)
class Recipe:
    """What all trainings have in common, as plain data that a new process can be given."""

    space: Mapping[str, Any]
    numerics: Mapping[str, Any]
    fingerprint: str
    #: A database of trajectories; None: every run trains every epoch, and nothing of it is kept.
    storage: str | None = field(repr=False)

    @property
    def lanes(self) -> int:
        """How many jobs a process trains side by side."""
        return int(self.numerics["lanes"])


@dataclass(frozen=True)
class Job:
    """One training: a plan as a config's tables, and a seed."""

    plan: Mapping[str, Any]
    seed: int


@dataclass(frozen=True)
class Outcome:
    """What a training gave; both metrics are NaN if it diverged.

    Attributes:
        validation: the objective's value.
        test: the objective's metric on the test split; None if the task gives none.
        epochs: the objective's metric by epoch.
        seconds: how long the runs took that trained side by side with it.
    """

    validation: float
    test: float | None
    epochs: tuple[float, ...] = field(default=(), compare=False)
    seconds: float = field(default=0.0, compare=False)


class StoppedError(SchedSearchError):
    """The trainings were asked to stop before all were done."""


def metric_on_test(metric: str) -> str:
    """Return the name under which a validation metric is measured on the test split.

    >>> metric_on_test("val_error"), metric_on_test("loss")
    ('test_error', 'test_loss')
    """
    return f"test_{metric.removeprefix('val_')}"
