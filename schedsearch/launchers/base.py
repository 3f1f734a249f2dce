"""Where workers run: what each place has to offer, and what a supervisor asks of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from schedsearch.task import TRUST_VARIABLE


@dataclass(frozen=True)
class Assignment:
    """What a worker is started with, wherever that is.

    Attributes:
        name: of the worker, among all workers that ever were.
        arguments: of `schedsearch worker`, but for what the place adds.
        storage: the database's URL. It goes by the environment: a command line is for everybody to
            read, and this may hold a password.
    """

    name: str
    arguments: tuple[str, ...]
    storage: str

    @property
    def environment(self) -> dict[str, str]:
        """The variables that the worker is given: who starts it has let the task's code run."""
        return {"SCHEDSEARCH_STORAGE": self.storage, TRUST_VARIABLE: "1"}

    def command(self, python: str, parent: int) -> Sequence[str]:
        """Return the command line; the worker stops when the process `parent` is gone."""
        worker = (python, "-m", "schedsearch", "worker", *self.arguments)
        return (*worker, "--name", self.name, "--parent", str(parent), "--quiet")


@dataclass(frozen=True)
class WorkerExit:
    """How a worker ended.

    Attributes:
        code: what it exited with.
        killed_by: what ended it, if that was not the worker itself.
    """

    code: int
    killed_by: str | None = None


class WorkerProcess(Protocol):
    """One worker, from when it was asked for until it has ended."""

    def poll(self) -> WorkerExit | None:
        """Return how the worker ended, all that it said heard; None if it has not."""
        ...

    def stop(self) -> None:
        """Ask the worker to stop after the epoch, if it has not ended."""
        ...

    def kill(self) -> None:
        """End the worker with all that it started, and return when it is gone."""
        ...


class Launcher(Protocol):
    """A place where workers can be started."""

    def launch(self, assignment: Assignment, on_line: Callable[[str], None]) -> WorkerProcess:
        """Start a worker; `hear` is called with each line that it says, from any thread."""
        ...
