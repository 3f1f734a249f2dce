"""Places where workers run: what each place offers, and what the supervisor asks of a worker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from schedsearch.task import TRUST_VARIABLE


@dataclass(frozen=True)
class WorkerSpec:
    """The options that a worker is started with, in every place.

    Attributes:
        name: unique among all workers that the study ever had.
        study: the name of the study.
        flags: of `schedsearch worker`; the place may add more.
        storage: the database's URL. It goes into the environment, since every user of a machine can
            read its command lines, and a URL may hold a password.
        folder: the current folder of the command that starts the workers; the task is imported
            from it.
    """

    name: str
    study: str
    flags: tuple[str, ...]
    storage: str
    folder: str

    @property
    def environment(self) -> dict[str, str]:
        """The worker's variables; the user has allowed the task's code when starting workers."""
        return {"SCHEDSEARCH_STORAGE": self.storage, TRUST_VARIABLE: "1"}

    def command(self, python: str, parent: int) -> Sequence[str]:
        """Return the command line; the worker stops when the process `parent` has ended."""
        worker = (python, "-m", "schedsearch", "worker", *self.flags, "--name", self.name)
        # After "--", a name that begins with a dash is no option.
        return (*worker, "--parent", str(parent), "--quiet", "--", self.study)


@dataclass(frozen=True)
class WorkerExit:
    """How a worker ended.

    Attributes:
        code: its exit code.
        killed_by: the signal or the failure that ended it from outside; None if it ended itself.
    """

    code: int
    killed_by: str | None = None


class WorkerProcess(Protocol):
    """One worker, from its launch to its end."""

    def poll(self) -> WorkerExit | None:
        """Return how the worker ended, after all its lines were delivered; None if it runs."""
        ...

    def stop(self) -> None:
        """Ask the worker to stop after the epoch, if it has not ended."""
        ...

    def kill(self) -> None:
        """End the worker with all its child processes, and return when they are gone."""
        ...


class Launcher(Protocol):
    """A place where workers can be started."""

    def prepare(self) -> None:
        """Start to load what workers need, beside what this process does."""
        ...

    def launch(self, spec: WorkerSpec, on_line: Callable[[str], None]) -> WorkerProcess:
        """Start a worker; `on_line` is called with each line of its output, from any thread."""
        ...
