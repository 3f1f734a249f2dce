"""`schedsearch plot`: a trial's schedules and its learning curve, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from schedsearch.cli.app import DEFAULT_STORAGE, Storage, StorageFile, app, say
from schedsearch.cli.completion import Study
from schedsearch.cli.opening import study as opened
from schedsearch.errors import InputError


@app.command()
def plot(
    study: Study,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Where to: .png or .svg.", show_default=False)
    ],
    trial: Annotated[
        int | None, typer.Option(help="Default: as `export`.", show_default=False)
    ] = None,
    storage: Storage = DEFAULT_STORAGE,
    storage_file: StorageFile = None,
) -> None:
    """Draw a trial: its schedules, its validation metric and loss terms, and the best constant."""
    if output.suffix not in (".png", ".svg"):
        raise InputError(f"{output}: the name must end in .png or .svg")
    from schedsearch.export import best_trial
    from schedsearch.files import write_whole
    from schedsearch.report.pictures import draw_trial, image

    handle = opened(storage, study)
    chosen = best_trial(handle) if trial is None else handle.trial(trial)
    content = image(draw_trial(handle, chosen), output.suffix.removeprefix("."))
    write_whole(output, content)
    say(f"{output}: trial {chosen.number} of {handle.name}")
