"""`schedsearch plot`: a study, a trial, a confirmation, an explanation, or a config."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from schedsearch.cli.app import app
from schedsearch.cli.output import say
from schedsearch.cli.storage import DEFAULT_STORAGE, Storage, complete_study_name, study_at
from schedsearch.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CONFIGS = (".toml", ".yaml", ".yml", ".json")


@app.command()
def plot(
    what: Annotated[
        str,
        typer.Argument(
            help="STUDY, STUDY/NUMBER (a trial), STUDY/best (the trial that `export` writes), "
            "STUDY/confirmation, STUDY/explanation, or the file of a config.",
            show_default=False,
            autocompletion=complete_study_name,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write this .png or .svg file.", show_default=False),
    ] = None,
    attach: Annotated[
        bool, typer.Option("--attach", help="Add the trial's picture to the dashboard.")
    ] = False,
    storage: Storage = DEFAULT_STORAGE,
) -> None:
    """Draw a study, a trial, a result or a config.

    A study: its best value so far, its families, and the importance of each parameter.
    A trial: its schedules, its validation metric and its loss terms, beside the best constant.
    A confirmation: the differences between each schedule and the constants.
    An explanation: the differences between a plan and its variants, and the paths of its schedules.
    A config: its schedules; closed-loop ones are drawn against a synthetic training curve.
    """
    if output is None and not attach:
        raise InputError("no output: give -o FILE.png, -o FILE.svg, or --attach for the dashboard")
    from schedsearch.report.matplotlib_import import import_matplotlib

    import_matplotlib()
    if attach:
        _attach(what, storage)
    if output is not None:
        _write(what, output, storage)


def _attach(what: str, storage: str) -> None:
    from schedsearch.export import best_trial
    from schedsearch.report.dashboard_artifacts import DashboardArtifacts

    name, _, part = what.partition("/")
    if not (part.isdecimal() or part == "best"):
        raise InputError(f"--attach needs a trial, but got {what}: give STUDY/NUMBER or STUDY/best")
    study = study_at(storage, name)
    trial = best_trial(study) if part == "best" else study.trial(int(part))
    DashboardArtifacts(study).attach(trial)
    say(f"added the picture of trial {trial.number} of {study.name} to the dashboard")


def _write(what: str, output: Path, storage: str) -> None:
    from schedsearch.files import write_atomically
    from schedsearch.report.drawings import draw_part
    from schedsearch.report.pictures import image

    if output.suffix not in (".png", ".svg"):
        raise InputError(f"{output}: the name must end in .png or .svg")
    if Path(what).suffix in _CONFIGS:
        figure, description = _draw_config(Path(what))
    else:
        name, _, part = what.partition("/")
        figure, description = draw_part(study_at(storage, name), part)
    write_atomically(output, image(figure, output.suffix.removeprefix(".")))
    say(f"wrote {output}: {description}")


def _draw_config(file: Path) -> tuple[Figure, str]:
    from schedsearch.report.pictures import draw_preview
    from schedsearch.report.preview import sample_preview
    from schedsearch.space import Space

    space = Space.load(file)
    if not space.is_config:
        raise InputError(
            f"{file}: this is a space, since {', '.join(space.choices)} can take several "
            f"values: draw samples of it with `schedsearch preview {file} --png FILE`"
        )
    sampled = sample_preview(space, 1, 0)
    if not sampled.curves:
        raise InputError(f"{file}: the file has no schedule: give a hyperparameter `families`")
    return draw_preview(sampled, f"{space.name}: its plan"), f"the plan of {file}"
