"""Reuse in searches: trials with common first epochs train them once."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import func, select

from schedsearch.engines import make_engine
from schedsearch.errors import InputError, StudyError
from schedsearch.extension import ExtendedStudy, extend_study
from schedsearch.preparation import ComputeOptions, choose_numerics, prepare_space
from schedsearch.run import CheckpointPolicy
from schedsearch.space import Space
from schedsearch.storage import (
    BatchedStorage,
    StudyHandle,
    create_study,
    get_only_study,
    open_database,
    plan_of,
)
from schedsearch.storage.attributes import UNPRUNED
from schedsearch.task import load_task
from schedsearch.trajectories import cached_runs, open_store
from schedsearch.trajectories.cached_runs import CachedRuns
from schedsearch.trajectories.tables import checkpoints, nodes
from schedsearch.worker import Messages, ProcessControl, Worker
from schedsearch.worker.session import StudySession
from tests.scripted import ScriptedEngine
from tests.searches import begin, document, url_of, write_space
from tests.trajectories.test_trie import statements


def grid_of(segments: int, values: int, length: int = 2) -> dict[str, Any]:
    """Return a space of all plans of equal segments, each with one of several values."""
    levels = [round(0.01 * (1 + i), 2) for i in range(values)]
    lr = {
        "default": levels[0],
        "families": {
            "constant": {"value": {"levels": levels}},
            "piecewise": {
                "segments": segments,
                "values": {"levels": levels},
                "duration": segments * length,
            },
        },
    }
    return {
        "name": "grid",
        "task": "tests.engines.toys:Toy",
        "horizon": segments * length,
        "objective": {"metric": "val_loss"},
        "search": {
            "trials": 10**6,
            "sampler": {"name": "grid"},
            "pruner": {"name": "none"},
        },
        "hyperparameters": {"lr": lr},
    }


def search(folder, content: dict[str, Any], *, reuse: bool = True, lanes: int = 1) -> StudyHandle:
    prepared = prepare_space(Space.from_document(content, "space.toml"))
    numerics = choose_numerics(prepared, ComputeOptions(), say=print)
    if lanes > 1:
        numerics |= {"engine": "lanes", "lanes": lanes}
    study = create_study(open_database(url_of(folder), create=True), prepared.record(numerics))
    continue_search(study, reuse=reuse)
    return study


def continue_search(
    study: StudyHandle,
    *,
    reuse: bool = True,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    numerics = study.record.numerics
    engine = make_engine(
        load_task(study.space.task), horizon=study.space.horizon, numerics=numerics
    )
    Worker(
        study,
        [engine],
        name="ann",
        cached_runs=CachedRuns.of_study(
            study, open_store(study.database, print) if reuse else None
        ),
        control=ProcessControl(should_stop),
        messages=Messages(print, print),
    ).run()


def trained(study: StudyHandle) -> int:
    return sum(t.user_attrs.get("trained", len(t.intermediate_values)) for t in study.trials())


def test_a_worker_that_stops_writes_its_checkpoints_before_it_hands_its_trials_back(
    tmp_path, monkeypatch
):
    prepared = prepare_space(Space.from_document(grid_of(3, 3, length=10), "space.toml"))
    numerics = choose_numerics(prepared, ComputeOptions(), say=print)
    study = create_study(open_database(url_of(tmp_path), create=True), prepared.record(numerics))
    hand_back, saved = StudySession.hand_back, list[int]()

    def count() -> int:
        rows = select(func.count()).select_from(checkpoints)
        return study.database.read(lambda connection: connection.execute(rows).scalar_one())

    def count_and_hand_back(session: StudySession) -> None:
        saved.append(count())
        hand_back(session)

    monkeypatch.setattr(StudySession, "hand_back", count_and_hand_back)
    rounds = itertools.count()
    continue_search(study, should_stop=lambda: next(rounds) == 1)
    assert study.queue.counts().waiting == 1
    assert saved == [count()] > [0]


@pytest.mark.parametrize(("segments", "values"), [(3, 3), (4, 3)])
def test_a_grid_of_segments_trains_each_beginning_once(tmp_path, segments, values):
    study = search(tmp_path, grid_of(segments, values))
    assert len(study.complete_trials()) == values**segments + values
    assert trained(study) == 2 * sum(values**i for i in range(1, segments + 1))


@pytest.mark.parametrize("lanes", [1, 4])
def test_every_metric_is_the_one_without_reuse_bit_for_bit(tmp_path, lanes):
    found = []
    for reuse in (True, False):
        folder = tmp_path / str(reuse)
        folder.mkdir()
        study = search(folder, grid_of(3, 2), reuse=reuse, lanes=lanes)
        by_plan = {str(t.user_attrs["plan"]): t.intermediate_values for t in study.trials()}
        found.append(by_plan)
    assert found[0] == found[1]


def test_a_requeued_trial_continues_where_it_was_stopped(tmp_path):
    content = grid_of(3, 2, length=10)
    prepared = prepare_space(Space.from_document(content, "space.toml"))
    numerics = choose_numerics(prepared, ComputeOptions(), say=print)
    database = open_database(url_of(tmp_path), create=True)
    study = create_study(database, prepared.record(numerics))
    continue_search(study, should_stop=lambda: study.queue.counts().epochs >= 13)
    assert study.queue.counts().waiting == 1
    continue_search(study)
    successor = next(t for t in study.trials() if t.user_attrs.get("retry_of") == 0)
    assert list(successor.intermediate_values) == list(range(1, 31))
    # A worker that stops saves a checkpoint of its last epoch: no epoch is trained twice.
    behind = len(study.rows()[0].intermediate_values)
    assert behind >= 13
    assert successor.user_attrs["trained"] == 30 - behind


def extended(study: StudyHandle, horizon: int, **options: Any) -> ExtendedStudy:
    options = {"top": 3, "stretch": False, "store": open_store(study.database, print)} | options
    return extend_study(study, horizon=horizon, **options)


def test_a_longer_study_continues_where_its_parent_ended(tmp_path):
    content = grid_of(3, 2)
    parent = search(tmp_path, content)
    child = extended(parent, 9)
    best = {str(plan_of(trial)): trial for trial in parent.complete_trials()}
    assert child.study.name == "grid@9"
    assert (child.plans, child.epochs, child.cached) == (3, 36, 24)  # with trial 0
    assert all(t.user_attrs[UNPRUNED] for t in child.study.trials())
    continue_search(child.study)
    trials = child.study.trials()
    assert [t.user_attrs.get("trained") for t in trials[1:]] == [3, 3, 3]
    for trial in trials[1:]:
        own = parent.trial(trial.user_attrs["parent"]).intermediate_values
        assert {e: v for e, v in trial.intermediate_values.items() if e <= 6} == own
    assert len(best) >= 3
    assert extended(parent, 9).study.queue.counts().trials == 4


@pytest.mark.parametrize("lanes", [1, 4])
def test_the_best_of_a_search_with_cheap_epochs_go_on_over_a_longer_horizon(
    tmp_path, monkeypatch, lanes
):
    monkeypatch.setattr(cached_runs, "_CHEAP_EPOCH", 60.0)
    monkeypatch.setattr(cached_runs, "_BEST_SAVED", 5)
    content = document(trials=30, pruner={"name": "none"}) | {"task": "tests.engines.toys:Toy"}
    lr = content["hyperparameters"]["lr"]
    lr["default"] = 0.01  # too small to be among the best
    rule = {"initial": {"low": 0.01, "high": 0.9}, "factor": 0.5, "patience": 1}
    lr["families"]["reduce_on_plateau"] = rule
    parent = search(tmp_path, content, lanes=lanes)
    child = extended(parent, 15, top=5)
    assert (child.epochs, child.cached) == (6 * 15, 6 * 9)
    continue_search(child.study)
    assert trained(child.study) == 6 * (15 - 9)  # trial 0 ended first, so it was kept as well
    # Other trials are not saved.
    count = select(func.count(nodes.c.run.distinct()))
    assert parent.database.read(lambda c: c.execute(count).scalar_one()) < 30

    (tmp_path / "apart").mkdir()
    alone = search(tmp_path / "apart", content, reuse=False, lanes=lanes)
    again = extended(alone, 15, top=5, store=None)
    assert again.cached == 0
    continue_search(again.study, reuse=False)
    for with_reuse, without in ((parent, alone), (child.study, again.study)):
        for one, other in zip(with_reuse.trials(), without.trials(), strict=True):
            assert one.intermediate_values == other.intermediate_values


def test_cheap_epochs_are_cached_if_plans_of_the_space_share_them(tmp_path, monkeypatch):
    monkeypatch.setattr(cached_runs, "_CHEAP_EPOCH", 60.0)
    study = search(tmp_path, grid_of(3, 2))
    assert trained(study) == 2 * sum(2**i for i in range(1, 4))


def test_the_next_lease_is_granted_with_the_batch_and_takes_no_query(tmp_path):
    study = search(tmp_path, grid_of(2, 2) | {"name": "other"})
    reuse = CachedRuns.of_study(study, open_store(study.database, print), {"engine": "another"})
    run = reuse.begin(ScriptedEngine([]), study.space.baseline(), 0)
    with BatchedStorage(study.database).batch(study.study_id, "ann") as batch:
        reuse.request_leases([run])
        reuse.add_to_batch(batch)
    with statements(study.database) as made:
        assert reuse.lease([run]) == {run}
    assert made == []


def test_durations_stay_epochs_or_stay_shares(tmp_path):
    content = grid_of(3, 2)
    content["hyperparameters"]["lr"]["families"]["piecewise"]["duration"] = "100%"
    parent = search(tmp_path, content)
    kept, stretched = (
        [plan_of(t) for t in extended(parent, h, stretch=stretch).study.trials()[1:]]
        for h, stretch in ((12, False), (18, True))
    )
    durations = [
        {getattr(plan.schedules[("lr",)], "duration", None) for plan in plans}
        for plans in (kept, stretched)
    ]
    assert durations[0] <= {6, None}
    assert durations[1] <= {"100%", None}


def test_plans_that_no_longer_change_where_their_parent_ended_are_counted(tmp_path):
    content = grid_of(3, 2)
    final = {"levels": [0.01, 0.02, 0.03]}
    content["hyperparameters"]["lr"]["families"] = {
        "constant": {"value": 0.01},
        "linear": {"initial": 0.01, "final": final, "duration": "100%"},
    }
    parent = search(tmp_path, content)
    assert extended(parent, 12, top=20).settled == 2
    assert extended(parent, 18, top=20, stretch=True).settled == 0


@pytest.mark.parametrize(("period", "settled"), [(5, 1), (4, 0)])
def test_restarts_go_on_over_a_longer_horizon_unless_the_last_one_was_left_out(
    tmp_path, period, settled
):
    content = grid_of(3, 2) | {"schedule_version": 2}
    restarts = {"initial": 0.01, "final": 0.03, "period": period}
    content["hyperparameters"]["lr"]["families"] = {
        "constant": {"value": 0.01},
        "warm_restarts": restarts,
    }
    parent = search(tmp_path, content)
    child = extended(parent, 12, top=20)
    assert child.settled == settled
    # All epochs of the parent keep their values.
    assert child.cached == child.epochs // 2
    assert extended(parent, 18, top=20, stretch=True).settled == 0


TRIANGLE = {"initial": 0.01, "peak": 0.02, "rise": 0.5, "fall": 0.5}


@pytest.mark.parametrize(
    ("family", "settled"),
    [
        ({"linear": {"initial": 0.01, "final": 0.03, "duration": "75%"}}, 1),
        ({"linear": {"initial": 0.01, "final": 0.03, "duration": 6.5}}, 0),
        # The same values at the beginning of every epoch.
        ({"triangular": TRIANGLE}, 0),
        # The same values in each epoch from the fourth on.
        (
            {
                "join": {
                    "schedules": [{"constant": {"value": 0.01}}, {"triangular": TRIANGLE}],
                    "boundaries": [3],
                }
            },
            0,
        ),
    ],
)
def test_values_by_the_step_continue_over_a_longer_horizon(tmp_path, family, settled):
    content = grid_of(3, 2)
    content["hyperparameters"]["lr"] |= {
        "interval": "step",
        "families": {"constant": {"value": 0.01}, **family},
    }
    parent = search(tmp_path, content)
    child = extended(parent, 9, top=20)
    assert child.settled == settled
    assert (child.epochs, child.cached) == (27, 18)
    continue_search(child.study)
    for trial in child.study.trials()[1:]:
        own = parent.trial(trial.user_attrs["parent"]).intermediate_values
        assert {e: v for e, v in trial.intermediate_values.items() if e <= 6} == own


def test_the_durations_of_a_longer_study_cannot_be_changed(tmp_path):
    parent = search(tmp_path, grid_of(2, 2))
    extended(parent, 8)
    extended(parent, 10, stretch=True)
    for horizon, stretch, created in ((8, True, "without"), (10, False, "with")):
        with pytest.raises(StudyError, match=f"was created {created} --stretch"):
            extended(parent, horizon, stretch=stretch)


def test_a_longer_study_needs_more_epochs_and_a_complete_trial(tmp_path):
    parent = search(tmp_path, grid_of(2, 2))
    with pytest.raises(InputError, match="--horizon is 4, but must be more than the 4 epochs"):
        extended(parent, 4)


@pytest.mark.long
@pytest.mark.parametrize(("segments", "values"), [(4, 5), (10, 2)])
def test_two_workers_and_many_lanes_train_hardly_anything_twice(tmp_path, segments, values):
    least = 2 * sum(values**i for i in range(1, segments + 1))
    (tmp_path / "lanes").mkdir()
    study = search(tmp_path / "lanes", grid_of(segments, values), lanes=16)
    assert least <= trained(study) <= 1.05 * least
    path = write_space(tmp_path, grid_of(segments, values))
    flags = ("--storage", url_of(tmp_path), "--workers", 2, "--lanes", 1)
    process = begin("start", path, *flags, folder=tmp_path)
    _, err = process.communicate(timeout=500)
    assert process.returncode == 0, err
    study = get_only_study(open_database(url_of(tmp_path)))
    assert study.queue.counts().finished == values**segments + values
    assert least <= trained(study) <= 1.05 * least


def test_epochs_that_a_lane_repeats_to_catch_up_are_not_reported_again(tmp_path, monkeypatch):
    # Without checkpoints a plan that leaves a known prefix trains it again before it continues.
    monkeypatch.setattr(CheckpointPolicy, "should_save", lambda *_: False)
    reports: list[tuple[int, int]] = []
    report = BatchedStorage.set_trial_intermediate_value

    def record(storage: BatchedStorage, trial_id: int, step: int, value: float) -> None:
        reports.append((trial_id, step))
        report(storage, trial_id, step, value)

    monkeypatch.setattr(BatchedStorage, "set_trial_intermediate_value", record)
    study = search(tmp_path, grid_of(3, 3))
    assert len(reports) == len(set(reports)) == len(study.trials()) * study.space.horizon
