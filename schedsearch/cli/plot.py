"""`schedsearch plot`: a study, a trial, a confirmation, or a config, as a picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from schedsearch.cli.app import app
from schedsearch.cli.output import say
from schedsearch.cli.storage import DEFAULT_STORAGE, Storage, study_at, study_names
from schedsearch.errors import InputError, StudyError

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from optuna.trial import FrozenTrial

    from schedsearch.storage import StudyHandle

_CONFIGS = (".toml", ".yaml", ".yml", ".json")


@app.command()
def plot(
    what: Annotated[
        str,
        typer.Argument(
            help="STUDY, STUDY/NUMBER (a trial), STUDY/best (the one that `export` takes), "
            "STUDY/confirmation, or the file of a config.",
            show_default=False,
            autocompletion=study_names,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Where to: .png or .svg.", show_default=False),
    ] = None,
    attach: Annotated[
        bool, typer.Option("--attach", help="Show the trial's picture in the dashboard.")
    ] = False,
    storage: Storage = DEFAULT_STORAGE,
) -> None:
    """Draw a study, a trial, a confirmation or a config.

    A study: its best so far against the best constant, its families, and which parameters matter.
    A trial: its schedules, its validation metric and loss terms, and the best constant.
    A confirmation: each schedule's differences to the constants. A config: its schedules; those
    that follow the training follow a made-up one.
    """
    if output is None and not attach:
        raise InputError("say where to: -o FILE.png, -o FILE.svg, or --attach for the dashboard")
    if attach:
        _attach(what, storage)
    if output is not None:
        _write(what, output, storage)


def _attach(what: str, storage: str) -> None:
    from schedsearch.report.dashboard_artifacts import DashboardArtifacts

    name, _, part = what.partition("/")
    if not (part.isdecimal() or part == "best"):
        raise InputError(
            f"--attach needs a trial, but got {what}: write STUDY/NUMBER or STUDY/best"
        )
    study = study_at(storage, name)
    trial = _chosen(study, None if part == "best" else int(part))
    DashboardArtifacts(study).attach(trial)
    say(f"trial {trial.number} of {study.name} shows its picture in the dashboard")


def _write(what: str, output: Path, storage: str) -> None:
    from schedsearch.files import write_atomically
    from schedsearch.report.pictures import image

    if output.suffix not in (".png", ".svg"):
        raise InputError(f"{output}: the name must end in .png or .svg")
    if Path(what).suffix in _CONFIGS:
        figure, drawn = _config(Path(what))
    else:
        name, _, part = what.partition("/")
        figure, drawn = _part(part)(study_at(storage, name))
    write_atomically(output, image(figure, output.suffix.removeprefix(".")))
    say(f"{output}: {drawn}")


def _part(part: str) -> Callable[[StudyHandle], tuple[Figure, str]]:
    """Return what draws a study, or that part of it that stands behind the slash."""
    if part.isdecimal():
        return lambda study: _trial(study, int(part))
    known = {"": _study, "best": _trial, "confirmation": _confirmation}
    if part not in known:
        raise InputError(
            f"{part} is no part of a study: write STUDY/NUMBER, STUDY/best or STUDY/confirmation"
        )
    return known[part]


def _study(study: StudyHandle) -> tuple[Figure, str]:
    from schedsearch.report.pictures import draw_study

    return draw_study(study.space, study.trials()), f"study {study.name}"


def _chosen(study: StudyHandle, number: int | None) -> FrozenTrial:
    from schedsearch.export import best_trial

    return best_trial(study) if number is None else study.trial(number)


def _trial(study: StudyHandle, number: int | None = None) -> tuple[Figure, str]:
    from schedsearch.report.pictures import draw_trial

    trial = _chosen(study, number)
    constant = next(iter(study.complete(constant=True)), None)
    return draw_trial(study.space, trial, constant), f"trial {trial.number} of {study.name}"


def _confirmation(study: StudyHandle) -> tuple[Figure, str]:
    from schedsearch.confirmation.study import confirmation_result
    from schedsearch.report.pictures import draw_confirmation

    result = confirmation_result(study)
    if result is None:
        raise StudyError(
            f"study {study.name} has no confirmation yet: "
            f"`schedsearch confirm {study.name}` makes one"
        )
    return draw_confirmation(study.name, result), f"the confirmation of {study.name}"


def _config(file: Path) -> tuple[Figure, str]:
    from schedsearch.report.pictures import draw_preview
    from schedsearch.report.preview import sample
    from schedsearch.space import Space

    space = Space.load(file)
    if not space.is_config:
        raise InputError(
            f"{file}: something is left to choose in {', '.join(space.searched())}: "
            f"`schedsearch preview {file} --png FILE` draws samples of a space"
        )
    sampled = sample(space, 1, 0)
    if not sampled.curves:
        raise InputError(f"{file}: the file moves no hyperparameter")
    return draw_preview(sampled, f"{space.name}: its plan"), f"the plan of {file}"
