"""Training loops that end before the horizon: the trial is complete with what was reported."""

from __future__ import annotations

import json

import pytest
from optuna.trial import TrialState, create_trial

from schedsearch import Space
from schedsearch.confirmation.confirm import prepare_confirmation
from schedsearch.confirmation.result_schema import find_mistake
from schedsearch.export import trial_to_config
from schedsearch.pruners import make_pruner
from schedsearch.report.confirmation import confirmation_lines
from schedsearch.report.dashboard_note import study_note
from schedsearch.report.status import read_status
from schedsearch.report.status_text import summary_lines
from schedsearch.reproduction import ConfigTrainer, to_json
from schedsearch.samplers import make_sampler
from schedsearch.storage.attributes import RUNS, STOPPED_AFTER, requested_epochs
from schedsearch.trajectories import open_store
from schedsearch.trajectories.cached_runs import CachedRuns
from tests import searches
from tests.searches import Ears, document, make_study, make_worker, work


def stopping(**search):
    return document(searches.train_until_near, pruner={"name": "none"}, **search)


def expected_epochs(trial, seed=0):
    """Return how many epochs the loop reports with the plan of a trial."""
    values, distance = trial.user_attrs["values"]["lr"], 5.0 + seed
    curve = [values] * 9 if isinstance(values, float) else values
    for epoch, value in enumerate(curve):
        distance *= 1 - value
        if abs(distance) < 1.0:
            return epoch if seed == 1 else epoch + 1
    return 9


def cached_work(study, name="ann"):
    """Work as `work`, with a cache of all epochs, however cheap."""
    store = open_store(study.database, print)
    runs = CachedRuns(
        store,
        space=study.space,
        fingerprint=study.record.fingerprint,
        numerics=study.record.numerics,
        cache_cheap=True,
    )
    ears = Ears()
    make_worker(study, name, lambda: False, ears, cached_runs=runs).run()
    return ears


@pytest.fixture
def study(tmp_path):
    study = make_study(tmp_path, stopping())
    work(study)
    return study


def test_a_trial_that_stops_is_complete_with_its_last_report_and_says_after_which_epoch(study):
    trials = study.trials()
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 10
    stopped = [trial for trial in trials if STOPPED_AFTER in trial.user_attrs]
    assert 0 < len(stopped) < 10
    for trial in trials:
        epochs = len(trial.intermediate_values)
        assert trial.user_attrs.get(STOPPED_AFTER, 9) == epochs == expected_epochs(trial)
        assert trial.value == trial.intermediate_values[epochs]


def test_the_default_may_stop_too(tmp_path):
    content = stopping(trials=1)
    content["hyperparameters"]["lr"]["default"] = 0.5
    study = make_study(tmp_path, content)
    ears = work(study)
    [trial] = study.trials()
    assert (trial.state, trial.user_attrs[STOPPED_AFTER]) == (TrialState.COMPLETE, 3)
    assert ears.well == ["trial 0 complete: val_loss 1.125, stopped after 3 epochs"]


def test_an_epoch_that_was_left_before_its_report_does_not_count(tmp_path):
    content = stopping(trials=1, seed=1)
    content["hyperparameters"]["lr"]["default"] = 0.5
    study = make_study(tmp_path, content)
    work(study)
    [trial] = study.trials()
    # The distances are 6, 3, 1.5 and 0.75: the last one is not reported.
    assert (trial.value, trial.user_attrs[STOPPED_AFTER]) == (2.0, 2)


def test_with_several_seeds_a_stopped_run_keeps_its_last_metric(tmp_path):
    study = make_study(tmp_path, stopping(seeds=3, trials=6))
    work(study)
    for trial in study.trials():
        runs = trial.user_attrs[RUNS]
        lengths = [expected_epochs(trial, seed) for seed in range(3)]
        assert [run.get("stopped_after", 9) for run in runs] == lengths
        assert len(trial.intermediate_values) == max(lengths)
        assert trial.user_attrs.get(STOPPED_AFTER, 9) == max(lengths)
        assert trial.value == pytest.approx(sum(run["value"] for run in runs) / 3, rel=1e-15)
        assert requested_epochs(trial, 3, len(trial.intermediate_values)) == sum(lengths)
        assert "trained" not in trial.user_attrs


def test_status_and_note_say_that_the_best_trial_stopped(study):
    status = read_status(study)
    after = status.best.stopped_after
    assert after == study.complete_trials()[0].user_attrs[STOPPED_AFTER]
    assert status.to_json()["best"]["stopped_after"] == after
    text = "\n".join(summary_lines(status))
    assert f"(trial {status.best.number}, stopped after {after} epochs)" in text
    for best, is_constant in ((status.best_schedule, False), (status.best_constant, True)):
        trials = study.complete_trials(constant=is_constant)
        stopped = sum(STOPPED_AFTER in trial.user_attrs for trial in trials)
        assert best.stopped == stopped
        trained = f", of which {stopped} stopped before the horizon of 9 epochs"
        assert f", the best of {len(trials)}{trained if stopped else ' after 9 epochs'}\n" in text
    assert status.best.stopped == status.best_schedule.stopped + status.best_constant.stopped > 0
    note = study_note(study.space, study.trials(), None)
    assert f"| {status.best.number}, stopped after {after} epochs |" in note
    assert status.epochs_requested == status.epochs_trained


@pytest.mark.parametrize("seed", [0, 1])
def test_the_same_plan_is_not_trained_twice(tmp_path, seed):
    content = stopping(trials=4, seed=seed)
    content["hyperparameters"]["lr"]["default"] = 0.5
    study = make_study(tmp_path, content)
    cached_work(study)
    again = make_study(tmp_path, content | {"name": "again"})
    again.queue.enqueue(
        [
            create_trial(state=TrialState.WAITING, user_attrs={"plan": trial.user_attrs["plan"]})
            for trial in study.trials()[1:]
        ]
    )
    cached_work(again, "bob")
    for before, after in zip(study.trials(), again.trials(), strict=True):
        assert after.value == before.value
        assert after.user_attrs.get(STOPPED_AFTER) == before.user_attrs.get(STOPPED_AFTER)
        assert after.user_attrs["trained"] == 0
    assert any(STOPPED_AFTER in trial.user_attrs for trial in again.trials())


@pytest.mark.parametrize("reuse", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_train_reproduces_a_stopped_trial(tmp_path, reuse, seed):
    content = stopping(trials=4, seed=seed)
    content["hyperparameters"]["lr"]["default"] = 0.5
    study = make_study(tmp_path, content)
    cached_work(study)
    trial = next(t for t in study.complete_trials() if STOPPED_AFTER in t.user_attrs)
    config = Space.from_document(json.loads(json.dumps(trial_to_config(study, trial))), "best")
    store = open_store(study.database, print) if reuse else None
    trainer = ConfigTrainer(config, store)
    run = trainer.train(seed, lambda run: None)
    assert run.value == trial.value
    assert run.stopped_after == trial.user_attrs[STOPPED_AFTER] == run.epoch
    assert set(run.test) == {"test_loss"}
    assert (run.epochs_read, run.epochs_trained) == ((run.epoch, 0) if reuse else (0, run.epoch))
    assert to_json([run], trainer)["runs"][0]["stopped_after"] == run.stopped_after


@pytest.mark.parametrize("name", ["asha", "median"])
def test_pruners_compare_with_the_last_value_of_a_stopped_trial(tmp_path, name):
    options = {"name": name, "min_epochs": 2, "reduction_factor": 2, "startup_trials": 1}
    study = make_study(tmp_path, document(trials=3, pruner=options))
    pruner = make_pruner(study.space)
    storage = study.database.optuna
    loaded = study.load_for_search(make_sampler(study.space, "ann"), pruner, storage)
    loaded.add_trial(
        create_trial(
            value=0.1,
            intermediate_values={1: 0.3, 2: 0.2, 3: 0.1},
            user_attrs={STOPPED_AFTER: 3, "plan": study.space.baseline().to_tables()},
        )
    )
    worse = dict.fromkeys(range(1, 9), 0.15)
    for reports, prune in ((worse, True), (dict.fromkeys(worse, 0.05), False)):
        trial = create_trial(state=TrialState.RUNNING, intermediate_values=reports)
        loaded.add_trial(trial)
        assert pruner.prune(loaded, loaded.trials[-1]) == prune


def test_confirm_counts_a_stopped_run_by_its_test_metric_and_says_how_many_stopped(study):
    with prepare_confirmation(study, top=1, seeds=6) as confirmation:
        ears = work(confirmation.study, "confirms")
        result = confirmation.judge()
    assert (result["metric"], result["test"]) == ("test_loss", True)
    runs = [trial for trial in confirmation.study.trials() if STOPPED_AFTER in trial.user_attrs]
    assert runs
    assert sum(entry["stopped"] for entry in [*result["plans"], *result["constants"]]) == len(runs)
    for trial in runs:
        assert trial.value == trial.user_attrs["test"] < 1.0
        after = trial.user_attrs[STOPPED_AFTER]
        assert any(line.endswith(f", stopped after {after} epochs") for line in ears.well)
    assert find_mistake(result) is None
    text = "\n".join(confirmation_lines(result))
    for entry in [*result["plans"], *result["constants"]]:
        assert entry["stopped"] == 0 or f" ({entry['stopped']} stopped early)" in text
