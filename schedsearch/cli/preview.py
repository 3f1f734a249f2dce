"""`schedsearch preview`: sampled schedules of a space, in the terminal and as a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from schedsearch.cli.app import AsJson, SpaceFile, app
from schedsearch.cli.output import columns, echo, say
from schedsearch.errors import InputError


@app.command()
def preview(
    file: SpaceFile,
    count: Annotated[
        int, typer.Option(help="Sampled schedules per hyperparameter.", min=1, max=1000)
    ] = 20,
    seed: Annotated[
        int, typer.Option(help="Seed of the samples and of the synthetic training curve.")
    ] = 0,
    png: Annotated[
        Path | None, typer.Option(help="Also draw them as this picture.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Draw sampled schedules of a space, or those of a config.

    Closed-loop schedules are drawn against a synthetic training curve. A table has the values of
    one schedule of each family, and --json all values of all schedules.
    """
    from schedsearch.report.preview import sample_preview
    from schedsearch.report.preview_text import preview_lines
    from schedsearch.report.progress import spinner
    from schedsearch.space import Space
    from schedsearch.space.unused_settings import unused_setting_warnings

    if png is not None and png.suffix != ".png":
        raise InputError(f"{png}: the name must end in .png")
    space = Space.load(file)
    try:
        with spinner("sampling the space"):
            sampled = sample_preview(space, count, seed)
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
    if not sampled.curves:
        raise InputError(f"{file}: the file has no schedule: give a hyperparameter `families`")
    if as_json:
        echo(json.dumps(sampled.to_json(), allow_nan=False))
    else:
        for line in preview_lines(sampled, columns()):
            echo(line)
    for warning in unused_setting_warnings(space):
        say(f"warning: {warning}")
    if png is not None:
        from schedsearch.files import write_atomically
        from schedsearch.report.matplotlib_import import import_matplotlib

        import_matplotlib()
        from schedsearch.report.pictures import draw_preview, image

        title = f"{space.name}: " + ("its plan" if space.is_config else f"{count} sampled plans")
        with spinner(f"drawing {png}"):
            content = image(draw_preview(sampled, title), "png")
        write_atomically(png, content)
        say(f"wrote {png}")
