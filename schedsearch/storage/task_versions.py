"""The versions of its task that a study accepts: the one of its creation, and those since."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from schedsearch.storage.attributes import ACCEPTED_TASKS, FINGERPRINT, TASK_PARTS
from schedsearch.storage.database import Database
from schedsearch.storage.study_attributes import StudyAttributes, load_attributes
from schedsearch.task.fingerprint import Fingerprint, describe_changes

#: What differs if only the hash of all parts does: another program has changed it, or the parts.
INCONSISTENT_RECORD = "its recorded fingerprint is not the hash of its recorded parts"
#: Characters of one attribute: MySQL stores at most 65,535 bytes.
_MAX_LENGTH = 30_000


def read_parts(attributes: StudyAttributes) -> dict[str, str]:
    """Return the parts of the last accepted version; empty if version 0.1 created the study."""
    parts: dict[str, str] = {}
    number = 0
    while (key := _parts_key(number)) in attributes:
        parts |= attributes[key]
        number += 1
    return parts


def write_parts(database: Database, study_id: int, parts: Mapping[str, str]) -> None:
    """Write the parts of a version of the task in place of those of an earlier one."""
    chunks: list[dict[str, str]] = [{}]
    size = 0
    for name, value in sorted(parts.items()):
        added = len(json.dumps({name: value}))
        if size + added > _MAX_LENGTH:
            chunks.append({})
            size = 0
        chunks[-1][name] = value
        size += added
    before = _attributes(database, study_id)
    while _parts_key(len(chunks)) in before:
        chunks.append({})
    for number, chunk in enumerate(chunks):
        database.optuna.set_study_user_attr(study_id, _parts_key(number), chunk)


def _attributes(database: Database, study_id: int) -> StudyAttributes:
    return database.read(lambda connection: load_attributes(connection, study_id))


def _parts_key(number: int) -> str:
    return f"{TASK_PARTS}_{number}" if number else TASK_PARTS


def accepted_digests(attributes: StudyAttributes) -> list[str]:
    """Return the hashes of the versions that count as the same training, the original first."""
    accepted = [version[FINGERPRINT] for version in attributes.get(ACCEPTED_TASKS, ())]
    return [attributes[FINGERPRINT], *accepted]


def task_changes(attributes: StudyAttributes, digest: str, parts: Mapping[str, str]) -> list[str]:
    """Return what differs between a task and the versions that a study accepts, in phrases.

    Args:
        attributes: of the study.
        digest: the hash of the task's fingerprint.
        parts: the parts of the fingerprint.
    """
    if digest in accepted_digests(attributes):
        return []
    if before := read_parts(attributes):
        return describe_changes(before, parts) or [INCONSISTENT_RECORD]
    return ["its source, arguments or data differ"]


def write_accepted(database: Database, study_id: int, digests: Sequence[str]) -> None:
    """Write the hashes of the versions that count as the same training, with the original first."""
    moment = datetime.now(UTC).isoformat(timespec="seconds")
    before = _attributes(database, study_id).get(ACCEPTED_TASKS, [])
    known = {version[FINGERPRINT] for version in before}
    added = [{FINGERPRINT: digest, "time": moment} for digest in digests[1:] if digest not in known]
    if added:
        database.optuna.set_study_user_attr(study_id, ACCEPTED_TASKS, [*before, *added])


def accept_task(database: Database, study_id: int, fingerprint: Fingerprint) -> None:
    """Record that a version of the task counts as the same training as the one of the study."""
    with database.creation_lock():
        accepted = accepted_digests(_attributes(database, study_id))
        if fingerprint.digest not in accepted:
            write_accepted(database, study_id, [*accepted, fingerprint.digest])
        write_parts(database, study_id, fingerprint.parts)


def changed_task_message(study: str, reference: str, changes: list[str]) -> str:
    """Return the message that refuses a changed task."""
    return (
        f"task {reference} changed since study `{study}` was created: {', '.join(changes)}; create "
        "another study with `schedsearch start FILE --study NAME`, or, if it is the same training, "
        "say so with `schedsearch start FILE --accept-task`"
    )
