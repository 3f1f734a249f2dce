"""A run replays cached epochs, trains the others in a lane, and saves checkpoints."""

from __future__ import annotations

import math

import pytest

from schedsearch.engines import EpochResult
from schedsearch.errors import TaskError
from schedsearch.run import CheckpointPolicy
from tests.scripted import HORIZON, ListCursor, cached_by, engine_of, replayed, run_of, train


class TestReplay:
    def test_cached_epochs_are_replayed_and_only_the_others_are_added(self):
        run, engine, cursor = replayed(4)
        run.enter_lane(0)
        train(run)
        assert run.history.objective("val_loss") == list(engine.metrics)
        assert len(cursor.cached) == HORIZON
        assert len(run.history.values) == len(run.history.terms) == HORIZON

    def test_a_lane_without_a_checkpoint_repeats_the_epochs_without_recording_them(self):
        run, _, _ = replayed(4)
        run.enter_lane(0)
        assert run.is_catching_up
        before = list(run.history.values)
        train(run, 4)
        assert run.history.values == before
        assert (run.epochs, run.lane_epoch, run.epochs_trained) == (4, 4, 4)
        assert not run.is_catching_up

    def test_a_lane_starts_from_the_last_checkpoint(self):
        run, engine, cursor = replayed(4)
        cursor.saved.append(3)
        run.enter_lane(0)
        assert engine.filled_from == [3]
        assert run.lane_epoch == 3
        train(run)
        assert engine.trained == [4, 5, 6]
        assert run.epochs_trained == 3

    def test_a_run_without_replayed_epochs_looks_for_no_checkpoint(self):
        cursor = ListCursor()
        cursor.saved.append(0)
        engine = engine_of()
        run_of(engine, cursor).enter_lane(0)
        assert engine.filled_from == [None]

    def test_a_repeated_epoch_is_trained_with_the_values_that_it_had(self):
        writer = ListCursor()
        rates = (0.1, 0.2, 0.3)
        cursor = cached_by(run_of(engine_of(), writer, rates=rates), writer, 4)
        run = run_of(engine_of(), cursor, rates=rates)
        while run.replay_epoch():
            pass
        run.enter_lane(0)
        seen = []
        while not run.ended or run.is_catching_up:
            seen.append(run.lane_values["lr"])
            train(run, 1)
        assert seen == [0.1, 0.1, 0.2, 0.2, 0.3, 0.3]

    def test_a_run_that_ended_replays_nothing_more(self):
        run, _, cursor = replayed(HORIZON)
        lookups = cursor.lookups
        assert run.ended
        assert not run.replay_epoch()
        assert cursor.lookups == lookups

    def test_a_run_with_a_read_only_cache_looks_nothing_up_once_it_trains(self):
        run, _, cursor = replayed(2, policy=None)
        lookups = cursor.lookups
        run.enter_lane(0)
        train(run, 1)
        assert not run.replay_epoch()
        train(run)
        assert cursor.lookups == lookups
        assert len(cursor.cached) == 2
        assert cursor.saved == []

    def test_a_run_that_stopped_caching_uses_the_cache_no_more(self):
        run, _, cursor = replayed(2)
        run.stop_caching()
        lookups = cursor.lookups
        assert not run.replay_epoch()
        run.enter_lane(0)
        train(run)
        run.save_checkpoint()
        assert (cursor.lookups, len(cursor.cached), cursor.saved) == (lookups, 2, [])
        assert run.epochs == HORIZON


class TestCheckpoints:
    def test_one_is_saved_where_a_run_branches_off_from_the_cached_ones(self):
        run, _, cursor = replayed(3)
        run.enter_lane(0)
        train(run, 2)
        assert cursor.saved == []
        train(run, 1)
        assert cursor.saved == [3]
        train(run)
        assert cursor.saved == [3, HORIZON]

    def test_none_is_saved_there_again_if_the_lane_began_with_it(self):
        run, _, cursor = replayed(3)
        cursor.saved.append(3)
        run.enter_lane(0)
        train(run, 1)
        assert cursor.saved == [3]

    def test_one_is_saved_before_the_epoch_in_which_a_constant_value_changes(self):
        cursor = ListCursor()
        run = run_of(engine_of(), cursor, rates=(0.1, 0.2))
        run.enter_lane(0)
        train(run)
        assert cursor.saved == [3, HORIZON]

    def test_none_is_saved_of_a_run_that_has_diverged(self):
        cursor = ListCursor()
        policy = CheckpointPolicy(HORIZON, rungs=frozenset({2}))
        run = run_of(engine_of(0.5, math.nan), cursor, policy)
        run.enter_lane(0)
        train(run)
        assert len(cursor.cached) == 2
        assert cursor.saved == [1]

    def test_none_is_saved_if_training_cannot_be_resumed_from_it(self):
        run, _, cursor = replayed(3, resumable=False)
        run.enter_lane(0)
        train(run)
        run.save_checkpoint()
        run.save_all_epochs(other := ListCursor())
        assert cursor.saved == other.saved == []

    def test_a_run_that_is_stopped_saves_one_only_if_its_lane_has_caught_up(self):
        run, _, cursor = replayed(3)
        run.save_checkpoint()
        run.enter_lane(0)
        train(run, 2)
        run.save_checkpoint()
        assert cursor.saved == []
        train(run, 2)
        run.save_checkpoint()
        assert cursor.saved == [3, 4]

    def test_a_run_before_its_first_epoch_saves_none(self):
        cursor = ListCursor()
        run = run_of(engine_of(), cursor)
        run.enter_lane(0)
        run.save_checkpoint()
        assert cursor.saved == []

    def test_a_whole_run_is_saved_with_all_epochs_and_the_last_checkpoint(self):
        run = run_of(engine_of(), None, rates=(0.1, 0.2))
        run.enter_lane(0)
        train(run)
        cursor = ListCursor()
        run.save_all_epochs(cursor)
        assert cursor.saved == [HORIZON]
        again = run_of(engine_of(), ListCursor(cursor.cached), rates=(0.1, 0.2))
        while again.replay_epoch():
            pass
        assert again.history == run.history


class TestLanes:
    def test_a_restart_goes_back_to_the_last_checkpoint(self):
        cursor = ListCursor()
        run = run_of(engine_of(), cursor, CheckpointPolicy(HORIZON, spacing=2))
        run.enter_lane(0)
        train(run, 5)
        run.restart_from_checkpoint()
        assert (run.lane_epoch, run.epochs) == (4, 5)

    def test_leaving_releases_the_lane_once(self):
        engine = engine_of()
        run = run_of(engine)
        run.leave_lane()
        run.enter_lane(0)
        run.leave_lane()
        run.leave_lane()
        assert engine.released == [0]
        assert run.lane is None


class TestBestModel:
    def test_the_model_and_the_test_are_those_of_the_best_epoch(self):
        engine = engine_of(0.5, 0.2, 0.2, 0.9, 0.3, 0.4)
        run = run_of(engine, value="best")
        run.enter_lane(0)
        train(run)
        model = run.model_snapshot()
        assert model is not None
        assert model.epoch == 2
        assert run.value == 0.2
        assert run.test() == {"test_epoch": 2.0}

    def test_otherwise_they_are_those_of_the_last_epoch(self):
        run = run_of(engine_of(0.5, 0.2, 0.2, 0.9, 0.3, 0.4))
        run.enter_lane(0)
        train(run)
        model = run.model_snapshot()
        assert model is not None
        assert model.epoch == HORIZON
        assert run.test() == {"test_epoch": HORIZON}


def test_a_missing_metric_is_named_with_a_similar_one():
    run = run_of(engine_of())
    run.enter_lane(0)
    with pytest.raises(
        TaskError, match=r"metric of .* is `val_loss`, but .* reports val_los: did you"
    ):
        run.record_epoch(EpochResult({"val_los": 0.5}, {}))
