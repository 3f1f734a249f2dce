"""Deletion of a study, whatever its rows hold: Optuna reads them first, and fails at wrong ones."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, delete, select

from schedsearch.storage.claims import lock_study
from schedsearch.storage.database import Database
from schedsearch.storage.tables import (
    directions,
    heartbeats,
    parameters,
    reports,
    studies,
    study_attributes,
    study_system_attributes,
    system_attributes,
    trials,
    user_attributes,
    values,
)

_OF_TRIALS = (user_attributes, system_attributes, parameters, reports, values, heartbeats)
#: A table after those that refer to it.
_OF_STUDIES = (trials, study_attributes, study_system_attributes, directions, studies)
_LOCK_TRIALS = (
    select(trials.c.trial_id)
    .where(trials.c.study_id == bindparam("study"))
    .order_by(trials.c.trial_id)
    .with_for_update()
)


def delete_study(database: Database, study_id: int) -> None:
    """Delete a study and its trials in one transaction.

    No process that has read the study by Optuna may go on with it: Optuna caches its trials.
    """

    def delete_rows(connection: Connection) -> None:
        lock_study(connection, study_id)
        # Batches append to trials without the lock of the study.
        connection.execute(_LOCK_TRIALS, {"study": study_id})
        mine = select(trials.c.trial_id).where(trials.c.study_id == study_id)
        for table in _OF_TRIALS:
            connection.execute(delete(table).where(table.c.trial_id.in_(mine)))
        for table in _OF_STUDIES:
            connection.execute(delete(table).where(table.c.study_id == study_id))

    database.write(delete_rows)
