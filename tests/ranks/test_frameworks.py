"""Lightning's strategy ddp, and the Trainer of transformers, in trials of two processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ranks.test_ranks import content, search, values

pytestmark = pytest.mark.long


@pytest.mark.parametrize(
    ("task", "metric"), [("train_lightning", "val_loss"), ("train_transformers", "eval_loss")]
)
def test_a_framework_trains_in_two_processes_with_equal_numbers(
    tmp_path: Path, task: str, metric: str
) -> None:
    found = []
    for folder in (tmp_path / "first", tmp_path / "second"):
        folder.mkdir()
        space = content(task, trials=4) | {"objective": {"metric": metric}}
        space["task"] = f"tests.ranks.frameworks:{task}"
        study, _ = search(folder, space)
        found.append(values(study))
    assert found[0] == found[1]
    assert len(found[0]) == 4


@pytest.mark.parametrize(
    ("task", "metric"), [("train_lightning", "val_loss"), ("train_transformers", "eval_loss")]
)
def test_pruned_trials_of_a_framework_leave_no_rank_behind(
    tmp_path: Path, task: str, metric: str
) -> None:
    pruner = {"name": "asha", "min_epochs": 1, "audit": 0.0}
    space = content(task, trials=30, pruner=pruner) | {"objective": {"metric": metric}}
    space["search"]["sampler"] = {"name": "random", "constants": 0.1}
    lr = {"low": 0.001, "high": 0.5, "log": True}
    space["hyperparameters"]["lr"]["families"] = {
        "constant": {"value": lr},
        "linear": {"initial": lr, "final": 0.01},
    }
    space["task"] = f"tests.ranks.frameworks:{task}"
    study, _ = search(tmp_path, space)
    counts = study.queue.counts()
    assert counts.pruned >= 10
    assert (counts.finished, counts.failed, len(study.rows())) == (30, 0, 30)
