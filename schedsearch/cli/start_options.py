"""The options of `schedsearch start`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from schedsearch.cli.storage import warn_of_password
from schedsearch.cli.usage_errors import problem_of_option
from schedsearch.cores import MAX_THREADS
from schedsearch.errors import FileError, InputError

if TYPE_CHECKING:
    from schedsearch.preparation import ComputeOptions


Space = Annotated[
    Path,
    typer.Argument(help="A space file; with --horizon the name of a study.", show_default=False),
]
Workers = Annotated[
    int | None,
    typer.Option(
        help="How many workers to run; 0 only creates the study; default: as many as the cores "
        "hold, at most one for each 10 trials that are left, and 1 for a training loop, on a GPU, "
        "and with --on ray.",
        min=0,
        show_default=False,
    ),
]
Also = Annotated[
    list[Path] | None,
    typer.Option(
        help="Add the plan of this config as a trial; may be given several times.",
        show_default=False,
    ),
]


def _warn_of_password_in(context: typer.Context, url: str | None) -> str | None:
    source = context.get_parameter_source("from_storage")
    if url is not None and source is not None and source.name == "COMMANDLINE":
        warn_of_password(url, "--from-storage", _FROM_STORAGE_VARIABLE)
        context.meta[_IS_STORAGE_GIVEN] = True
    return url


def _refuse_storage_alone(context: typer.Context, studies: str | None) -> str | None:
    # An option that is not given comes last. The variable may be set for all commands of a shell.
    if studies is None and _IS_STORAGE_GIVEN in context.meta:
        raise InputError(
            "--from-storage is the database of the studies of --from: give --from STUDY too, or "
            "leave it out"
        )
    return studies


#: Where a context records that --from-storage is on the command line.
_IS_STORAGE_GIVEN = "schedsearch.from_storage"
#: The environment variable with the URL of the database of the earlier studies.
_FROM_STORAGE_VARIABLE = "SCHEDSEARCH_FROM_STORAGE"


@dataclass(frozen=True)
class EarlierOptions:
    """The studies that a new one begins from."""

    from_studies: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="<study,...>",
            callback=_refuse_storage_alone,
            help="Begin from earlier studies: their best plans and results.",
            show_default=False,
        ),
    ] = None
    from_storage: Annotated[
        str | None,
        typer.Option(
            envvar=_FROM_STORAGE_VARIABLE,
            callback=_warn_of_password_in,
            help="Database URL of the studies of --from; default: that of the study.",
            show_default=False,
        ),
    ] = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the studies.

        Raises:
            InputError: the option names none.
        """
        if self.from_studies is None:
            return ()
        names = [name.strip() for name in self.from_studies.split(",") if name.strip()]
        if not names:
            raise InputError("--from names no study: give one or more, such as --from first,second")
        return tuple(dict.fromkeys(names))

    def refuse(self) -> None:
        """Refuse earlier studies where a study is extended."""
        if self.from_studies is not None:
            raise InputError("--horizon continues the plans of the study: leave out --from")


AcceptTask = Annotated[
    bool,
    typer.Option(
        "--accept-task",
        help="The task changed, but it is the same training: continue the study with it.",
    ),
]


#: The option of each key of a space file that an option can override.
_OPTIONS = {
    "name": "study",
    "search.trials": "trials",
    "search.epochs": "epochs",
    "search.epoch_timeout": "epoch_timeout",
    "search.seed": "seed",
    "search.seeds": "seeds",
    "search.sampler.name": "sampler",
    "search.pruner.name": "pruner",
    "search.pruner.audit": "audit",
    "search.pruner.protected": "protected",
    "search.race.top": "race",
}


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


@dataclass(frozen=True)
class SearchOptions:
    """The settings of the study: each option overrides one of the space file."""

    trials: Annotated[
        int | None, typer.Option(help="Total number of trials, trial 0 included.", min=1)
    ] = None
    epochs: Annotated[
        int | None,
        typer.Option(help="Largest number of epochs that all trials together may report.", min=1),
    ] = None
    study: Annotated[str | None, typer.Option(help="Name of the study.")] = None
    sampler: Annotated[
        str | None, typer.Option(help="forecast, tpe, random, grid, pbt, gp, cmaes or qmc.")
    ] = None
    pruner: Annotated[
        str | None, typer.Option(help="forecast, asha, hyperband, median, patient or none.")
    ] = None
    audit: Annotated[
        float | None,
        typer.Option(help="Share of schedules that are never pruned, to audit the pruner."),
    ] = None
    protected: Annotated[
        str | None,
        typer.Option(help="First epochs without pruning: a number, or a share such as 20%."),
    ] = None
    race: Annotated[
        int | None,
        typer.Option(help="How many of the best schedules get further seeds; 0: no race."),
    ] = None
    seed: Annotated[int | None, typer.Option(help="First seed of the trainings.")] = None
    seeds: Annotated[int | None, typer.Option(help="Seeds per trial.")] = None
    epoch_timeout: Annotated[
        float | None, typer.Option(help="Seconds that an epoch may take before its trial fails.")
    ] = None

    def overrides(self) -> Mapping[str, Any]:
        """Return the settings by their keys in a space file; None where an option is not given."""
        protected = self.protected
        found = {key: getattr(self, name) for key, name in _OPTIONS.items()}
        if protected and protected.isdecimal():
            found["search.pruner.protected"] = int(protected)
        return found

    @contextmanager
    def named_in_errors(self) -> Iterator[None]:
        """Name the option instead of the file and its key where an option gave a wrong value."""
        try:
            yield
        except FileError as error:
            given = {key for key, value in self.overrides().items() if value is not None}
            lines = [
                problem_of_option(_flag(_OPTIONS[problem.key]), problem)
                for problem in error.problems
                if problem.key in given
            ]
            if not lines:
                raise
            for problem in error.problems:
                if problem.key not in given:
                    lines.append(f"{error.file}: {problem}")
            raise InputError("\nerror: ".join(lines)) from error

    def refuse_any(self) -> None:
        """Refuse all of them, where a study takes its settings from another study."""
        given = [field.name for field in fields(self) if getattr(self, field.name) is not None]
        if given:
            flags = ", ".join(map(_flag, given))
            raise InputError(f"--horizon continues a study with its settings: leave out {flags}")


@dataclass(frozen=True)
class ExtensionOptions:
    """How a study is extended: its best plans continue for more epochs."""

    horizon: Annotated[
        int | None,
        typer.Option(
            help="Extend a study: continue its best plans for so many epochs, as STUDY@EPOCHS."
        ),
    ] = None
    top: Annotated[int, typer.Option(help="With --horizon: how many plans.", min=1)] = 20
    stretch: Annotated[
        bool,
        typer.Option("--stretch", help="With --horizon: durations stay shares of the horizon."),
    ] = False


@dataclass(frozen=True)
class TrainingOptions:
    """How the trials are trained."""

    threads: Annotated[
        str, typer.Option(help="Threads of each worker: a number, or auto, which measures it.")
    ] = "auto"
    lanes: Annotated[
        str, typer.Option(help="Runs in one batched step of a worker: a number, or auto.")
    ] = "auto"
    device: Annotated[str, typer.Option(help="Where to train, as torch names it.")] = "cpu"
    tf32: Annotated[bool, typer.Option("--tf32", help="Let a GPU multiply matrices in TF32.")] = (
        False
    )
    autocast: Annotated[
        bool, typer.Option("--autocast", help="Let the models compute in bfloat16.")
    ] = False

    processes_per_trial: Annotated[
        int,
        typer.Option(help="Processes that train each trial together, by torch.distributed.", min=1),
    ] = 1

    def setup(self) -> ComputeOptions:
        """Return the setup for one worker."""
        from schedsearch.preparation import ComputeOptions

        return ComputeOptions(
            threads=self.given_threads,
            lanes=_number_or_auto("--lanes", self.lanes),
            device=self.device,
            tf32=self.tf32,
            autocast=self.autocast,
            processes=self.processes_per_trial,
        )

    @property
    def given_threads(self) -> int | None:
        """The number of threads that the user asks for; None: the best number."""
        return _number_or_auto("--threads", self.threads, most=MAX_THREADS)


def _number_or_auto(option: str, text: str, most: int | None = None) -> int | None:
    """Return the number of an option; None for auto."""
    if text == "auto":
        return None
    if text.isdecimal() and 1 <= int(text) <= (most or int(text)):
        return int(text)
    limit = "of at least 1" if most is None else f"from 1 to {most}"
    raise InputError(f"{option} is {text!r}, but must be a whole number {limit}, or auto")
