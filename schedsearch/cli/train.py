"""`schedsearch train`: train with a config, from scratch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from schedsearch.cli.app import AsJson, NoReuse, app
from schedsearch.cli.output import echo, say
from schedsearch.cli.ranks import follow_other_rank
from schedsearch.cli.storage import DEFAULT_STORAGE, Storage
from schedsearch.cli.trust import TrustTask, require_trust
from schedsearch.errors import InputError, SchedSearchError
from schedsearch.printable import describe_stop

if TYPE_CHECKING:
    from schedsearch.ranks.rank_group import RankGroup
    from schedsearch.reproduction import ConfigTrainer, TrainedRun
    from schedsearch.space import Space
    from schedsearch.storage import Database, StudyHandle


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="A config.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Save the model to this .safetensors file.", show_default=False
        ),
    ] = None,
    seed: Annotated[
        str | None,
        typer.Option(
            help="A whole number, or `all` for all seeds of the trial. Default: the first of them.",
            show_default=False,
        ),
    ] = None,
    no_reuse: NoReuse = False,
    trust_task: TrustTask = False,
    storage: Storage = DEFAULT_STORAGE,
    as_json: AsJson = False,
) -> None:
    """Train with a config exactly as its trial was trained.

    As many processes as trained the trial train together. With --output the model is saved. Epochs
    that are cached in the storage are not trained again, but read from this record, unless
    --no-reuse is given. If it trained all epochs, the command reports whether it reproduced the
    value that the config records. With `--seed all` it trains every seed of the trial, and each
    model's file name contains the seed.
    """
    follow_other_rank()
    if output is not None:
        _check_output(output)
    folder = Path.cwd()  # the task may change the current folder
    space = _load_config(config)
    require_trust(space.task, trusted=trust_task)
    from schedsearch.ranks.rank_group import rank_group
    from schedsearch.space.recorded_numerics import recorded_processes

    with rank_group(recorded_processes(space.document.numerics), space.name) as group:
        trainer = _make_trainer(space, config, storage, reuse=not no_reuse, group=group)
        if differences := "; ".join(trainer.differences):
            say(f"warning: the numbers may differ from the recorded ones: {differences}")
        runs = [_train(trainer, number) for number in _seeds(seed, trainer)]
    saved = [_save(run, trainer.space, output, folder, several=len(runs) > 1) for run in runs]
    _print_result(runs, trainer, as_json=as_json)
    if seed is None:
        _say_other_seeds(trainer)
    if diverged := [run for run in runs if run.diverged]:
        epochs = ", ".join(f"{run.epoch} (seed {run.seed})" for run in diverged)
        raise SchedSearchError(f"the training diverged in epoch {epochs}")
    if not all(saved):
        raise SchedSearchError(
            f"{output} was not written: the training loop passes no tensors to run.checkpoint, so "
            "there is no model"
        )


def _load_config(file: Path) -> Space:
    """Read a config; refuse a space."""
    from schedsearch.space import Space
    from schedsearch.space.cut_phases import cut_phase_warnings

    space = Space.load(file)
    if not space.is_config:
        raise InputError(
            f"{file}: this is a space, since {', '.join(space.choices)} can take several "
            f"values: search it with `schedsearch start {file}`, then write a config with "
            "`schedsearch export`"
        )
    for line in cut_phase_warnings(space):
        say(f"warning: {file}: {line}")
    return space


def _make_trainer(
    space: Space, file: Path, storage: str, *, reuse: bool, group: RankGroup | None
) -> ConfigTrainer:
    """Return the trainer of a config, with the cache and the study that the storage has."""
    from schedsearch.reproduction import ConfigTrainer
    from schedsearch.trajectories import open_store

    database = _database(storage, required=reuse)
    store = None if database is None or not reuse else open_store(database, say)
    return ConfigTrainer(space, store, _study_of(space, database), file, group)


def _database(url: str, *, required: bool) -> Database | None:
    """Open the database; return None if it cannot be opened and is not required.

    A default database that is missing is never required.
    """
    from schedsearch.cli.storage import database_at
    from schedsearch.errors import StorageError

    try:
        return database_at(url)
    except StorageError:
        if required and url != DEFAULT_STORAGE:
            raise
        return None


def _study_of(space: Space, database: Database | None) -> StudyHandle | None:
    """Return the study that a config was exported from, if the database has it."""
    from schedsearch.storage import find_study

    if database is None:
        return None
    try:
        return find_study(database, str(space.document.source.get("study")))
    except SchedSearchError:
        return None  # a study of another program


def _check_output(path: Path) -> None:
    """Refuse a file that cannot be written, before any training."""
    if path.suffix != ".safetensors":
        raise InputError(f"{path}: the name must end in .safetensors")
    if not path.parent.is_dir():
        raise InputError(f"{path}: cannot be written: there is no folder {path.parent}")
    if path.is_dir():
        raise InputError(f"{path}: cannot be written: it is a folder")


def _seeds(given: str | None, trainer: ConfigTrainer) -> list[int]:
    if given is None:
        return trainer.seeds[:1]
    if given == "all":
        return trainer.seeds
    if not given.isdecimal():
        raise InputError(f"--seed is {given!r}, but must be a whole number of at least 0, or `all`")
    return [int(given)]


def _train(trainer: ConfigTrainer, seed: int) -> TrainedRun:
    from schedsearch.report.progress import Progress

    metric, horizon = trainer.space.objective.metric, trainer.space.horizon
    with Progress("epochs") as progress:
        return trainer.train(
            seed, lambda run: progress.count(run.epochs, horizon, f"{metric} {run.metric:.5g}")
        )


def _save(
    run: TrainedRun, space: Space, output: Path | None, folder: Path, *, several: bool
) -> bool:
    """Save the model of a run if the user asked for it; return whether there is one to save."""
    from schedsearch.files import write_atomically
    from schedsearch.reproduction import model_bytes

    if output is None or run.diverged:
        return True
    path = output.with_suffix(f".{run.seed}{output.suffix}") if several else output
    content = model_bytes(run, space)
    if content is None:
        return False
    write_atomically(folder / path, content)
    say(f"wrote {path}: the model after epoch {run.epoch}")
    return True


def _print_result(runs: list[TrainedRun], trainer: ConfigTrainer, *, as_json: bool) -> None:
    """Print the metrics of each run, and say whether it reproduced the recorded value."""
    from schedsearch.reproduction import to_json

    if as_json:
        echo(json.dumps(to_json(runs, trainer), allow_nan=False))
    else:
        for run in runs:
            echo("\n".join(_lines(run)))
    for run in runs:
        _say_reproduced(run)


def _lines(run: TrainedRun) -> list[str]:
    """Return the metrics of a run, with all digits."""
    metrics = {**run.validation, **run.test}
    title = f"seed {run.seed}{describe_stop(run.stopped_after)}"
    return [title, *(f"  {name} {value!r}" for name, value in metrics.items())]


def _say_reproduced(run: TrainedRun) -> None:
    if run.epochs_read:
        say(f"seed {run.seed}: {_read_from_record(run)}; --no-reuse trains them again")
    elif run.reproduced:
        say(f"seed {run.seed}: reproduced the recorded value {run.recorded!r} exactly")
    elif run.recorded is not None:
        say(
            f"seed {run.seed}: did not reproduce the recorded value {run.recorded!r}: got "
            f"{run.value!r}"
        )


def _say_other_seeds(trainer: ConfigTrainer) -> None:
    """Say that `export` has named the mean of several seeds, of which one was trained."""
    first, *others = trainer.seeds
    source = trainer.space.document.source
    if others and source:
        say(
            f"seed {first} is the first of the trial's {1 + len(others)} seeds, whose mean "
            "`export` prints: --seed all trains each of them"
        )
    elif source.get("race", {}).get("seeds", 1) > 1:
        say(
            f"seed {first} is the only one of the trial: the mean that `export` prints is over all "
            "seeds with which the race trained its plan"
        )


def _read_from_record(run: TrainedRun) -> str:
    """Return which epochs were not trained, and when they were."""
    epochs = len(run.history.metrics)
    moment = "by version 0.1"
    if run.trained_at is not None:
        moment = f"on {run.trained_at:%Y-%m-%d at %H:%M:%S} UTC"
    compared = ""
    if run.recorded is not None:
        compared = ", the recorded one" if run.value == run.recorded else f", not {run.recorded!r}"
    return (
        f"{run.epochs_read} of {epochs} epochs were not trained but read from the record, where "
        f"they were written {moment} (value {run.value!r}{compared})"
    )
