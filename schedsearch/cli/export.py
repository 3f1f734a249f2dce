"""`schedsearch export`: a trial's plan as a config."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from schedsearch.cli.app import app
from schedsearch.cli.output import say
from schedsearch.cli.storage import DEFAULT_STORAGE, Storage, Study, study_at

if TYPE_CHECKING:
    from schedsearch.storage import StudyHandle


@app.command()
def export(
    study: Study,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Where to: .toml, .yaml or .json. Default: TOML on stdout.",
            show_default=False,
        ),
    ] = None,
    trial: Annotated[
        int | None,
        typer.Option(
            help="Default: the winner of `confirm`, else the best by validation.",
            show_default=False,
        ),
    ] = None,
    storage: Storage = DEFAULT_STORAGE,
) -> None:
    """Write the best schedule as a config that `train` and your own loop read."""
    import tomli_w

    from schedsearch.export import best_trial, complete_trial, trial_to_config
    from schedsearch.files import write_document

    handle = study_at(storage, study)
    chosen = best_trial(handle) if trial is None else complete_trial(handle, trial)
    content = trial_to_config(handle, chosen)
    if output is None:
        typer.echo(tomli_w.dumps(content), nl=False)
    else:
        write_document(output, content)
        say(f"{output}: {_described(content)}")
    _say_confirmed(handle, content["source"])


def _described(content: dict[str, Any]) -> str:
    source = content["source"]
    seeds = len(source["runs"])
    mean = f" (mean of {seeds} seeds)" if seeds > 1 else ""
    value = f"{source['metric']} {source['value']:.6g}{mean}"
    return f"trial {source['trial']} of {source['study']}, {value}"


def _say_confirmed(handle: StudyHandle, source: dict[str, Any]) -> None:
    """Say what is known of the plan beyond the search's own, optimistic, value."""
    evidence = source.get("confirmation")
    if evidence is None:
        say(
            f"not confirmed: its value is the search's own; `schedsearch confirm {handle.name}` "
            "tries it on fresh seeds"
        )
        return
    found = f"mean {evidence['metric']} {evidence['mean']:.4g} over {evidence['seeds']} fresh seeds"
    if "verdict" not in evidence:
        say(f"a constant: {found}")
    elif source["confirmed"]:
        say(f"confirmed better than the constants: {found}")
        _say_newer(handle)
    else:
        say(f"not confirmed, {evidence['verdict']}: {found}")


def _say_newer(handle: StudyHandle) -> None:
    """Say so if what was confirmed has not met the best of the study as it is now."""
    from schedsearch.confirmation.study import confirmation_result
    from schedsearch.confirmation.verdicts import not_confirmed

    best = [trial.number for kind in (False, True) for trial in handle.complete(constant=kind)[:1]]
    result = confirmation_result(handle)
    if result is not None and (since := not_confirmed(result, best)):
        say(f"warning: trial {since[-1]} took no part: `schedsearch confirm {handle.name}` again")
