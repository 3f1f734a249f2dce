"""The worker's loop: what becomes of a trial, whatever the task does."""

from __future__ import annotations

import itertools
import math
import re
from datetime import timedelta

import pytest
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from schedsearch.errors import SchedSearchError, StudyError, TaskError
from schedsearch.pruners import AshaPruner
from schedsearch.report.status import read_status
from schedsearch.storage import translate_database_error
from schedsearch.worker import Heartbeat
from tests import searches
from tests.claims import claim
from tests.searches import Ears, document, is_constant, make_study, make_worker, work

#: Takes over stale trials after three seconds.
IMPATIENT = Heartbeat(grace=timedelta(seconds=3))


def test_workers_after_each_other_never_overshoot_the_total(tmp_path):
    study = make_study(tmp_path)
    work(study, "ann")
    work(study, "bob")
    counts = study.queue.counts()
    assert (counts.finished, counts.trials) == (10, 10)
    make_study(tmp_path, document(trials=13))
    work(study, "ann-again")
    assert study.queue.counts().finished == 13


def test_every_epoch_is_reported_with_the_epochs_trained_as_its_step(tmp_path):
    study = make_study(tmp_path)
    work(study)
    for trial in study.trials():
        steps = list(trial.intermediate_values)
        assert steps == list(range(1, len(steps) + 1))
        assert (len(steps) == 9) == (trial.state is TrialState.COMPLETE)
        assert trial.value == trial.intermediate_values[steps[-1]]
    assert study.queue.counts().epochs == sum(len(t.intermediate_values) for t in study.trials())


def test_a_trial_keeps_its_plan_values_terms_and_runs_and_little_else(tmp_path):
    study = make_study(tmp_path, document(seeds=2))
    work(study)
    baseline, *drawn = study.trials()
    assert set(baseline.user_attrs) == {
        *("baseline", "plan", "unpruned", "worker"),
        *("values", "terms", "runs"),
    }
    assert baseline.user_attrs["values"] == {"lr": 0.1}
    assert len(baseline.user_attrs["terms"]["fit"]) == 9
    decaying = next(trial for trial in drawn if not is_constant(study, trial))
    assert len(decaying.user_attrs["values"]["lr"]) == len(decaying.intermediate_values)


def test_with_several_seeds_the_mean_is_reported_and_each_run_is_listed(tmp_path):
    study = make_study(tmp_path, document(seeds=3, seed=7))
    work(study)
    for trial in study.complete_trials():
        runs = trial.user_attrs["runs"]
        assert [run["seed"] for run in runs] == [7, 8, 9]
        assert len({run["value"] for run in runs}) == 3
        assert trial.value == pytest.approx(sum(run["value"] for run in runs) / 3, rel=1e-15)


def test_bounds_that_hold_back_are_counted_by_epoch(tmp_path):
    content = document(pruner={"name": "none"})
    content["hyperparameters"]["lr"]["bounds"] = [0.1, 0.9]
    study = make_study(tmp_path, content)
    work(study)
    for trial in study.trials():
        values = trial.user_attrs["values"]["lr"]
        by_epoch = [values] * 9 if isinstance(values, float) else values
        if trial.number > 0:  # the baseline stands right on the bound
            assert trial.user_attrs.get("clamped", {}).get("lr", 0) == by_epoch.count(0.1)


@pytest.mark.parametrize("task", [searches.train_to_nan, searches.train_to_infinity])
def test_a_diverged_run_is_pruned_says_when_and_the_search_goes_on(tmp_path, task):
    study = make_study(tmp_path, document(task))
    ears = work(study)
    diverged = [trial for trial in study.trials() if "diverged" in trial.user_attrs]
    assert diverged
    for trial in diverged:
        assert trial.state is TrialState.PRUNED
        assert trial.user_attrs["diverged"] == 1
        assert math.isnan(trial.intermediate_values[1])
    assert study.queue.counts().finished == 10
    assert f"trial {diverged[0].number} diverged in epoch 1" in ears.well
    assert not ears.wrong


def test_what_the_task_raises_fails_the_trial_and_three_in_a_row_end_the_worker(tmp_path):
    study = make_study(tmp_path, document(searches.train_and_raise))
    with pytest.raises(SchedSearchError, match="3 trials in a row failed, the last with") as caught:
        work(study)
    assert caught.value.exit_code == 1
    trials = study.trials()
    assert [trial.state for trial in trials] == [TrialState.FAIL] * 3
    for trial in trials:
        assert "ZeroDivisionError: the third epoch" in trial.user_attrs["traceback"]
        assert "in train_and_raise" in trial.user_attrs["traceback"]
    assert study.queue.counts().running == 0


def test_a_failure_is_one_line_on_screen(tmp_path):
    study = make_study(tmp_path, document(searches.train_and_raise, trials=1))
    ears = work(study)
    [line] = ears.wrong
    error = "ZeroDivisionError: the third epoch is one too many"
    assert re.fullmatch(rf"trial 0 failed in epoch 3: {error} \(searches\.py:\d+\)", line)


def test_a_task_that_leaves_by_sys_exit_fails_its_trial_only(tmp_path):
    study = make_study(tmp_path, document(searches.train_and_exit, trials=2))
    work(study)
    assert study.queue.counts().failed == 2


def test_drawn_parameters_that_break_a_rule_together_are_refused_and_the_search_goes_on(tmp_path):
    content = document(sampler={"name": "random"})
    both = {"low": 1, "high": 9}
    content["hyperparameters"]["lr"]["families"]["join"] = {
        "schedules": [{"constant": {"value": v}} for v in (0.1, 0.2, 0.3)],
        "boundaries": [both, both],
    }
    study = make_study(tmp_path, content)
    work(study)
    refused = [trial for trial in study.trials() if "refused" in trial.user_attrs]
    assert refused
    assert {trial.state for trial in refused} == {TrialState.PRUNED}
    assert all("join" in trial.user_attrs["refused"] for trial in refused)
    assert study.queue.counts().finished == 10


def test_growth_that_overflows_only_at_the_horizon_is_refused_alike(tmp_path):
    content = document(sampler={"name": "random"})
    families = content["hyperparameters"]["lr"]["families"]
    families["exponential"] = {"initial": 0.1, "decay_rate": {"low": 1e30, "high": 1e80}}
    study = make_study(tmp_path, content)
    work(study)
    assert any("overflows" in trial.user_attrs.get("refused", "") for trial in study.trials())
    assert study.queue.counts().finished == 10


def test_a_metric_that_the_task_does_not_give_is_reported_and_nothing_stays_running(tmp_path):
    content = document()
    content["objective"]["metric"] = "val_los"
    study = make_study(tmp_path, content)
    with pytest.raises(
        TaskError, match=r"objective\.metric of small is `val_los`, but .* reports val_loss: did"
    ):
        work(study)
    counts = study.queue.counts()
    assert (counts.running, counts.waiting, counts.trials) == (0, 1, 1)


def test_a_worker_that_is_told_to_stop_hands_its_trial_back(tmp_path):
    study = make_study(tmp_path, document(searches.train_slowly))
    rounds = iter([False, False, False, True])
    work(study, should_stop=lambda: next(rounds))
    lost, successor = study.load().trials
    assert (lost.state, lost.user_attrs["superseded_by"]) == (TrialState.FAIL, 1)
    assert list(lost.intermediate_values) == [1, 2, 3]
    assert (successor.state, successor.user_attrs["retry_of"]) == (TrialState.WAITING, 0)
    assert successor.intermediate_values == {}


def test_ctrl_c_during_the_handing_back_still_leaves_nothing_running(tmp_path):
    study = make_study(tmp_path, document(searches.train_slowly))

    def interrupt() -> bool:
        if study.queue.counts().epochs > 2:
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        work(study, should_stop=interrupt)
    assert (study.queue.counts().running, study.queue.counts().waiting) == (0, 1)


def test_a_trial_that_was_taken_over_is_dropped_and_its_late_writes_change_nothing(tmp_path):
    study = make_study(tmp_path, document(trials=2, pruner={"name": "none"}))

    def steal_once() -> bool:
        rows = study.load().trials
        if len(rows) == 1 and len(rows[0].intermediate_values) == 3:
            study.queue.requeue_trials_of("ann")
        return False

    ears = work(study, should_stop=steal_once)
    assert ears.wrong == ["trial 0 was taken over by another worker: dropped"]
    lost, successor, drawn = study.load().trials
    assert list(lost.intermediate_values) == [1, 2, 3]
    assert [successor.state, drawn.state] == [TrialState.COMPLETE] * 2
    assert list(successor.intermediate_values) == list(range(1, 10))


def test_a_database_that_fails_in_mid_run_is_one_line_and_no_input_error(tmp_path):
    study = make_study(tmp_path)

    def break_it() -> bool:
        if study.queue.counts().epochs >= 3:
            with study.database.engine.begin() as connection:
                connection.exec_driver_sql("DROP TABLE trial_intermediate_values")
        return False

    with pytest.raises(SQLAlchemyError) as caught:
        work(study, should_stop=break_it)
    failure = translate_database_error(caught.value)
    assert failure is not None
    assert failure.exit_code == 1
    assert str(failure) == "the database failed: no such table: trial_intermediate_values"


def test_constants_are_a_share_of_the_draws_spread_over_the_study(tmp_path):
    study = make_study(tmp_path, document(trials=41, pruner={"name": "none"}))
    work(study)
    indices = [t.user_attrs["draw"] for t in study.trials()[1:] if "unpruned" in t.user_attrs]
    assert indices == [6, 13, 19, 26, 33, 39]
    assert all(is_constant(study, t) for t in study.trials() if "unpruned" in t.user_attrs)


def test_a_worker_takes_over_the_trial_of_one_that_died_before_it_ends(tmp_path):
    study = make_study(tmp_path, document(trials=3))
    claim(study, "dead")
    make_worker(
        study, "successor", lambda: False, Ears(), heartbeat=Heartbeat(grace=timedelta(seconds=3))
    ).run()
    counts = study.queue.counts()
    assert (counts.finished, counts.running, counts.waiting) == (3, 0, 0)


def test_a_trial_that_optuna_queued_is_completed_by_the_sampler(tmp_path):
    study = make_study(tmp_path, document(trials=4))
    study.load().enqueue_trial({"lr.family": "constant", "lr.constant.value": 0.3})
    ears = work(study)
    assert not ears.wrong
    assert study.trial(1).params["lr.constant.value"] == 0.3
    assert study.queue.counts().finished == 4


def test_a_schedule_that_is_given_is_no_difference_between_constants_and_schedules(tmp_path):
    content = document(trials=21, pruner={"name": "none"})
    given = {"exponential": {"initial": 0.5, "decay_rate": 0.9}}
    searched = {
        "constant": {"value": {"low": 0.0, "high": 1.0}},
        "linear": {"initial": {"low": 0.0, "high": 1.0}, "final": 0.0},
    }
    content["hyperparameters"] = {
        "lr": {"families": given},
        "reg": {"default": 0.5, "families": searched},
    }
    study = make_study(tmp_path, content)
    work(study)
    baseline = study.trial(0).user_attrs["plan"]["hyperparameters"]
    assert set(baseline["lr"]["families"]) == {"exponential"}
    exempt = [t for t in study.trials() if "unpruned" in t.user_attrs]
    assert len(exempt) == 4
    assert {t.number for t in exempt} <= {t.number for t in study.complete_trials(constant=True)}


def test_what_a_worker_saw_of_a_lost_round_neither_prunes_nor_proposes(tmp_path):
    study = make_study(tmp_path, document(trials=40))
    robberies = itertools.count()

    def steal_what_ends() -> bool:
        seen = worker._session.storage.get_all_trials(study.study_id, deepcopy=False)
        stored = study.load().trials
        ended = [t.state.is_finished() and not stored[t.number].state.is_finished() for t in seen]
        # Within the round: the pruner may have seen what ended, and it is not yet written.
        if any(ended) and next(robberies) in range(1, 24, 2):
            study.queue.requeue_trials_of("ann")
        return False

    worker = make_worker(study, "ann", steal_what_ends, Ears(), trials=5)
    worker.run()
    trials = worker._session.optuna.trials
    assert study.queue.counts().finished == 40 < len(trials)
    remembered, fresh = worker._session.optuna.pruner, AshaPruner((2, 6), 3)
    assert isinstance(remembered, AshaPruner)
    for pruner in (remembered, fresh):
        pruner._update(trials, 1.0)
    assert remembered._finished == fresh._finished
    schedules, _ = worker._session.optuna.sampler._samplers
    [cache] = schedules._caches[worker._session.optuna._storage].values()
    learned = cache.update(worker._session.optuna).best_rows()
    assert sorted(learned) == [t.number for t in trials if "superseded_by" not in t.user_attrs]


def test_a_study_that_is_deleted_during_its_search_is_reported_in_one_line(tmp_path):
    study = make_study(tmp_path, document(searches.train_slowly))

    def delete_it() -> bool:
        if study.queue.counts().epochs > 2:
            study.database.optuna.delete_study(study.study_id)
        return False

    with pytest.raises(StudyError, match=r"^study `small` was deleted during the search$"):
        work(study, should_stop=delete_it)


def test_a_worker_waits_for_the_trial_of_another_and_takes_it_over_when_that_one_is_lost(tmp_path):
    study = make_study(tmp_path, document(trials=2))
    claim(study, "another")
    ears = Ears()
    make_worker(
        study, "successor", lambda: False, ears, heartbeat=Heartbeat(grace=timedelta(seconds=3))
    ).run()
    waiting = "waiting up to 13 s for trial 0 of worker another, which may still be alive"
    assert [line for line in ears.well if line.startswith("waiting")] == [waiting]
    counts = study.queue.counts()
    assert (counts.finished, counts.running, counts.waiting) == (2, 0, 0)
    assert "retry_of" in study.trial(2).user_attrs


@pytest.mark.parametrize("epochs", [9, 40, 63])
def test_a_budget_in_epochs_is_never_overstepped_and_leaves_no_room_for_a_trial(tmp_path, epochs):
    study = make_study(tmp_path, document(trials=1000, epochs=epochs))
    make_worker(study, "ann", lambda: False, Ears(), trials=3).run()
    counts = study.queue.counts()
    assert (counts.running, counts.waiting) == (0, 0)
    assert epochs - 9 < counts.epochs <= epochs
    assert read_status(study).state == "done"
    assert study.queue.remaining() == 0


def test_a_budget_in_epochs_grows_and_the_search_goes_on(tmp_path):
    work(make_study(tmp_path, document(trials=1000, epochs=20)))
    study = make_study(tmp_path, document(trials=1000, epochs=100))
    work(study, "bob")
    assert 91 < study.queue.counts().epochs <= 100


def test_trials_that_were_lost_cost_the_budget_nothing(tmp_path):
    study = make_study(tmp_path, document(trials=1000, epochs=45, pruner={"name": "none"}))
    rounds = itertools.count()
    work(study, should_stop=lambda: next(rounds) == 4)
    work(study, "bob")
    assert study.queue.counts().finished == 5


def test_failures_count_in_a_row_a_trial_that_ends_well_begins_the_count_again(tmp_path):
    study = make_study(tmp_path, document(searches.train_or_raise_by_rate, trials=1))
    queue = study.load()
    # Above 0.5 the task raises: two failures, a success, two failures.
    for rate in (0.6, 0.7, 0.2, 0.6, 0.7):
        queue.enqueue_trial({"lr.family": "constant", "lr.constant.value": rate})
    work(study)
    counts = study.queue.counts()
    assert (counts.failed, counts.complete) == (4, 2)


def test_what_a_loop_raises_after_its_last_epoch_is_shown_once_and_fails_no_trial(tmp_path):
    study = make_study(tmp_path, document(searches.train_and_raise_afterwards))
    ears = work(study)
    assert study.queue.counts().failed == 0
    [line] = ears.wrong
    assert re.match(
        r"trial 0 is complete, but the training loop raised after its last epoch: "
        r"ZeroDivisionError: no test data \(.*searches\.py:\d+\); `confirm`",
        line,
    )


@pytest.mark.parametrize(
    ("task", "value", "warns"),
    [
        (searches.train, "best", True),
        (searches.train, "last", False),
        (searches.train_on, "best", False),
    ],
)
def test_a_loop_without_checkpoints_is_told_once_that_the_best_epoch_needs_them(
    tmp_path, task, value, warns
):
    content = document(task, trials=2)
    content["objective"]["value"] = value
    ears = work(make_study(tmp_path, content))
    assert [line for line in ears.wrong if "call run.checkpoint in every epoch" in line] == (
        ears.wrong[:1] if warns else []
    )
