"""The race of a study: budget, idempotency, resuming, and what samplers and reports see of it."""

from __future__ import annotations

import math
import re
import threading
from collections import Counter
from datetime import timedelta

import pytest
from optuna.trial import TrialState

from schedsearch.confirmation.candidates import candidates
from schedsearch.export import best_trial
from schedsearch.report.optimization_history import improvements, optimization_history
from schedsearch.report.status import read_status
from schedsearch.report.status_text import summary_lines
from schedsearch.samplers.observations import Observations
from schedsearch.storage import StudyHandle, open_database, open_study, rank_plans
from schedsearch.storage.attributes import PLAN, RACED_TRIAL, SEED, UNPRUNED, is_superseded
from schedsearch.storage.pruned_view import PrunedView
from tests.race.simulated import SimulatedWorker, noisy, race_runs, study_with_race
from tests.searches import url_of
from tests.storage.lost_answers import lost_answer


@pytest.fixture
def url(tmp_path):
    return url_of(tmp_path)


def keys(study: StudyHandle) -> Counter[tuple[int, int]]:
    """Count the runs of the race by plan and seed; a retry is the same run."""
    return Counter((t.user_attrs[RACED_TRIAL], t.user_attrs[SEED]) for t in race_runs(study))


def assert_ended(study: StudyHandle, total: int) -> None:
    counts = study.queue.counts()
    assert counts.finished == counts.trials == total
    assert study.has_ended()
    assert set(keys(study).values()) <= {1}
    by_number = {trial.number: trial for trial in study.trials()}
    for trial in race_runs(study):
        first = by_number[trial.user_attrs[RACED_TRIAL]]
        assert trial.user_attrs[PLAN] == first.user_attrs[PLAN]
        assert trial.user_attrs[UNPRUNED]
        assert first.state is TrialState.COMPLETE


@pytest.mark.parametrize("lanes", [3, 64])
def test_a_study_ends_with_its_trials_of_which_the_race_has_at_most_its_share(url, lanes):
    study = study_with_race(url, trials=100)
    SimulatedWorker(study, lanes=lanes).run()
    assert_ended(study, 100)
    assert 20 <= len(race_runs(study)) <= 25
    seeds = [trial.user_attrs[SEED] for trial in race_runs(study)]
    assert set(seeds) == {1, 2, 3, 4}


def test_schedules_and_constants_get_one_more_seed_in_each_round(url):
    study = study_with_race(url, trials=200, race={"share": 0.5})
    SimulatedWorker(study).run()
    assert_ended(study, 200)
    for constant in (False, True):
        best = study.ranked_plans(constant=constant)[0]
        assert 2 < best.seeds <= 5
        of_run = [noisy(best.number, seed) for seed in range(best.seeds)]
        assert best.mean == pytest.approx(sum(of_run) / best.seeds)
        assert max(plan.seeds for plan in study.ranked_plans(constant=constant)) == 5
    by_seed = Counter(seed for (number, seed) in keys(study) if study.trial(number).number % 4)
    assert by_seed[1] >= 16
    assert by_seed[1] > by_seed[2] > by_seed[3] >= by_seed[4] >= 2


def test_a_budget_of_epochs_bounds_the_race_too(url):
    study = study_with_race(url, trials=1000, epochs=9 * 80)
    SimulatedWorker(study, epochs=9).run()
    assert len(race_runs(study)) <= 20
    assert study.has_ended()
    assert study.queue.counts().epochs == 9 * 80


@pytest.mark.parametrize("race", [None, {"top": 0}, {"share": 0.01}])
def test_without_a_race_every_trial_tries_another_plan(url, race):
    search = {"race": race} if race else {}
    study = study_with_race(url, trials=40, **{"race": {"top": 0}, **search})
    SimulatedWorker(study).run()
    assert_ended(study, 40)
    assert not race_runs(study)


def test_a_race_that_needs_fewer_runs_leaves_the_rest_to_new_plans(url):
    # Nearly all schedules diverge, so that few plans can race.
    study = study_with_race(url, trials=60)
    SimulatedWorker(study, value=lambda n, s: noisy(n, s) if n % 8 == 1 else math.nan).run()
    counts = study.queue.counts()
    assert counts.finished == 60
    assert study.has_ended()
    assert set(keys(study).values()) == {1}


def test_more_trials_continue_the_race(url):
    SimulatedWorker(study_with_race(url, trials=60)).run()
    study = study_with_race(url, trials=120)
    before = keys(study)
    SimulatedWorker(study).run()
    assert_ended(study, 120)
    assert before.items() <= keys(study).items()
    assert len(race_runs(study)) <= 30


def test_the_race_goes_on_where_it_was_with_whichever_worker(tmp_path):
    found = []
    for name, fresh in (("one", False), ("many", True)):
        (tmp_path / name).mkdir()
        study = study_with_race(url_of(tmp_path / name), trials=100)
        worker = SimulatedWorker(study)
        while worker.round():
            if fresh:
                live = worker.live
                worker = SimulatedWorker(study)
                worker.live = live
        found.append([t.user_attrs.get(RACED_TRIAL) for t in study.trials()])
    assert found[0] == found[1]


def test_workers_that_decide_at_the_same_time_queue_no_run_twice(url):
    study_with_race(url, trials=100)
    workers = [
        SimulatedWorker(open_study(open_database(url), "small"), f"w{i}", lanes=3) for i in range(3)
    ]
    start = threading.Barrier(3)

    def work(worker: SimulatedWorker) -> None:
        study = open_study(open_database(url), "small")
        start.wait()
        while worker.round() or not study.has_ended():
            pass

    threads = [threading.Thread(target=work, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    study = open_study(open_database(url), "small")
    assert_ended(study, 100)
    assert race_runs(study)


def to_the_race(study: StudyHandle, worker: SimulatedWorker) -> None:
    """Work until the worker has claimed runs of the race."""
    while not any(t.state is TrialState.RUNNING for t in race_runs(study)):
        assert worker.round()


def test_a_run_whose_worker_dies_is_trained_by_another_one(url):
    study = study_with_race(url, trials=100)
    gone = SimulatedWorker(study, "gone")
    to_the_race(study, gone)
    lost = [t.number for t in race_runs(study) if t.state is TrialState.RUNNING]
    assert study.queue.requeue_trials_of("gone") == len(gone.live)
    SimulatedWorker(study, "heir").run()
    assert study.queue.requeue_lost(timedelta(0)) == 0
    assert_ended(study, 100)
    assert all(is_superseded(row) for row in study.rows() if row.number in lost)


def test_a_lost_answer_to_the_commit_that_queues_the_race_queues_it_once(url):
    study = study_with_race(url, trials=100)
    worker = SimulatedWorker(study)
    while study.queue.counts().finished < 48:
        worker.round()
    assert not race_runs(study)
    for _ in range(4):
        with lost_answer(study.database.engine) as lost:
            assert worker.round()
        assert lost
    assert race_runs(study)
    worker.run()
    assert_ended(study, 100)


def test_a_plan_with_a_further_run_that_diverged_or_failed_drops_out(url):
    study = study_with_race(url, trials=100)
    first = SimulatedWorker(study)
    to_the_race(study, first)
    bad = race_runs(study)[0].user_attrs[RACED_TRIAL]
    worker = SimulatedWorker(
        study, value=lambda n, seed: math.nan if n == bad and seed else noisy(n, seed)
    )
    worker.live = first.live
    worker.run()
    assert_ended(study, 100)
    assert [seed for number, seed in keys(study) if number == bad] == [1]
    ranked = study.ranked_plans()
    assert ranked[-1].number == bad
    assert (ranked[-1].seeds, ranked[-1].diverged) == (1, 1)


def test_samplers_and_pruners_see_each_plan_once(url):
    study = study_with_race(url, trials=100)
    worker = SimulatedWorker(study)
    worker.run()
    shown = PrunedView(worker.storage).get_all_trials(study.study_id, deepcopy=False)
    for trial in shown:
        is_race = RACED_TRIAL in trial.user_attrs
        assert (trial.state is TrialState.FAIL) == is_race
        assert bool(trial.intermediate_values) != is_race
    observations = Observations(study.load().direction)
    observations.update(shown)
    assert observations.count == 100 - len(race_runs(study))


def test_everything_that_ranks_uses_the_mean_over_the_runs_of_a_plan(url):
    study = study_with_race(url, trials=100)
    SimulatedWorker(study).run()
    schedule, constant = (study.ranked_plans(constant=kind)[0] for kind in (False, True))
    best = study.ranked_plans()[0]
    lucky = min(study.trials(), key=lambda trial: trial.value)
    assert best.seeds > 1
    assert lucky.value < best.mean
    status = read_status(study)
    for found, plan in (
        (status.best, best),
        (status.best_schedule, schedule),
        (status.best_constant, constant),
    ):
        assert found is not None
        assert (found.number, found.value) == (plan.number, plan.mean)
        assert (found.seeds, found.error) == (plan.seeds, plan.error)
    assert best_trial(study).number == best.number
    schedules, constants = candidates(study, top=1)
    assert schedules[0].number == schedule.number
    assert constants[0].number == constant.number
    history = optimization_history(study.space, study.trials())
    values = {trial.number: trial.value for trial in history}
    assert values[best.number] == best.mean
    assert all(values[trial.number] is None for trial in race_runs(study))
    assert improvements(history)[-1].number == best.number
    assert improvements(history, constants=True)[-1].number == constant.number
    assert improvements(history)[-1].value == best.mean


def test_status_names_the_seeds_behind_a_mean_and_the_runs_of_the_race(url):
    study = study_with_race(url, trials=100)
    worker = SimulatedWorker(study)
    to_the_race(study, worker)
    assert read_status(study).to_json()["race"]["ended"] < len(race_runs(study))
    worker.run()
    status, runs = read_status(study), len(race_runs(study))
    assert status.to_json()["race"] == {"runs": runs, "ended": runs}
    found = status.to_json()["best_schedule"]
    assert found["among"] == len(study.ranked_plans(constant=False))
    lines = summary_lines(status)
    [line] = [line for line in lines if line.startswith("schedule")]
    seeds = f"mean of {found['seeds']} seeds ± standard error after"
    assert f"the best of {found['among']}, {seeds} " in line
    assert f"± {found['error']:.2g}" in line
    assert f"race      {runs} of {runs} further runs of the best plans ended" in "\n".join(lines)
    [line] = [line for line in lines if line.startswith("          complete: ")]
    counted = [int(number) for number in re.findall(r"\d+", line)]
    assert f"{found['among']} schedules, " in line
    assert f"{runs} further runs of these (race)" in line
    assert sum(counted) == status.counts.complete


def test_a_plan_without_further_runs_is_not_ranked_before_those_of_the_race(url):
    study = study_with_race(url, trials=100)
    # The first seed is much easier than the others, and so is each value with it.
    SimulatedWorker(study, value=lambda n, seed: noisy(n, seed) + 100 * (seed > 0)).run()
    ranked = rank_plans(study.space, study.trials(), constant=False)
    assert [plan.seeds > 1 for plan in ranked] == sorted(
        [p.seeds > 1 for p in ranked], reverse=True
    )
    deepest = [plan for plan in ranked if plan.seeds == ranked[0].seeds]
    assert ranked[0].mean == min(plan.mean for plan in deepest)


def test_the_standard_error_falls_with_the_number_of_runs(url):
    study = study_with_race(url, trials=40)
    SimulatedWorker(study).run()
    ranked = study.ranked_plans()
    spread = ranked[0].error * math.sqrt(ranked[0].seeds)
    assert {plan.seeds for plan in ranked} > {1}
    for plan in ranked:
        assert plan.error == pytest.approx(spread / math.sqrt(plan.seeds))
