"""Pictures, note and plots in the dashboard, read back by optuna-dashboard and Optuna."""

from __future__ import annotations

import json

import optuna_dashboard
import pytest
from optuna.artifacts import get_all_artifact_meta

from schedsearch.errors import StudyError
from schedsearch.report.dashboard_artifacts import (
    DashboardArtifacts,
    linked_pictures,
    picture_store,
    remove_pictures,
)
from tests.searches import document, make_study, work


@pytest.fixture
def study(tmp_path):
    study = make_study(tmp_path, document(trials=20))
    work(study, best_trial_callback=DashboardArtifacts(study))
    return study


def shown(study, trial):
    """Return Optuna's descriptions of a trial's artifacts."""
    return get_all_artifact_meta(trial, storage=study.database.optuna)


def files(study):
    folder = picture_store(study.database).path
    return {file.name for file in folder.iterdir()} if folder.is_dir() else set()


def best_so_far(study):
    """Return the trials that were the best when they ended, in order."""
    best, found = float("inf"), []
    for trial in sorted(study.complete_trials(), key=lambda trial: trial.datetime_complete):
        if trial.value < best:
            best = trial.value
            found.append(trial)
    return found


def test_exactly_the_trials_that_were_the_best_so_far_have_a_picture(study):
    pictured = {trial.number for trial in study.trials() if shown(study, trial)}
    assert pictured == {trial.number for trial in best_so_far(study)}
    assert len(pictured) < len(study.complete_trials())
    [about] = shown(study, study.complete_trials()[0])
    assert (about.mimetype, about.filename) == (
        "image/png",
        f"trial_{study.complete_trials()[0].number}.png",
    )
    with picture_store(study.database).open_reader(about.artifact_id) as file:
        assert file.read(4) == b"\x89PNG"


def test_the_picture_is_stored_before_its_trial_ends(tmp_path):
    study = make_study(tmp_path)
    seen = []

    class Watching(DashboardArtifacts):
        def on_best_trial(self, trial, trials):
            attributes = super().on_best_trial(trial, trials)
            seen.append((trial.state.is_finished(), len(files(study))))
            return attributes

    work(study, best_trial_callback=Watching(study))
    assert seen == [(False, count) for count in range(1, len(seen) + 1)]
    assert seen


def test_a_picture_that_fails_costs_one_warning_and_the_search_goes_on(tmp_path):
    study = make_study(tmp_path)

    class Failing(DashboardArtifacts):
        def on_best_trial(self, trial, trials):
            raise OSError("no space left on device")

    ears = work(study, best_trial_callback=Failing(study))
    assert study.queue.counts().finished == 10
    assert "trial 0 gets no picture: " in ears.wrong[0]


def test_attach_adds_a_picture_to_any_trial_and_replaces_an_earlier_one(study):
    other = next(t for t in study.trials() if t.intermediate_values and not shown(study, t))
    before = files(study)
    key = f"dashboard:artifacts:{other._trial_id}:"

    def kept():
        attributes = study.database.optuna.get_study_system_attrs(study.study_id)
        found = [json.loads(value) for k, value in attributes.items() if k.startswith(key)]
        return [about["artifact_id"] for about in found if about is not None]

    DashboardArtifacts(study).attach(other)
    [first] = kept()
    assert files(study) == before | {first}
    DashboardArtifacts(study).attach(other)
    [second] = kept()
    assert files(study) == before | {second}
    assert second != first


def test_all_pictures_of_a_study_can_be_removed(study):
    other = next(t for t in study.trials() if t.intermediate_values and not shown(study, t))
    DashboardArtifacts(study).attach(other)
    pictures = linked_pictures(study.database, study.study_id)
    assert set(pictures) == files(study)
    remove_pictures(study.database, pictures)
    assert files(study) == set()


def test_the_note_shows_the_space_the_best_schedule_and_the_best_constant(study):
    text = optuna_dashboard.get_note(study.load())
    schedule, constant = (study.complete_trials(constant=kind)[0] for kind in (False, True))
    assert "`tests.searches:train`, 9 epochs" in text
    assert "- `lr`: constant, exponential" in text
    assert "schedsearch export small -o best.toml" in text
    assert f"| best constant | {constant.number} | {constant.value:.5g} |" in text
    best = min(schedule, constant, key=lambda trial: trial.value)
    assert f"| {best.number} | {best.value:.5g} |" in text


def test_text_that_a_user_wrote_stays(study):
    loaded = study.load()
    text = optuna_dashboard.get_note(loaded)
    optuna_dashboard.save_note(loaded, f"{text}\nAsk Ann about trial 7.")
    DashboardArtifacts(study).refresh(study.trials()[:3])
    changed = optuna_dashboard.get_note(loaded)
    assert changed != text
    assert changed.endswith("\nAsk Ann about trial 7.")
    optuna_dashboard.save_note(loaded, "Mine alone.")
    DashboardArtifacts(study).refresh(study.trials())
    assert optuna_dashboard.get_note(loaded) == "Mine alone."


def test_the_plots_are_few_and_small(study):
    DashboardArtifacts(study).refresh(study.trials())
    attributes = study.database.optuna.get_study_system_attrs(study.study_id)
    kept = {key: len(value) for key, value in attributes.items() if "plot_data" in key}
    assert {key.split(":")[2] for key in kept} == {"best-so-far", "families"}
    assert sum(kept.values()) < 10_000


def test_a_trial_without_a_curve_has_no_picture_to_attach(tmp_path):
    study = make_study(tmp_path)
    with pytest.raises(StudyError, match="trial 0 has no curve to draw"):
        DashboardArtifacts(study).attach(study.trial(0))
    assert files(study) == set()
