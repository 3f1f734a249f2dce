"""A trial's plan as a config: the space's file, with numbers in place of its ranges."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from schedsearch.confirmation.paired import Verdict
from schedsearch.confirmation.stored_result import confirmation_result
from schedsearch.confirmation.verdicts import best_first, winner
from schedsearch.errors import StudyError
from schedsearch.explanation.stored_result import explanation_result
from schedsearch.plan import Plan
from schedsearch.space import Space
from schedsearch.storage import FollowUp, Purpose, StudyHandle, find_study, plan_of
from schedsearch.storage.attributes import NUMERICS, RUNS, SEED, TAKEN_FROM, VALIDATION


def best_trial(study: StudyHandle) -> FrozenTrial:
    """Return the trial to export.

    It is the winner of the confirmation. If nothing won, it is the plan with the best mean in the
    confirmation, a schedule or a constant. Without a confirmation it is the best by validation.

    Raises:
        StudyError: no trial is complete.
    """
    result = confirmation_result(study)
    confirmed = None if result is None else winner(result)
    if confirmed is not None:
        return study.trial(confirmed)
    if result is not None and (trial := _best_in_confirmation(study, result)) is not None:
        return trial
    ranked = study.ranked_plans()
    if not ranked:
        raise study.no_complete_trial()
    return ranked[0].trial


def _best_in_confirmation(study: StudyHandle, result: Mapping[str, Any]) -> FrozenTrial | None:
    """Return the complete trial with the best mean; of equal means, a constant."""
    complete = {trial.number: trial for trial in study.complete_trials()}
    entries = [*best_first(result, "constants"), *best_first(result, "plans")]
    ranked = best_first({**result, "compared": entries}, "compared")
    return next((complete[e["number"]] for e in ranked if e["number"] in complete), None)


def complete_trial(study: StudyHandle, number: int) -> FrozenTrial:
    """Return a trial by its number.

    Raises:
        StudyError: there is no such trial, or it is not complete and so has no value.
    """
    trial = study.trial(number)
    if trial.state is not TrialState.COMPLETE:
        raise StudyError(f"trial {number} is {trial.state.name.lower()}, but must be complete")
    return trial


def trial_to_config(study: StudyHandle, trial: FrozenTrial) -> dict[str, Any]:
    """Return a complete trial as a config: plain data with the keys of a space file.

    [source] records the study, the trial and its confirmation; [numerics] records the conditions
    under which the numbers can be reproduced exactly. The URL of the storage is not part of it.
    """
    return _config(study, trial, provenance(study, trial))


def simplest_to_config(study: StudyHandle) -> dict[str, Any]:
    """Return the simplest plan that the last explanation found to be not worse, as a config.

    Its `source` is the first run of the plan in STUDY:explain, which `train` reproduces.

    Raises:
        StudyError: there is no explanation, it found no simpler plan, or its runs were deleted.
    """
    again = f"`schedsearch explain {study.name}`"
    result = explanation_result(study)
    if result is None:
        raise StudyError(f"study {study.name} has no explanation yet: run {again}")
    if result["simplest"] is None:
        raise StudyError(
            f"the explanation of study {study.name} found no simpler plan that is not worse than "
            f"trial {result['trial']}: {again} may find one with more --seeds or a larger --margin"
        )
    comparison = result["comparisons"][result["simplest"]]
    runs_in = find_study(study.database, FollowUp(study.name, Purpose.EXPLAIN).name)
    if runs_in is None:
        raise StudyError(f"the runs of the explanation were deleted: {again} trains them again")
    run = complete_trial(runs_in, comparison["number"])
    return _config(study, run, _provenance_of_simplest(study, run, result, comparison))


def _config(study: StudyHandle, trial: FrozenTrial, source: Mapping[str, Any]) -> dict[str, Any]:
    space = study.space
    document = space.document
    plan = plan_of(trial)
    content: dict[str, Any] = {
        "name": document.name,
        "task": document.task,
        "arguments": _arguments(space, plan),
        "horizon": document.horizon,
        "schedule_version": plan.version,
        "objective": document.objective.model_dump(mode="json"),
        "search": _seeds(space, trial),
        **plan_tables(space, plan),
        "source": source,
        "numerics": {**study.record.numerics, **trial.user_attrs.get(NUMERICS, {})},
    }
    return {key: value for key, value in content.items() if value != {}}


def _arguments(space: Space, plan: Plan) -> dict[str, Any]:
    """Return the arguments of the task, and as tables those of the plan.

    A default stays beside the value, since the fingerprint of the task has it.
    """
    defaults = space.default_arguments
    chosen = {
        name: {"value": value} | ({"default": defaults[name]} if name in defaults else {})
        for name, value in plan.arguments.items()
    }
    return dict(space.document.arguments) | chosen


def _seeds(space: Space, trial: FrozenTrial) -> dict[str, int]:
    """Return the seeds of a trial: its own seed, or those of the study."""
    if SEED in trial.user_attrs:
        return {"seed": trial.user_attrs[SEED], "seeds": 1}
    return {"seed": space.search.seed, "seeds": space.search.seeds}


def plan_tables(space: Space, plan: Plan) -> dict[str, Any]:
    """Return the plan as a config's tables, with the space's defaults and group names."""
    tables = plan.to_tables()
    searched = space.families
    names = dict.fromkeys([*space.document.hyperparameters, *tables["hyperparameters"]])
    hyperparameters: dict[str, Any] = {}
    for name in names:
        table: dict[str, Any] = {}
        declared = space.document.hyperparameters.get(name)
        if declared is not None:
            copied = {"default", "bounds"}
            table = declared.model_dump(mode="json", exclude_none=True, include=copied)
        planned = dict(tables["hyperparameters"].get(name, {}))
        if name not in searched and planned.get("families") == _constant(table):
            del planned["families"]
        hyperparameters[name] = table | planned
    groups = {
        _group_name(space, group["members"], name): group
        for name, group in tables.get("groups", {}).items()
    }
    return {"hyperparameters": hyperparameters, "groups": groups}


def _constant(table: Mapping[str, Any]) -> dict[str, Any]:
    return {"constant": {"value": table.get("default")}}


def _group_name(space: Space, members: list[str], otherwise: str) -> str:
    names = (name for name, group in space.document.groups.items() if group.members == members)
    return next(names, otherwise)


def provenance(study: StudyHandle, trial: FrozenTrial) -> dict[str, Any]:
    """Return the [source] table of a config: study, trial, versions, and the confirmation."""
    evidence = confirmation_of(study, trial)
    return {
        "study": study.name,
        "trial": trial.number,
        "metric": study.space.objective.metric,
        "value": trial.value,
        "confirmed": evidence is not None and evidence.get("verdict") == Verdict.BETTER,
        **_origin(study, trial),
        **_race_of(study, trial),
        **({} if evidence is None else {"confirmation": evidence}),
    }


def _provenance_of_simplest(
    study: StudyHandle,
    run: FrozenTrial,
    result: Mapping[str, Any],
    comparison: Mapping[str, Any],
) -> dict[str, Any]:
    found = ("change", "names", "mean", "difference", "interval", "p", "diverged")
    return {
        "study": FollowUp(study.name, Purpose.EXPLAIN).name,
        "trial": run.number,
        "metric": study.space.objective.metric,
        "value": run.user_attrs[VALIDATION],
        "confirmed": False,
        **_origin(study, run),
        "explanation": {
            "trial": result["trial"],
            "metric": result["metric"],
            "seeds": result["seeds"][1] - result["seeds"][0],
            "margin": result["margin"],
            **{key: comparison[key] for key in found},
        },
    }


def _origin(study: StudyHandle, trial: FrozenTrial) -> dict[str, Any]:
    """Return the task, the runs, the versions and the earlier studies of a trial."""
    earlier = [one.evidence for one in study.record.earlier]
    taken = trial.user_attrs.get(TAKEN_FROM)
    return {
        **({"from_studies": earlier} if earlier else {}),
        **({} if taken is None else {"taken_from": taken}),
        # Of the version of the task that was accepted last: the task as it is now.
        "fingerprint": [study.record.fingerprint, *study.record.accepted][-1],
        "runs": trial.user_attrs[RUNS],
        "versions": {
            "schedsearch": version("schedsearch"),
            "torch": trial.user_attrs.get(NUMERICS, {}).get(
                "torch", study.record.numerics["torch"]
            ),
            "optuna": version("optuna"),
        },
    }


def _race_of(study: StudyHandle, trial: FrozenTrial) -> dict[str, Any]:
    """Return the mean over all runs of the trial's plan; nothing if no other trial has that plan.

    `value` and `runs` are those of the trial, which `train` reproduces.
    """
    plan = next((plan for plan in study.ranked_plans() if trial in plan.trials), None)
    if plan is None or len(plan.trials) == 1:
        return {}
    found = {"mean": plan.mean, "seeds": plan.seeds, "diverged": plan.diverged}
    error = plan.error
    return {"race": found if error is None or math.isinf(error) else {**found, "error": error}}


def confirmation_of(study: StudyHandle, trial: FrozenTrial) -> dict[str, Any] | None:
    """Return the trial's result in the last confirmation; None if it was not part of one."""
    result = confirmation_result(study)
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
    """Drop the keys without a value, since TOML has no null.

    The default has no number if no trial has its plan.
    """
    return {key: value for key, value in table.items() if value is not None}
