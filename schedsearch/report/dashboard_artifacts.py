"""What the dashboard shows beside Optuna's own: pictures of trials, a note, and a few plots."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from optuna.artifacts.exceptions import ArtifactNotFound
from optuna.trial import FrozenTrial

from schedsearch.confirmation.study import confirmation_result
from schedsearch.errors import summarize_exception
from schedsearch.report.dashboard_note import merge_note, study_note
from schedsearch.report.dashboard_plots import study_plots
from schedsearch.storage import Database, StudyHandle, ranked
from schedsearch.trajectories import Folder, picture_folder

#: Where Optuna keeps what it knows of an artifact: with its trial while that is in training, and
#: with the study afterwards, since a trial that has ended is never changed.
_WITH_TRIAL = "artifacts:"
_WITH_STUDY = "dashboard:artifacts:"


def picture_store(database: Database) -> Folder:
    """Return where a database's pictures are kept."""
    return Folder(picture_folder(database.url))


class DashboardArtifacts:
    """Shows one study in the dashboard. It is a worker's onlooker."""

    def __init__(self, study: StudyHandle) -> None:
        self._study = study
        self._store = picture_store(study.database)

    def on_best_trial(self, trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> Mapping[str, str]:
        """Keep a trial's picture, and return the attributes that the trial shows it by."""
        artifact_id, about = self._keep(trial, trials)
        return {f"{_WITH_TRIAL}{artifact_id}": about}

    def attach(self, trial: FrozenTrial) -> None:
        """Keep a picture of a trial that has ended, and show it; an earlier one makes room.

        Raises:
            StudyError: the trial has no curve to draw.
        """
        storage, study_id = self._study.database.optuna, self._study.study_id
        prefix = f"{_WITH_STUDY}{trial._trial_id}:"
        earlier = [
            key for key in storage.get_study_system_attrs(study_id) if key.startswith(prefix)
        ]
        artifact_id, about = self._keep(trial, self._study.trials())
        storage.set_study_system_attr(study_id, f"{prefix}{artifact_id}", about)
        for key in earlier:
            storage.set_study_system_attr(study_id, key, json.dumps(None))
            self._remove(key.removeprefix(prefix))

    def refresh(self, trials: Sequence[FrozenTrial]) -> None:
        """Write the study's note and its plots as they stand now; a person's additions stay."""
        from optuna_dashboard import get_note, save_note, save_plotly_graph_object

        study = self._study.load()
        before = get_note(study)
        note = study_note(self._study.space, trials, confirmation_result(self._study))
        after = merge_note(note, before)
        if after != before:
            save_note(study, after)
        for name, graph in study_plots(self._study.space, trials).items():
            save_plotly_graph_object(study, graph, graph_object_id=name)

    def pictures(self) -> list[str]:
        """Return the names of all pictures that the study shows."""
        storage, study_id = self._study.database.optuna, self._study.study_id
        attributes: list[Mapping[str, Any]] = [storage.get_study_system_attrs(study_id)]
        trials = storage.get_all_trials(study_id, deepcopy=False)
        attributes.extend(trial.system_attrs for trial in trials)
        return [name for table in attributes for name in _pictures_in(table)]

    def remove(self, pictures: Sequence[str]) -> None:
        """Remove pictures, of a study that was deleted."""
        for name in pictures:
            self._remove(name)

    def _remove(self, artifact_id: str) -> None:
        with suppress(ArtifactNotFound):
            self._store.remove(artifact_id)

    def _keep(self, trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> tuple[str, str]:
        """Draw a trial and write the file, before anything says that there is one."""
        # Loaded here: a worker needs matplotlib for its best trials only.
        from schedsearch.report.pictures import draw_trial, image

        constant = next(iter(ranked(self._study.space, trials, constant=True)), None)
        content = image(draw_trial(self._study.space, trial, constant), "png")
        artifact_id = str(uuid.uuid4())
        self._store.write(artifact_id, io.BytesIO(content))
        about = {
            "artifact_id": artifact_id,
            "filename": f"trial_{trial.number}.png",
            "mimetype": "image/png",
            "encoding": None,
        }
        return artifact_id, json.dumps(about)


def refresh_dashboard(study: StudyHandle, say: Callable[[str], None]) -> None:
    """Update a study's note and plots; report a failure by `say`, since it must stop no command."""
    try:
        DashboardArtifacts(study).refresh(study.trials())
    except Exception as error:
        say(f"the dashboard's note and plots are out of date: {summarize_exception(error)}")


def _pictures_in(attributes: Mapping[str, Any]) -> Iterator[str]:
    for key, value in attributes.items():
        if key.startswith((_WITH_TRIAL, _WITH_STUDY)) and (about := json.loads(value)) is not None:
            yield about["artifact_id"]
