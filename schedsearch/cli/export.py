"""`schedsearch export`: a trial's plan as a config."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from schedsearch.cli.app import app
from schedsearch.cli.output import echo, say
from schedsearch.cli.storage import DEFAULT_STORAGE, Storage, Study, study_at
from schedsearch.errors import InputError


@app.command()
def export(
    study: Study,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Write this .toml, .yaml or .json file. Default: TOML on stdout.",
            show_default=False,
        ),
    ] = None,
    trial: Annotated[
        int | None,
        typer.Option(
            help="Number of the trial. Default: the winner of `confirm`; if nothing won, the plan "
            "with the best mean in it; without `confirm`, the best by validation.",
            show_default=False,
        ),
    ] = None,
    simplest: Annotated[
        bool,
        typer.Option(
            "--simplest", help="Write the simplest plan that `explain` found to be not worse."
        ),
    ] = False,
    storage: Storage = DEFAULT_STORAGE,
) -> None:
    """Write the best plan as a config.

    The config is for `schedsearch train` and for your training loop.
    """
    from schedsearch.export import best_trial, complete_trial, simplest_to_config, trial_to_config
    from schedsearch.report.evidence import evidence_lines, simplest_lines
    from schedsearch.storage.attributes import PLAN

    handle = study_at(storage, study)
    if simplest:
        if trial is not None:
            raise InputError("--simplest and --trial both choose the plan: give only one")
        content = simplest_to_config(handle)
        _write(content, output)
        for line in simplest_lines(content["source"]):
            say(line)
        return
    chosen = best_trial(handle) if trial is None else complete_trial(handle, trial)
    content = trial_to_config(handle, chosen)
    _write(content, output)
    constant = handle.space.is_constant_plan(chosen.user_attrs[PLAN])
    for line in evidence_lines(handle, content["source"], constant, is_default=trial is None):
        say(line)


def _write(content: dict[str, Any], output: Path | None) -> None:
    import tomli_w

    from schedsearch.files import write_document

    if output is None:
        echo(tomli_w.dumps(content), nl=False)
    else:
        write_document(output, content)
        say(f"wrote {output}: {_description(content)}")


def _description(content: dict[str, Any]) -> str:
    source = content["source"]
    if (explanation := source.get("explanation")) is not None:
        return (
            f"a simpler plan, {explanation['metric']} {explanation['mean']:.6g} (mean of "
            f"{explanation['seeds']} fresh seeds), {source['metric']} {source['value']:.6g} in "
            f"trial {source['trial']} of {source['study']}"
        )
    race = source.get("race", {"mean": source["value"], "seeds": len(source["runs"])})
    seeds = f"mean of {race['seeds']} seeds" if race["seeds"] > 1 else "1 seed"
    mean, own = f"{race['mean']:.6g}", f"{source['value']:.6g}"
    value = f"{source['metric']} {mean} ({seeds})"
    if own != mean:
        value += f", {own} in this trial"
    return f"trial {source['trial']} of {source['study']}, {value}"
