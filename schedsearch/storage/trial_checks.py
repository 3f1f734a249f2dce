"""Checks of the trials of a study, before anything computes with them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from optuna.distributions import json_to_distribution
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, select

from schedsearch.errors import DamagedStudyError
from schedsearch.storage.attribute_rules import (
    SHAPE_ERRORS,
    TRIAL_RULES,
    Rule,
    check_attribute,
    has_plan_tables,
    is_whole,
)
from schedsearch.storage.attributes import PLAN, WOULD_PRUNE
from schedsearch.storage.study_attributes import load_attributes
from schedsearch.storage.tables import parameters, system_attributes, trials, user_attributes

#: To parse each plan takes longer than to read the trials.
_OUTLINE_RULES = {**TRIAL_RULES, PLAN: replace(TRIAL_RULES[PLAN], is_kept=has_plan_tables)}


def check_trial(study: str, trial: FrozenTrial) -> None:
    """Check the attributes, the reports and the value of a trial.

    Raises:
        DamagedStudyError: one of them is missing or not valid.
    """
    check_observed(study, trial)
    if trial.state is TrialState.COMPLETE:
        require_attribute(study, trial, PLAN)


def check_observed(study: str, trial: FrozenTrial) -> None:
    """Check the parts of a trial that were loaded, and the value.

    Raises:
        DamagedStudyError: one of them is not valid.
    """
    _check_attributes(study, trial)
    last = trial.user_attrs.get(WOULD_PRUNE)
    is_finished = trial.state.is_finished()
    if is_finished and last is not None and last not in trial.intermediate_values:
        rule = "an epoch that the trial reported"
        raise DamagedStudyError(study, trial.number, WOULD_PRUNE, last, rule)


def check_outline(study: str, trial: FrozenTrial) -> None:
    """Check the attributes and the value of a trial: of its plan, only that it consists of tables.

    Raises:
        DamagedStudyError: one of them is not valid.
    """
    _check_attributes(study, trial, _OUTLINE_RULES)
    if trial.state is TrialState.COMPLETE:
        require_attribute(study, trial, PLAN)


def check_plan(study: str, trial: FrozenTrial) -> None:
    """Check the plan of a trial that `check_outline` accepts.

    Raises:
        DamagedStudyError: it is missing or not valid.
    """
    plan = require_attribute(study, trial, PLAN)
    check_attribute(plan, TRIAL_RULES, PLAN, study=study, trial=trial.number)


def _check_attributes(
    study: str, trial: FrozenTrial, rules: Mapping[str, Rule] = TRIAL_RULES
) -> None:
    for key, value in trial.user_attrs.items():
        check_attribute(value, rules, key, study=study, trial=trial.number)
    for name in trial.params:
        if not isinstance(name, str):
            raise DamagedStudyError(study, trial.number, "params", name, "text")
    for step, value in trial.intermediate_values.items():
        if not (is_whole(step) and isinstance(value, float | int)):
            rule = "a number after a number of epochs"
            raise DamagedStudyError(study, trial.number, "reports", {step: value}, rule)
    if trial.state is TrialState.COMPLETE:
        _check_complete(study, trial)


def _check_complete(study: str, trial: FrozenTrial) -> None:
    values = trial.values or []
    if len(values) != 1 or not isinstance(values[0], float | int):
        raise DamagedStudyError(study, trial.number, "value", trial.values, "one number")


def require_attribute(study: str, trial: FrozenTrial, key: str) -> Any:
    """Return an attribute of a trial.

    Raises:
        DamagedStudyError: the trial does not have it.
    """
    if key not in trial.user_attrs:
        raise DamagedStudyError.missing(study, trial.number, key, TRIAL_RULES[key].words)
    return trial.user_attrs[key]


def find_damage(connection: Connection, study_id: int) -> DamagedStudyError:
    """Return the reason why the trials of a study cannot be read.

    Raises:
        KeyError: the study does not exist.
    """
    study = load_attributes(connection, study_id, ()).name
    for number, key, text, parse in _texts(connection, study_id):
        try:
            parse(text)
        except SHAPE_ERRORS:
            rule = "valid JSON" if parse is json.loads else "the distribution of a parameter"
            return DamagedStudyError(study, number, key, text, rule)
    return DamagedStudyError(study, None, "trials", "not readable", "rows as Optuna writes them")


def _texts(connection: Connection, study_id: int) -> Iterator[tuple[int, str, str, Any]]:
    """Yield the JSON texts of all trials: number, key, text, and the function that reads it."""
    for table, key, text, parse in (
        (user_attributes, "key", "value_json", json.loads),
        (system_attributes, "key", "value_json", json.loads),
        (parameters, "param_name", "distribution_json", json_to_distribution),
    ):
        query = select(trials.c.number, table.c[key], table.c[text]).join_from(
            trials, table, trials.c.trial_id == table.c.trial_id
        )
        for row in connection.execute(query.where(trials.c.study_id == study_id)):
            yield row[0], row[1], row[2], parse
