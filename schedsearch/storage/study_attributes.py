"""The attributes of studies, read without Optuna: it fails for all studies if one is damaged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    Connection,
    Select,
    Table,
    bindparam,
    delete,
    exists,
    insert,
    not_,
    select,
)

from schedsearch.errors import DamagedStudyError
from schedsearch.storage.attribute_rules import STUDY_RULES, parse_attribute
from schedsearch.storage.attributes import BASELINE
from schedsearch.storage.clock import Clock
from schedsearch.storage.tables import (
    directions,
    studies,
    study_attributes,
    study_system_attributes,
    system_attributes,
    trials,
    user_attributes,
)


@lru_cache
def _rows(keys: tuple[str, ...] | None = None) -> Select[Any]:
    """Select the studies with their attributes; a study without any has one row without a key."""
    of_study = studies.c.study_id == study_attributes.c.study_id
    return select(
        studies.c.study_id,
        studies.c.study_name,
        study_attributes.c.key,
        study_attributes.c.value_json,
    ).join_from(
        studies,
        study_attributes,
        of_study if keys is None else of_study & study_attributes.c.key.in_(keys),
        isouter=True,
    )


@dataclass(frozen=True)
class StudyAttributes:
    """The attributes of one study; each is parsed and checked when it is read.

    Attributes:
        study_id: the id of the study.
        name: its name.
        texts: the JSON texts of the attributes by key.
    """

    study_id: int
    name: str
    texts: Mapping[str, str]

    def __contains__(self, key: str) -> bool:
        return key in self.texts

    def get(self, key: str, default: Any = None) -> Any:
        """Return an attribute, or the default if the study does not have it.

        Raises:
            DamagedStudyError: the attribute is not valid.
        """
        if key not in self.texts:
            return default
        return parse_attribute(self.texts[key], STUDY_RULES, key, study=self.name)

    def __getitem__(self, key: str) -> Any:
        """Return an attribute that every study has; raise DamagedStudyError if it is missing."""
        if key not in self.texts:
            rule = STUDY_RULES[key].words
            raise DamagedStudyError.missing(self.name, None, key, rule)
        return self.get(key)


def load_all_studies(connection: Connection) -> list[StudyAttributes]:
    """Return the attributes of all studies, by name."""
    return _load(connection, _rows())


def load_study(connection: Connection, name: str) -> StudyAttributes | None:
    """Return the attributes of a study; None if there is no such study."""
    found = _load(connection, _rows().where(studies.c.study_name == name))
    # The name may be one that is not stored as text, see `_shown`.
    found = found or load_all_studies(connection)
    return next((study for study in found if study.name == name), None)


def load_attributes(
    connection: Connection, study_id: int, keys: tuple[str, ...] | None = None
) -> StudyAttributes:
    """Return the attributes of a study by its id, or only those with some keys.

    Raises:
        KeyError: the study does not exist.
    """
    found = _load(connection, _rows(keys).where(studies.c.study_id == study_id))
    if not found:
        raise KeyError(f"there is no study {study_id}")
    return found[0]


def load_attributes_and_time(
    connection: Connection, study_id: int, keys: tuple[str, ...]
) -> tuple[StudyAttributes, float]:
    """Return some attributes of a study, and the time by the clock of the database: at once.

    Raises:
        KeyError: the study does not exist.
    """
    rows = connection.execute(_rows_and_time(keys), {"study": study_id}).all()
    if not rows:
        raise KeyError(f"there is no study {study_id}")
    [found] = _group(row[:-1] for row in rows)
    return found, float(rows[0][-1])


@lru_cache
def _rows_and_time(keys: tuple[str, ...]) -> Select[Any]:
    of_study = studies.c.study_id == bindparam("study")
    return _rows(keys).add_columns(Clock().label("clock")).where(of_study)


def has_study(connection: Connection, study_id: int) -> bool:
    """Return whether a study exists."""
    query = select(studies.c.study_id).where(studies.c.study_id == study_id)
    return connection.execute(query).first() is not None


def require_study(connection: Connection, study_id: int) -> None:
    """Raise KeyError if a study does not exist."""
    if not has_study(connection, study_id):
        raise KeyError(f"there is no study {study_id}")


def load_names(connection: Connection) -> list[str]:
    """Return the names of all studies, sorted."""
    return sorted(map(_shown, connection.scalars(select(studies.c.study_name))))


def _shown(name: object) -> str:
    """Return the name of a study as text: another program may store bytes in a SQLite file."""
    return name if isinstance(name, str) else repr(name)


def check_study_rows(connection: Connection, study_id: int, name: str, direction: str) -> None:
    """Check what Optuna reads of a study beside its attributes.

    Args:
        connection: a connection.
        study_id: the id of the study.
        name: its name.
        direction: the direction of its objective, "minimize" or "maximize".

    Raises:
        DamagedStudyError: its direction is another one, or a system attribute is not JSON.
    """
    found = list(
        connection.scalars(select(directions.c.direction).where(directions.c.study_id == study_id))
    )
    if found != [direction.upper()]:
        raise DamagedStudyError(name, None, "direction", found, f"['{direction.upper()}']")
    for key, text in connection.execute(_of_study(study_id)):
        parse_attribute(text, {}, key, study=name)


def has_other_trials(connection: Connection, study_id: int) -> bool:
    """Return whether a study has trials other than the trial 0 that `start` queues."""
    is_baseline = exists().where(
        user_attributes.c.trial_id == trials.c.trial_id, user_attributes.c.key == BASELINE
    )
    is_queued = (trials.c.number == 0) & (trials.c.state == "WAITING") & is_baseline
    query = select(trials.c.trial_id).where(trials.c.study_id == study_id, not_(is_queued))
    return connection.execute(query.limit(1)).first() is not None


def _of_study(study_id: int) -> Select[Any]:
    return select(study_system_attributes.c.key, study_system_attributes.c.value_json).where(
        study_system_attributes.c.study_id == study_id
    )


def load_system_attributes(connection: Connection, study_id: int) -> list[tuple[str, str]]:
    """Return the system attributes of a study and of its trials: keys, and JSON texts."""
    of_trials = (
        select(system_attributes.c.key, system_attributes.c.value_json)
        .join_from(trials, system_attributes, trials.c.trial_id == system_attributes.c.trial_id)
        .where(trials.c.study_id == study_id)
    )
    return [
        (key, text)
        for query in (_of_study(study_id), of_trials)
        for key, text in connection.execute(query)
    ]


def set_attribute(connection: Connection, table: Table, study_id: int, key: str, text: str) -> None:
    """Set an attribute of a study to a JSON text, in a table of studies' attributes."""
    delete_attribute(connection, table, study_id, key)
    row = {"study_id": study_id, "key": key, "value_json": text}
    connection.execute(insert(table), row)


def delete_attribute(connection: Connection, table: Table, study_id: int, key: str) -> None:
    """Delete an attribute of a study, if it is there."""
    connection.execute(delete(table).where(table.c.study_id == study_id, table.c.key == key))


def load_by_prefix(
    connection: Connection, table: Table, study_id: int, prefix: str
) -> dict[str, str]:
    """Return the JSON texts of the attributes with a prefix, by key without the prefix."""
    query = select(table.c.key, table.c.value_json).where(
        table.c.study_id == study_id, table.c.key.startswith(prefix, autoescape=True)
    )
    return {key.removeprefix(prefix): text for key, text in connection.execute(query)}


def _load(connection: Connection, query: Select[Any]) -> list[StudyAttributes]:
    return _group(connection.execute(query))


def _group(rows: Iterable[Sequence[Any]]) -> list[StudyAttributes]:
    texts: dict[int, dict[str, str]] = {}
    names: dict[int, str] = {}
    for study_id, name, key, text in rows:
        names[study_id] = _shown(name)
        of_study = texts.setdefault(study_id, {})
        if key is not None:
            of_study[key] = text
    by_name = sorted(names, key=lambda study_id: names[study_id])
    return [StudyAttributes(study_id, names[study_id], texts[study_id]) for study_id in by_name]
