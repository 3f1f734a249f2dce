"""Additions to optuna-dashboard: pictures of trials, a note, and a few plots."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property

from optuna.artifacts.exceptions import ArtifactNotFound
from optuna.trial import FrozenTrial

from schedsearch.confirmation.stored_result import confirmation_result
from schedsearch.errors import summarize_exception
from schedsearch.explanation.stored_result import explanation_result
from schedsearch.report.dashboard_note import merge_note, study_note
from schedsearch.report.dashboard_plots import study_plots
from schedsearch.storage import (
    SHAPE_ERRORS,
    Database,
    StudyHandle,
    load_system_attributes,
    rank_plans,
)
from schedsearch.trajectories import Folder, open_picture_folder

#: Prefixes of the attributes that describe artifacts. A running trial stores its own; the study
#: stores those of trials that have ended, since these cannot be changed.
_TRIAL_PREFIX = "artifacts:"
_STUDY_PREFIX = "dashboard:artifacts:"


def picture_store(database: Database) -> Folder:
    """Return the artifact store with the pictures of a database's trials.

    Raises:
        InputError: the folder is a link or belongs to another user.
    """
    return open_picture_folder(database)


class DashboardArtifacts:
    """Adds pictures, a note and plots for one study to the dashboard; a `BestTrialCallback`."""

    def __init__(self, study: StudyHandle) -> None:
        self._study = study

    @cached_property
    def _store(self) -> Folder:
        # Not before it is needed: a folder that is refused must not stop a worker.
        return picture_store(self._study.database)

    def on_best_trial(self, trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> Mapping[str, str]:
        """Store a trial's picture, and return the attributes that link it to the trial."""
        artifact_id, description = self._store_picture(trial, trials)
        return {f"{_TRIAL_PREFIX}{artifact_id}": description}

    def attach(self, trial: FrozenTrial) -> None:
        """Store a picture of a trial that has ended, in place of an earlier one.

        Raises:
            StudyError: the trial has no curve to draw.
            InputError: the folder is a link or belongs to another user.
        """
        storage, study_id = self._study.database.optuna, self._study.study_id
        prefix = f"{_STUDY_PREFIX}{trial._trial_id}:"
        replaced = [
            key for key in storage.get_study_system_attrs(study_id) if key.startswith(prefix)
        ]
        artifact_id, description = self._store_picture(trial, self._study.trials())
        storage.set_study_system_attr(study_id, f"{prefix}{artifact_id}", description)
        for key in replaced:
            storage.set_study_system_attr(study_id, key, json.dumps(None))
            _remove(self._store, key.removeprefix(prefix))

    def refresh(self, trials: Sequence[FrozenTrial]) -> None:
        """Update the study's note and its plots; text that a user added to the note stays."""
        from optuna_dashboard import get_note, save_note, save_plotly_graph_object

        study = self._study.load()
        previous = get_note(study)
        note = study_note(
            self._study.space,
            trials,
            confirmation_result(self._study),
            explanation_result(self._study),
        )
        updated = merge_note(note, previous)
        if updated != previous:
            save_note(study, updated)
        for name, graph in study_plots(self._study.space, trials).items():
            save_plotly_graph_object(study, graph, graph_object_id=name)

    def _store_picture(self, trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> tuple[str, str]:
        """Draw a trial and write the file; return its artifact id and description."""
        # Imported here: a worker needs matplotlib for its best trials only.
        from schedsearch.report.pictures import draw_trial, image

        ranked = rank_plans(self._study.space, trials, constant=True)
        constant = ranked[0].trial if ranked else None
        content = image(draw_trial(self._study.space, trial, constant), "png")
        artifact_id = str(uuid.uuid4())
        self._store.write(artifact_id, io.BytesIO(content))
        description = {
            "artifact_id": artifact_id,
            "filename": f"trial_{trial.number}.png",
            "mimetype": "image/png",
            "encoding": None,
        }
        return artifact_id, json.dumps(description)


def linked_pictures(database: Database, study_id: int) -> list[str]:
    """Return the artifact ids of all pictures of a study, and of its trials.

    An attribute that is no link to a picture is left out: a damaged study can be deleted too.
    """
    return [
        picture
        for key, text in database.read(
            lambda connection: load_system_attributes(connection, study_id)
        )
        if (picture := _picture_in(key, text)) is not None
    ]


def remove_pictures(database: Database, pictures: Sequence[str]) -> None:
    """Remove the pictures of a deleted study.

    Raises:
        InputError: the folder is a link or belongs to another user.
    """
    if pictures:
        store = picture_store(database)
        for artifact_id in pictures:
            _remove(store, artifact_id)


def _remove(store: Folder, artifact_id: str) -> None:
    # An OSError: something else than a picture has its name.
    with suppress(ArtifactNotFound, OSError):
        store.remove(artifact_id)


def refresh_dashboard(study: StudyHandle, say: Callable[[str], None]) -> None:
    """Update a study's note and plots; report a failure by `say`, since it must stop no command."""
    try:
        DashboardArtifacts(study).refresh(study.trials())
    except Exception as error:
        say(f"the dashboard's note and plots are out of date: {summarize_exception(error)}")


def _picture_in(key: str, text: str) -> str | None:
    """Return the artifact id in the JSON text of a system attribute; None if there is none.

    optuna-dashboard stores the description of an artifact as JSON text in the JSON text.
    """
    if not key.startswith((_TRIAL_PREFIX, _STUDY_PREFIX)):
        return None
    try:
        found = json.loads(json.loads(text))["artifact_id"]
    except SHAPE_ERRORS:
        return None
    return found if isinstance(found, str) else None
