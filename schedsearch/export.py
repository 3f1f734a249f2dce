"""A trial's plan as a config: the space's own file, with numbers where it had ranges."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from schedsearch.confirmation.paired import Verdict
from schedsearch.confirmation.record import kept
from schedsearch.confirmation.verdicts import winner
from schedsearch.errors import StudyError
from schedsearch.plan import Plan
from schedsearch.space import Space
from schedsearch.storage import StudyHandle, plan_of


def best_trial(study: StudyHandle) -> FrozenTrial:
    """Return the trial to hand over: the confirmed winner, else the best by validation.

    Raises:
        StudyError: no trial is complete.
    """
    result = kept(study)
    confirmed = None if result is None else winner(result)
    if confirmed is not None:
        return study.trial(confirmed)
    ranked = study.complete()
    if not ranked:
        raise StudyError(
            f"study {study.name} has no complete trial yet: `schedsearch start` goes on"
        )
    return ranked[0]


def complete_trial(study: StudyHandle, number: int) -> FrozenTrial:
    """Return a trial by its number.

    Raises:
        StudyError: there is none, or it is not complete, so that nobody knows what it gives.
    """
    trial = study.trial(number)
    if trial.state is not TrialState.COMPLETE:
        raise StudyError(f"trial {number} is {trial.state.name.lower()}, but must be complete")
    return trial


def config(study: StudyHandle, trial: FrozenTrial) -> dict[str, Any]:
    """Return a complete trial as a config: plain data, in the grammar of a space file.

    It holds no search; [source] says where the plan comes from and what was found of it, and
    [numerics] under which its numbers come out again. The storage's URL is left out.
    """
    space = study.space
    given = space.document
    content: dict[str, Any] = {
        "name": given.name,
        "task": given.task,
        "arguments": dict(given.arguments),
        "horizon": given.horizon,
        "objective": given.objective.model_dump(mode="json"),
        "search": {"seed": given.search.seed, "seeds": given.search.seeds},
        **plan_tables(space, plan_of(trial)),
        "source": source(study, trial),
        "numerics": dict(study.record.numerics),
    }
    return {key: value for key, value in content.items() if value != {}}


def plan_tables(space: Space, plan: Plan) -> dict[str, Any]:
    """Return the plan as a config's tables, with the space's defaults and group names."""
    tables = plan.to_tables()
    searched = space.families
    names = dict.fromkeys([*space.document.hyperparameters, *tables["hyperparameters"]])
    hyperparameters: dict[str, Any] = {}
    for name in names:
        table: dict[str, Any] = {}
        own = space.document.hyperparameters.get(name)
        if own is not None:
            kept_as_is = {"default", "bounds"}
            table = own.model_dump(mode="json", exclude_none=True, include=kept_as_is)
        moved = tables["hyperparameters"].get(name, {})
        is_default = name not in searched and moved.get("families") == _constant(table)
        hyperparameters[name] = table | ({} if is_default else moved)
    groups = {
        _group_name(space, group["members"], name): group
        for name, group in tables.get("groups", {}).items()
    }
    return {"hyperparameters": hyperparameters, "groups": groups}


def _constant(table: Mapping[str, Any]) -> dict[str, Any]:
    return {"constant": {"value": table.get("default")}}


def _group_name(space: Space, members: list[str], otherwise: str) -> str:
    own = (name for name, group in space.document.groups.items() if group.members == members)
    return next(own, otherwise)


def source(study: StudyHandle, trial: FrozenTrial) -> dict[str, Any]:
    """Return where a plan comes from, and whether it was confirmed."""
    evidence = confirmation(study, trial)
    return {
        "study": study.name,
        "trial": trial.number,
        "metric": study.space.objective.metric,
        "value": trial.value,
        "confirmed": evidence is not None and evidence.get("verdict") == Verdict.BETTER,
        "fingerprint": study.record.fingerprint,
        "runs": trial.user_attrs["runs"],
        "versions": {
            "schedsearch": version("schedsearch"),
            "torch": study.record.numerics["torch"],
            "optuna": version("optuna"),
        },
        **({} if evidence is None else {"confirmation": evidence}),
    }


def confirmation(study: StudyHandle, trial: FrozenTrial) -> dict[str, Any] | None:
    """Return what the study's last confirmation found of a trial; None if it took no part."""
    result = kept(study)
    if result is None:
        return None
    common = {"metric": result["metric"], "seeds": result["seeds"][1] - result["seeds"][0]}
    for entry in [*result["plans"], *result["constants"]]:
        if entry["number"] == trial.number:
            found = ("mean", "verdict", "difference", "interval", "p", "wins", "losses", "diverged")
            evidence = {key: entry[key] for key in found if key in entry}
            against = {key: result["baseline"][key] for key in ("number", "mean")}
            return {**common, **evidence, "baseline": _without_none(against)}
    return None


def _without_none(table: Mapping[str, Any]) -> dict[str, Any]:
    """TOML knows no null: the default has no number where no trial carries it."""
    return {key: value for key, value in table.items() if value is not None}
