"""Creating a study, or continuing one with the same settings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from optuna.study import StudyDirection
from optuna.trial import FixedTrial, FrozenTrial, TrialState, create_trial

from schedsearch.errors import StudyError
from schedsearch.space import Space
from schedsearch.storage.attributes import (
    BASELINE,
    CONDITIONS,
    EPOCH_TIMEOUT,
    EPOCHS,
    FINGERPRINT,
    NUMERICS,
    PLAN,
    SAMPLE_INDEX,
    SPACE,
    TAKEN_FROM,
    TRIALS,
    UNPRUNED,
)
from schedsearch.storage.counts import count_rows
from schedsearch.storage.database import Database
from schedsearch.storage.follow_ups import followed_study
from schedsearch.storage.opening import is_incomplete, open_study, read_space
from schedsearch.storage.studies import StudyHandle, StudyRecord
from schedsearch.storage.study_attributes import (
    StudyAttributes,
    check_study_rows,
    load_attributes,
    load_study,
)
from schedsearch.storage.task_versions import (
    changed_task_message,
    task_changes,
    write_accepted,
    write_parts,
)

#: The settings that may change when a study is continued; it keeps its version of the rules.
_CHANGEABLE = frozenset(
    {"search.trials", "search.epochs", "search.epoch_timeout", "schedule_version"}
)


def create_study(database: Database, record: StudyRecord) -> StudyHandle:
    """Create a study, or continue one and raise its limits.

    The queue of a new search contains trial 0, the default constants. A new study that
    follows another one has an empty queue.

    Raises:
        StudyError: the study exists with other settings, which the message lists, or another
            program created it, or the study with the name of one that follows has runs of another
            study.
    """
    name = record.name
    with database.creation_lock():
        _prepare_incomplete(database, record)
        try:
            study_id = database.optuna.get_study_id_from_name(name)
        except KeyError:
            study_id = database.optuna.create_new_study([_direction(record)], study_name=name)
        attributes = database.read(lambda connection: load_attributes(connection, study_id))
        if record.follows is not None:
            _refuse_foreign_runs(database, attributes, record)
        # "space" is written last: a study without it was left incomplete, and is completed now.
        if SPACE in attributes:
            _refuse_changes(attributes, record)
        _write_limits(database, study_id, attributes, record)
        if SPACE not in attributes:
            _write_record(database, study_id, record)
    study = open_study(database, name)
    if record.follows is None:
        study.name_metric(record.space.objective.metric)
    return study


def _direction(record: StudyRecord) -> StudyDirection:
    minimize = record.space.objective.direction == "minimize"
    return StudyDirection.MINIMIZE if minimize else StudyDirection.MAXIMIZE


def _prepare_incomplete(database: Database, record: StudyRecord) -> None:
    """Refuse a study of another program; delete a study of schedsearch that only has trial 0.

    Its creation was interrupted, and the file may have changed since: trial 0 is queued again.
    """
    found = database.read(lambda connection: load_study(connection, record.name))
    if found is None or SPACE in found or record.follows is not None:
        return
    if not is_incomplete(database, found):
        open_study(database, record.name)  # raises the error that says why
    if database.read(lambda connection: count_rows(connection, found.study_id)):
        database.optuna.delete_study(found.study_id)
    else:
        # Another program may have created a study without trials: it is not deleted.
        direction = _direction(record).name
        database.read(lambda c: check_study_rows(c, found.study_id, found.name, direction))


def delete_if_untrained(database: Database, record: StudyRecord) -> bool:
    """Delete the study with a record's name if it has other settings, and only failed trials.

    So after a mistake that shows in the first epoch, the user corrects the file or the task and
    starts again. A study that was never started is kept, and one with other queued trials.

    Returns:
        Whether a study was deleted.
    """
    with database.creation_lock():
        attributes = database.read(lambda connection: load_study(connection, record.name))
        if attributes is None or SPACE not in attributes:
            return False
        if not (_space_changes(attributes, record) or _task_changes(attributes, record)):
            return False
        trials = open_study(database, record.name).rows()
        has_failed = any(trial.state is TrialState.FAIL for trial in trials)
        if not has_failed or any(map(_is_worth_keeping, trials)):
            return False
        database.optuna.delete_study(attributes.study_id)
        return True


def _is_worth_keeping(trial: FrozenTrial) -> bool:
    # The same command queues trial 0 and the plans of earlier studies again, and its sampler draws
    # other plans than those that a worker has handed back.
    again = trial.user_attrs.keys() & {BASELINE, TAKEN_FROM, SAMPLE_INDEX}
    queued = trial.state is TrialState.WAITING and not again
    return bool(trial.intermediate_values) or trial.state is TrialState.RUNNING or queued


def _write_limits(
    database: Database, study_id: int, attributes: StudyAttributes, record: StudyRecord
) -> None:
    """Raise the limits of the study, and set the timeout of an epoch."""
    search, horizon = record.space.search, record.space.horizon
    limits: dict[str, Any] = {}
    if record.trials > attributes.get(TRIALS, -1):
        limits[TRIALS] = record.trials
    if (search.epochs or 0) > attributes.get(EPOCHS, {"epochs": 0})["epochs"]:
        limits[EPOCHS] = {"epochs": search.epochs, "horizon": horizon}
    if search.epoch_timeout is not None:
        limits[EPOCH_TIMEOUT] = search.epoch_timeout
    for key, value in limits.items():
        database.optuna.set_study_user_attr(study_id, key, value)


def _write_record(database: Database, study_id: int, record: StudyRecord) -> None:
    storage = database.optuna
    if record.follows is not None:
        storage.set_study_user_attr(
            study_id, record.follows.purpose.attribute, record.follows.study
        )
        storage.set_study_user_attr(study_id, CONDITIONS, _conditions(record))
    elif not storage.get_all_trials(study_id, deepcopy=False):
        storage.create_new_trial(study_id, _baseline_trial(record.space))
    storage.set_study_user_attr(study_id, NUMERICS, dict(record.numerics))
    storage.set_study_user_attr(study_id, FINGERPRINT, record.fingerprint)
    if record.parts:
        write_parts(database, study_id, record.parts)
    write_accepted(database, study_id, record.accepted)
    storage.set_study_user_attr(study_id, SPACE, record.space.to_document())


def _baseline_trial(space: Space) -> FrozenTrial:
    """Return trial 0 in the state WAITING."""
    fixed = FixedTrial(space.baseline_parameters())
    # A default outside of its range stays without a parameter, so samplers do not learn from it.
    with suppress(ValueError):
        space.suggest_tables(fixed)
    return create_trial(
        state=TrialState.WAITING,
        params=fixed.params,
        distributions=fixed.distributions,
        user_attrs={BASELINE: True, UNPRUNED: True, PLAN: space.baseline().to_tables()},
    )


def _space_changes(attributes: StudyAttributes, record: StudyRecord) -> list[str]:
    """Return the settings of a study that differ from the given ones, one line each."""
    # Parsed, since the document may lack settings that were added since.
    before = read_space(attributes)
    stored, given = dict(_flatten(before.to_document())), dict(_flatten(record.space.to_document()))
    return [
        f"  {key}: {_shown(stored, key)} in the study, {_shown(given, key)} given now"
        for key in dict.fromkeys([*stored, *given])
        if not _is_same(key, stored.get(key), given.get(key)) and key not in _CHANGEABLE
    ]


def _is_same(key: str, stored: Any, given: Any) -> bool:
    """Return whether a setting is the same; of arguments, the types of values count too."""
    if key.partition(".")[0] == "arguments":
        return json.dumps(stored) == json.dumps(given)
    return bool(stored == given)


def _task_changes(attributes: StudyAttributes, record: StudyRecord) -> list[str]:
    return task_changes(attributes, record.fingerprint, record.parts)


def _shown(settings: Mapping[str, Any], key: str) -> str:
    return repr(settings[key]) if key in settings else "not set"


def _refuse_changes(attributes: StudyAttributes, record: StudyRecord) -> None:
    if changes := _space_changes(attributes, record):
        another = "create another study with --study NAME, " if record.follows is None else ""
        raise StudyError(
            f"study `{record.name}` exists with other settings:\n"
            + "\n".join(changes)
            + f"\nhint: restore these settings, {another}or delete this one with "
            + f"`schedsearch delete {record.name}`"
        )
    if changes := _task_changes(attributes, record):
        raise StudyError(changed_task_message(record.name, record.space.task, changes))


def _refuse_foreign_runs(
    database: Database, attributes: StudyAttributes, record: StudyRecord
) -> None:
    """Refuse a study that has the name of one that follows, but not its runs."""
    assert record.follows is not None
    rows = database.read(lambda connection: count_rows(connection, attributes.study_id))
    follows = followed_study(attributes) or (None if rows else record.follows)
    conditions, parent = _conditions(record), record.follows.study
    if follows != record.follows or attributes.get(CONDITIONS, conditions) != conditions:
        raise StudyError(
            f"study `{record.name}` has runs of another study `{parent}`, or of other "
            f"settings: delete it with `schedsearch delete {record.name}`"
        )


def _conditions(record: StudyRecord) -> dict[str, Any]:
    """Return what the numbers of its runs depend on, beside their plans and seeds."""
    return {
        "fingerprint": record.fingerprint,
        "numerics": dict(record.numerics),
        "horizon": record.space.horizon,
        "objective": record.space.objective.model_dump(mode="json"),
    }


def _flatten(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested tables with their dotted keys."""
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from _flatten(item, f"{key}.{name}" if key else name)
    else:
        yield key, value
