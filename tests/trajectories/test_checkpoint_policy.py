"""When checkpoints are saved: a full grid of segments trains no epoch twice."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

import pytest

from schedsearch.engines import EpochResult
from schedsearch.epoch_values import evaluate_epochs
from schedsearch.plan import Plan
from schedsearch.run import CheckpointPolicy
from schedsearch.schedules import Constant, Feedback, Join, Linear
from schedsearch.space import Space
from schedsearch.space.prefix_sharing import estimate_prefix_sharing
from schedsearch.space.suggesters import FixedSuggester
from schedsearch.storage import Database
from schedsearch.trajectories import Folder, TrajectoryStore
from tests.space.documents import searching
from tests.trajectories.stores import ROOT, opened, snapshot

_FEEDBACK = Feedback(0.5)
_CONSTANT, _CHANGED = {"u": 0.1, "lr": 0.5}, {"u": 0.2, "lr": 0.5}


def grid(segments: int, levels: int, horizon: int) -> Space:
    values = {"levels": [i / levels for i in range(levels)]}
    content = searching({"piecewise": {"segments": segments, "values": values}}, horizon=horizon)
    content["hyperparameters"]["u"]["families"]["constant"]["value"] = 0.0
    return Space.from_document(content, "grid.toml")


def plans(space: Space) -> Iterator[Plan]:
    every = [
        space.suggest(FixedSuggester(space.grid_point(1, i))) for i in range(int(space.size()))
    ]
    random.Random(0).shuffle(every)
    yield from (plan.resolve(space.horizon, 0) for plan in every)


def train(store: TrajectoryStore, plan: Plan, checkpoint_policy: CheckpointPolicy) -> int:
    """Train the epochs of a plan that are not cached; return how many were trained."""
    cursor, state, made = store.cursor(ROOT), plan.start(), []
    for _ in range(checkpoint_policy.horizon):
        made.append(struct.pack("d", plan.values(state)["u"]))
        state = plan.update(state, _FEEDBACK)
    while cursor.epoch < checkpoint_policy.horizon and cursor.find(made[cursor.epoch]) is not None:
        pass
    if cursor.epoch == checkpoint_policy.horizon:
        return 0
    restored = cursor.restore()
    begun = 0 if restored is None else restored.epoch
    assert begun <= cursor.epoch
    for epoch in range(begun + 1, checkpoint_policy.horizon + 1):
        if epoch > cursor.epoch:
            cursor.add(made[epoch - 1], EpochResult({"val_loss": 0.5}, {}))
        if checkpoint_policy.should_save(epoch):
            cursor.save(snapshot([0] * epoch))
    cursor.end()
    store.flush()
    return checkpoint_policy.horizon - begun


@pytest.mark.parametrize(
    ("segments", "levels", "length"), [(3, 3, 4), (4, 3, 3), (4, 5, 1), (10, 2, 1)]
)
def test_a_full_grid_trains_each_segment_once(
    database: Database, folder: Folder, segments: int, levels: int, length: int
) -> None:
    """S segments with b values each take the sum of b^i over i = 1..S, instead of S x b^S."""
    horizon = segments * length
    space = grid(segments, levels, horizon)
    sharing = estimate_prefix_sharing(space, 200, seed=0)
    checkpoint_policy = CheckpointPolicy(horizon, branches=sharing.branch_epochs, spacing=horizon)
    store = opened(database, folder)
    trained = sum(train(store, plan, checkpoint_policy) for plan in plans(space))
    assert trained == length * sum(levels**i for i in range(1, segments + 1))


class TestCheckpointPolicy:
    def test_one_is_saved_at_the_horizon_the_rungs_and_the_branches(self) -> None:
        checkpoint_policy = CheckpointPolicy(20, frozenset({5}), frozenset({7}), spacing=100)
        assert [e for e in range(1, 21) if checkpoint_policy.should_save(e)] == [5, 7, 20]

    def test_one_is_saved_after_every_spacing(self) -> None:
        checkpoint_policy = CheckpointPolicy(20, spacing=6)
        assert [e for e in range(1, 21) if checkpoint_policy.should_save(e)] == [6, 12, 18, 20]

    def test_one_is_saved_where_a_constant_value_changes(self) -> None:
        checkpoint_policy = CheckpointPolicy(20, spacing=100)
        assert checkpoint_policy.should_save(3, before=_CONSTANT, now=_CONSTANT, then=_CHANGED)
        assert not checkpoint_policy.should_save(3, before=_CONSTANT, now=_CONSTANT, then=_CONSTANT)

    def test_one_is_saved_before_the_epoch_within_which_a_constant_value_changes(self) -> None:
        schedule = Join((Constant(0.1), Linear(0.1, 0.0, 2.0)), (3.25,))
        plan = Plan({("u",): schedule}, intervals={"u": "step"}).resolve(20, 0)
        epochs = [None, *evaluate_epochs(plan, [_FEEDBACK] * 8)]
        checkpoint_policy = CheckpointPolicy(20, spacing=100)
        saved = [e for e in range(1, 8) if checkpoint_policy.should_save(e, *epochs[e - 1 : e + 2])]
        # After 6.25 epochs the value is constant: nothing follows that another run would change.
        assert saved == [3]

    def test_none_is_saved_for_a_value_that_always_changes(self) -> None:
        checkpoint_policy = CheckpointPolicy(20, spacing=100)
        before, now, then = ({"u": value} for value in (0.3, 0.2, 0.1))
        assert not checkpoint_policy.should_save(3, before, now, then)
        assert not checkpoint_policy.should_save(1, None, now, then)
