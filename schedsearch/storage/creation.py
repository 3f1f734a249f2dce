"""Creating a study, or continuing one that was created alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from optuna.study import StudyDirection
from optuna.trial import FixedTrial, FrozenTrial, TrialState, create_trial

from schedsearch.errors import StudyError
from schedsearch.space import Space
from schedsearch.storage.attributes import CONFIRMS, UNPRUNED
from schedsearch.storage.database import Database
from schedsearch.storage.studies import StudyHandle, StudyRecord, open_study

#: What may differ when a study is continued.
_FREE = frozenset({"search.trials", "search.epochs", "search.epoch_timeout"})


def create_study(database: Database, record: StudyRecord) -> StudyHandle:
    """Create a study, or continue it with at least as many trials.

    A new study has trial 0, the default constants, in its queue; a confirmation has an empty queue.

    Raises:
        StudyError: the study exists and was created otherwise; the message says what differs.
    """
    name = record.name
    with database.creating():
        try:
            study_id = database.optuna.get_study_id_from_name(name)
        except KeyError:
            minimize = record.space.objective.direction == "minimize"
            direction = StudyDirection.MINIMIZE if minimize else StudyDirection.MAXIMIZE
            study_id = database.optuna.create_new_study([direction], study_name=name)
        attributes = database.optuna.get_study_user_attrs(study_id)
        # "space" is written last: a study without it was never finished, and is finished now.
        if "space" in attributes:
            _refuse_changes(attributes, record)
        _write_limits(database, study_id, attributes, record)
        if "space" not in attributes:
            _write_record(database, study_id, record)
    return open_study(database, name)


def discard_untrained(database: Database, space: Space, fingerprint: str) -> bool:
    """Delete the study of a space's name if it was created otherwise, and tried without any result.

    So a mistake in a file or a task that shows in the first epoch is mended there, and that is all.
    A study that nobody has begun stays, and one with trials that somebody queued.

    Returns:
        Whether there was such a study.
    """
    storage = database.optuna
    with database.creating():
        try:
            study_id = storage.get_study_id_from_name(space.name)
        except KeyError:
            return False
        attributes = storage.get_study_user_attrs(study_id)
        if "space" not in attributes or not _changes(attributes, space, fingerprint):
            return False
        trials = storage.get_all_trials(study_id, deepcopy=False)
        tried = any(trial.state is TrialState.FAIL for trial in trials)
        if not tried or any(map(_is_worth_keeping, trials)):
            return False
        storage.delete_study(study_id)
        return True


def _is_worth_keeping(trial: FrozenTrial) -> bool:
    queued = trial.state is TrialState.WAITING and "baseline" not in trial.user_attrs
    return bool(trial.intermediate_values) or trial.state is TrialState.RUNNING or queued


def _write_limits(
    database: Database, study_id: int, attributes: Mapping[str, Any], record: StudyRecord
) -> None:
    """Raise what the study may take in all, and set what one epoch may."""
    search, horizon = record.space.search, record.space.horizon
    limits: dict[str, Any] = {}
    if record.trials > attributes.get("trials", -1):
        limits["trials"] = record.trials
    if (search.epochs or 0) > attributes.get("epochs", {"epochs": 0})["epochs"]:
        limits["epochs"] = {"epochs": search.epochs, "horizon": horizon}
    if search.epoch_timeout is not None:
        limits["epoch_timeout"] = search.epoch_timeout
    for key, value in limits.items():
        database.optuna.set_study_user_attr(study_id, key, value)


def _write_record(database: Database, study_id: int, record: StudyRecord) -> None:
    storage = database.optuna
    if record.confirms is not None:
        storage.set_study_user_attr(study_id, CONFIRMS, record.confirms)
    elif not storage.get_all_trials(study_id, deepcopy=False):
        storage.create_new_trial(study_id, _baseline(record.space))
    storage.set_study_user_attr(study_id, "numerics", dict(record.numerics))
    storage.set_study_user_attr(study_id, "fingerprint", record.fingerprint)
    storage.set_study_user_attr(study_id, "space", record.space.to_document())


def _baseline(space: Space) -> FrozenTrial:
    """Return trial 0 as it waits in the queue."""
    drawn = FixedTrial(space.baseline_parameters())
    # Samplers learn nothing of it where a default lies outside the range of the constants.
    with suppress(ValueError):
        space.suggest_tables(drawn)
    return create_trial(
        state=TrialState.WAITING,
        params=drawn.params,
        distributions=drawn.distributions,
        user_attrs={"baseline": True, UNPRUNED: True, "plan": space.baseline().to_tables()},
    )


def _changes(attributes: Mapping[str, Any], space: Space, fingerprint: str) -> list[str]:
    """Return in what a study differs from one that would be created now, a line each."""
    # Read anew, since it may have been written before some setting existed.
    before = Space.from_document(attributes["space"], f"study {space.name}")
    stored, given = dict(_flat(before.to_document())), dict(_flat(space.to_document()))
    changes = [
        f"  {key}: it has {stored.get(key, 'nothing')!r}, now it is {given.get(key, 'nothing')!r}"
        for key in dict.fromkeys([*stored, *given])
        if stored.get(key) != given.get(key) and key not in _FREE
    ]
    if not changes and attributes["fingerprint"] != fingerprint:
        return ["  the task's source, arguments or data: its fingerprint differs"]
    return changes


def _refuse_changes(attributes: Mapping[str, Any], record: StudyRecord) -> None:
    if changes := _changes(attributes, record.space, record.fingerprint):
        raise StudyError(
            f"study `{record.space.name}` was created otherwise:\n"
            + "\n".join(changes)
            + "\nhint: go on with what it was created with, begin another with --study NAME, or "
            + f"throw it away with `schedsearch delete {record.space.name}`"
        )


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested tables by their dotted keys."""
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from _flat(item, f"{key}.{name}" if key else name)
    else:
        yield key, value
