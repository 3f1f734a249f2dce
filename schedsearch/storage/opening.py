"""Opening the studies of a database: each record is checked before a study is used."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from schedsearch.errors import (
    DamagedStudyError,
    FileError,
    InputError,
    StudyError,
    did_you_mean,
    summarize_exception,
)
from schedsearch.printable import printable_line, shell_argument
from schedsearch.space import Space
from schedsearch.storage.attribute_rules import SHAPE_ERRORS, parse_attribute
from schedsearch.storage.attributes import CONFIRMS, EXPLAINS, FINGERPRINT, NUMERICS, SPACE, TRIALS
from schedsearch.storage.database import Database
from schedsearch.storage.earlier_studies import read_earlier_studies
from schedsearch.storage.follow_ups import followed_study, is_follow_up
from schedsearch.storage.studies import StudyHandle, StudyRecord
from schedsearch.storage.study_attributes import (
    StudyAttributes,
    check_study_rows,
    has_other_trials,
    load_all_studies,
    load_names,
    load_study,
    load_system_attributes,
)
from schedsearch.storage.task_versions import accepted_digests, read_parts


def _hint_for_file(name: str) -> str | None:
    is_file = name.endswith((".toml", ".yaml", ".yml", ".json"))
    return "give the name of the study; only `start` takes its file" if is_file else None


def study_names(database: Database) -> list[str]:
    """Return the names of all studies in a database, sorted."""
    return database.read(load_names)


def open_study(database: Database, name: str) -> StudyHandle:
    """Open a study by its name.

    Raises:
        StudyError: the study does not exist, or it is not a study of schedsearch.
        DamagedStudyError: its record is not valid.
    """
    found = database.read(lambda connection: load_study(connection, name))
    if found is None:
        known = study_names(database)
        shown = ", ".join(map(printable_line, known))
        hint = (
            _hint_for_file(name)
            or did_you_mean(name, known)
            or (f"its studies are {shown}" if known else "it has no studies")
        )
        raise StudyError(f"{database.display_url} has no study `{printable_line(name)}`: {hint}")
    return _open(database, found)


def _open(database: Database, found: StudyAttributes) -> StudyHandle:
    if SPACE not in found and CONFIRMS in found:
        raise StudyError(
            f"study `{found.name}` was created by version 0.1: continue it with "
            f"`schedsearch confirm {found[CONFIRMS]}`"
        )
    if SPACE not in found and EXPLAINS in found:
        raise StudyError(
            f"the creation of study `{found.name}` was interrupted: continue it with "
            f"`schedsearch explain {found[EXPLAINS]}`"
        )
    if SPACE not in found:
        shown = printable_line(found.name)
        raise StudyError(
            f"study `{shown}` was not created by schedsearch, or its creation was interrupted: use "
            "another study, or run `schedsearch start` with its space file again"
            if is_incomplete(database, found)
            else f"study `{shown}` was not created by schedsearch: use another name"
        )
    follows, space = followed_study(found), read_space(found)
    direction = space.objective.direction
    database.read(lambda c: check_study_rows(c, found.study_id, found.name, direction))
    record = StudyRecord(
        space,
        found[TRIALS],
        found[NUMERICS],
        found[FINGERPRINT],
        follows,
        read_parts(found),
        accepted_digests(found),
        read_earlier_studies(found),
    )
    return StudyHandle(database, found.study_id, record)


def is_incomplete(database: Database, found: StudyAttributes) -> bool:
    """Return whether the creation of a search was interrupted, so that `start` completes it.

    Such a study has no space, and at most trial 0, still in the queue.
    """
    if SPACE in found or is_follow_up(found):
        return False
    return not database.read(lambda connection: has_other_trials(connection, found.study_id))


def read_space(found: StudyAttributes) -> Space:
    """Return the space in the attributes of a study.

    A search that was renamed has the name of the study, not the one in its space.

    Raises:
        DamagedStudyError: it is not a valid space.
    """
    document = found[SPACE]
    try:
        space = Space.from_document(document, f"study {found.name}")
        _ = space.baseline()
    except FileError as error:
        problem = error.problems[0]
        rule = f"a valid space: {problem}"
        raise DamagedStudyError(found.name, None, SPACE, document, rule) from None
    except (InputError, *SHAPE_ERRORS) as error:
        rule = f"a valid space: {summarize_exception(error)}"
        raise DamagedStudyError(found.name, None, SPACE, document, rule) from None
    if is_follow_up(found) or space.name == found.name:
        return space
    return replace(space, document=space.document.model_copy(update={"name": found.name}))


def find_study(database: Database, name: str) -> StudyHandle | None:
    """Open a study by its name; return None if it does not exist, or its creation was interrupted.

    Raises:
        StudyError: it is not a study of schedsearch.
        DamagedStudyError: its record is not valid.
    """
    found = database.read(lambda connection: load_study(connection, name))
    return None if found is None or is_incomplete(database, found) else _open(database, found)


def list_studies(database: Database) -> tuple[list[StudyHandle], list[DamagedStudyError]]:
    """Return the searches in a database by name, without the studies that follow them.

    Returns:
        The searches, and an error for each one whose record is not valid.
    """
    opened, damaged = [], []
    for study in database.read(load_all_studies):
        if SPACE in study and not is_follow_up(study):
            try:
                opened.append(_open(database, study))
            except DamagedStudyError as error:
                damaged.append(error)
    return opened, damaged


def find_study_damage(database: Database) -> DamagedStudyError | None:
    """Return an error for the first attribute of a study that is not JSON; None if all are."""
    for study in database.read(load_all_studies):
        texts = database.read(partial(load_system_attributes, study_id=study.study_id))
        for key, text in [*study.texts.items(), *texts]:
            try:
                parse_attribute(text, {}, key, study=study.name)
            except DamagedStudyError as error:
                return error
    return None


def get_only_study(database: Database) -> StudyHandle:
    """Return the only study of a database.

    Raises:
        StudyError: the database has no study, or several.
        DamagedStudyError: the record of the only study is not valid.
    """
    opened, damaged = list_studies(database)
    names = sorted([*(study.name for study in opened), *(error.study for error in damaged)])
    if len(names) != 1:
        shown = ", ".join(map(printable_line, names))
        if not names:
            raise StudyError(f"{database.display_url}: has no studies")
        hint = f"`schedsearch status {shell_argument(names[0])}`"
        raise StudyError(f"several studies: {shown} (hint: name one, such as {hint})")
    if damaged:
        raise damaged[0]
    return opened[0]
