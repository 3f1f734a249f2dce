"""`schedsearch train`: train once with a config, from scratch."""

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
    from schedsearch.reproduction import Config, TrainedRun
    from schedsearch.trajectories import TrajectoryStore


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="A config.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Save the model: .safetensors.", show_default=False),
    ] = None,
    seed: Annotated[
        str | None,
        typer.Option(
            help="A whole number, or `all` of the trial's. Default: the trial's first.",
            show_default=False,
        ),
    ] = None,
    no_reuse: NoReuse = False,
    trust_task: TrustTask = False,
    storage: Storage = DEFAULT_STORAGE,
    as_json: AsJson = False,
) -> None:
    """Train with a config as its trial was trained, and save the model.

    Epochs that the storage knows already, if there is one, are not trained again, unless with
    --no-reuse. Says whether the value that the config records came out again. With `--seed all`,
    trains every seed of the trial, and puts the seed before the model's suffix.
    """
    if output is not None:
        _check_output(output)
    from schedsearch.reproduction import Config, to_json
    from schedsearch.space import Space

    space = Space.load(config)
    if not space.is_config:
        raise InputError(
            f"{config}: something is left to choose in {', '.join(space.searched())}: "
            f"`schedsearch start {config}` searches, and `schedsearch export` writes a config"
        )
    require_trust(space.task, trusted=trust_task)
    loaded = Config(space, None if no_reuse else _store(storage))
    if loaded.differences:
        say(f"warning: numbers may differ from the config's: {'; '.join(loaded.differences)}")
    runs = [_train(loaded, number) for number in _seeds(seed, loaded)]
    for run in runs:
        _save(run, loaded, output, several=len(runs) > 1)
    if as_json:
        typer.echo(json.dumps(to_json(runs, loaded), allow_nan=False))
    else:
        for run in runs:
            typer.echo("\n".join(_lines(run)))
    for run in runs:
        _say_reproduced(run)
    if diverged := [run for run in runs if run.diverged]:
        epochs = ", ".join(f"{run.epoch} (seed {run.seed})" for run in diverged)
        raise SchedSearchError(f"the training diverged in epoch {epochs}")


def _store(url: str) -> TrajectoryStore | None:
    """Return what a storage knows; None where there is none by default."""
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
    """Refuse, before the training, a file that could not be written after it."""
    if path.suffix != ".safetensors":
        raise InputError(f"{path}: the name must end in .safetensors")
    if not path.parent.is_dir():
        raise InputError(f"{path}: cannot be written: there is no folder {path.parent}")
    if path.is_dir():
        raise InputError(f"{path}: cannot be written: it is a folder")


def _seeds(given: str | None, config: Config) -> list[int]:
    if given is None:
        return config.seeds[:1]
    if given == "all":
        return config.seeds
    if not given.isdecimal():
        raise InputError(f"--seed is {given!r}, but must be a whole number of at least 0, or `all`")
    return [int(given)]


def _train(config: Config, seed: int) -> TrainedRun:
    from schedsearch.report.progress import Progress

    name, horizon = config.space.objective.metric, config.space.horizon
    with Progress("epochs") as progress:
        return config.train(
            seed, lambda run: progress.count(run.epochs, horizon, f"{name} {run.metric:.5g}")
        )


def _save(run: TrainedRun, config: Config, output: Path | None, *, several: bool) -> None:
    from schedsearch.files import write_atomically
    from schedsearch.reproduction import model_bytes

    if output is None or run.diverged:
        return
    path = output.with_suffix(f".{run.seed}{output.suffix}") if several else output
    content = model_bytes(run, config.space)
    if content is None:
        say(
            f"warning: {path} was not written: the loop gives no tensors to run.checkpoint, so "
            "no model"
        )
        return
    write_atomically(path, content)
    say(f"{path}: the model after epoch {run.epoch}")


def _lines(run: TrainedRun) -> list[str]:
    """Return the metrics of a run, to the last digit."""
    metrics = {**run.validation, **run.test}
    return [f"seed {run.seed}", *(f"  {name} {value!r}" for name, value in metrics.items())]


def _say_reproduced(run: TrainedRun) -> None:
    known = "" if run.trained else " (it was known: --no-reuse trains it again)"
    if run.reproduced is None:
        if known:
            say(f"seed {run.seed}: {run.value!r}{known}")
    elif run.reproduced:
        say(f"seed {run.seed}: its recorded value {run.recorded!r} came out again, exactly{known}")
    else:
        recorded = f"the config records {run.recorded!r} of it"
        say(f"seed {run.seed}: {recorded}, here it is {run.value!r}{known}")
