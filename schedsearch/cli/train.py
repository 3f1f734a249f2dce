"""`schedsearch train`: train with a config, from scratch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from schedsearch.cli.app import AsJson, NoReuse, app
from schedsearch.cli.output import say
from schedsearch.cli.storage import DEFAULT_STORAGE, Storage
from schedsearch.cli.trust import TrustTask, require_trust
from schedsearch.errors import InputError, SchedSearchError

if TYPE_CHECKING:
    from schedsearch.reproduction import ConfigTrainer, TrainedRun
    from schedsearch.space import Space
    from schedsearch.trajectories import TrajectoryStore


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
    """Train with a config exactly as its trial was trained, and save the model.

    Epochs that are cached in the storage are not trained again, unless --no-reuse is given. The
    command reports whether it reproduced the value that the config records. With `--seed all` it
    trains every seed of the trial, and each model's file name contains the seed.
    """
    if output is not None:
        _check_output(output)
    from schedsearch.reproduction import ConfigTrainer, to_json
    from schedsearch.space import Space

    space = Space.load(config)
    if not space.is_config:
        raise InputError(
            f"{config}: this is a space, since {', '.join(space.searched())} can take several "
            f"values: search it with `schedsearch start {config}`, then write a config with "
            "`schedsearch export`"
        )
    require_trust(space.task, trusted=trust_task)
    trainer = ConfigTrainer(space, None if no_reuse else _store(storage))
    if differences := "; ".join(trainer.differences):
        say(f"warning: the numbers may differ from the recorded ones: {differences}")
    runs = [_train(trainer, number) for number in _seeds(seed, trainer)]
    for run in runs:
        _save(run, trainer.space, output, several=len(runs) > 1)
    if as_json:
        typer.echo(json.dumps(to_json(runs, trainer), allow_nan=False))
    else:
        for run in runs:
            typer.echo("\n".join(_lines(run)))
    for run in runs:
        _say_reproduced(run)
    if diverged := [run for run in runs if run.diverged]:
        epochs = ", ".join(f"{run.epoch} (seed {run.seed})" for run in diverged)
        raise SchedSearchError(f"the training diverged in epoch {epochs}")


def _store(url: str) -> TrajectoryStore | None:
    """Return the cached trajectories; None if the storage is the default one and missing."""
    from schedsearch.cli.storage import database_at
    from schedsearch.errors import StorageError
    from schedsearch.trajectories import open_store

    try:
        return open_store(database_at(url), say)
    except StorageError:
        if url == DEFAULT_STORAGE:
            return None
        raise


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


def _save(run: TrainedRun, space: Space, output: Path | None, *, several: bool) -> None:
    from schedsearch.files import write_atomically
    from schedsearch.reproduction import model_bytes

    if output is None or run.diverged:
        return
    path = output.with_suffix(f".{run.seed}{output.suffix}") if several else output
    content = model_bytes(run, space)
    if content is None:
        say(
            f"warning: {path} was not written: the training loop passes no tensors to "
            "run.checkpoint, so there is no model"
        )
        return
    write_atomically(path, content)
    say(f"wrote {path}: the model after epoch {run.epoch}")


def _lines(run: TrainedRun) -> list[str]:
    """Return the metrics of a run, with all digits."""
    metrics = {**run.validation, **run.test}
    return [f"seed {run.seed}", *(f"  {name} {value!r}" for name, value in metrics.items())]


def _say_reproduced(run: TrainedRun) -> None:
    cached = "" if run.epochs_trained else " (from the cache; --no-reuse trains it again)"
    if run.reproduced is None:
        if cached:
            say(f"seed {run.seed}: {run.value!r}{cached}")
    elif run.reproduced:
        say(f"seed {run.seed}: reproduced the recorded value {run.recorded!r} exactly{cached}")
    else:
        say(
            f"seed {run.seed}: did not reproduce the recorded value {run.recorded!r}: got "
            f"{run.value!r}{cached}"
        )
