"""`schedsearch export`: a trial's plan as a config."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from schedsearch.cli.app import app
from schedsearch.cli.output import echo, say
from schedsearch.cli.storage import DEFAULT_STORAGE, Storage, Study, study_at
from schedsearch.errors import InputError

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
    from schedsearch.storage.attributes import PLAN

    handle = study_at(storage, study)
    if simplest:
        if trial is not None:
            raise InputError("--simplest and --trial both choose the plan: give only one")
        content = simplest_to_config(handle)
        _write(content, output)
        _say_explained(content["source"]["explanation"])
        return
    chosen = best_trial(handle) if trial is None else complete_trial(handle, trial)
    content = trial_to_config(handle, chosen)
    _write(content, output)
    if "confirmation" not in content["source"] and handle.space.is_constant_plan(
        chosen.user_attrs[PLAN]
    ):
        say("a constant: no schedule was better" if trial is None else "a constant")
    _say_confirmed(handle, content["source"], is_default=trial is None)


def _write(content: dict[str, Any], output: Path | None) -> None:
    import tomli_w

    from schedsearch.files import write_document

    if output is None:
        echo(tomli_w.dumps(content), nl=False)
    else:
        write_document(output, content)
        say(f"wrote {output}: {_description(content)}")


def _say_explained(evidence: dict[str, Any]) -> None:
    """Report how far the simpler plan is from the one that it replaces."""
    say(
        f"simpler than trial {evidence['trial']} and not worse by {evidence['margin']:.4g} or "
        f"more: difference {evidence['difference']:+.4g} in {evidence['metric']} over "
        f"{evidence['seeds']} fresh seeds"
    )


def _description(content: dict[str, Any]) -> str:
    source = content["source"]
    race = source.get("race", {"mean": source["value"], "seeds": len(source["runs"])})
    mean = f" (mean of {race['seeds']} seeds)" if race["seeds"] > 1 else ""
    value = f"{source['metric']} {race['mean']:.6g}{mean}"
    return f"trial {source['trial']} of {source['study']}, {value}"


def _say_confirmed(handle: StudyHandle, source: dict[str, Any], *, is_default: bool) -> None:
    """Report the confirmation of the plan; the value from the search alone is optimistic."""
    evidence = source.get("confirmation")
    if evidence is None:
        say(
            "not confirmed: the value comes from the search; test it on fresh seeds with "
            f"`schedsearch confirm {handle.name}`"
        )
        return
    result = (
        f"mean {evidence['metric']} {evidence['mean']:.4g} over {evidence['seeds']} fresh seeds"
    )
    if "verdict" not in evidence:
        say(f"a constant: {result}")
    elif source["confirmed"]:
        say(f"confirmed to be better than the constants: {result}")
    else:
        say(f"not confirmed, {evidence['verdict']}: {result}")
    if is_default and not source["confirmed"]:
        say(
            "no schedule was confirmed to be better than the constants: this trial has the best "
            "mean in the confirmation"
        )
    if is_default or source["confirmed"]:
        _warn_of_better_trials(handle)


def _warn_of_better_trials(handle: StudyHandle) -> None:
    """Warn if the study has a better trial that was not part of the confirmation."""
    from schedsearch.confirmation.stored_result import confirmation_result
    from schedsearch.confirmation.verdicts import not_confirmed

    best = [
        plan.number for kind in (False, True) for plan in handle.ranked_plans(constant=kind)[:1]
    ]
    result = confirmation_result(handle)
    if result is not None and (since := not_confirmed(result, best)):
        say(
            f"warning: trial {since[-1]} was not part of the confirmation: run "
            f"`schedsearch confirm {handle.name}` again"
        )
