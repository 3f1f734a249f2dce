"""A worker that is killed: the next one continues from the checkpoint of the framework."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.forks import start_process
from tests.integrations import resumable
from tests.searches import document, make_study

pytestmark = [
    pytest.mark.long,
    # Lightning uses a torch class that torch will rename.
    pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*:FutureWarning"),
]
HORIZON = 6


def content(task, metric):
    return document(task, trials=1, pruner={"name": "none"}) | {
        "task": f"tests.integrations.resumable:{task.__name__}",
        "horizon": HORIZON,
        "objective": {"metric": metric},
    }


def search_in_process(folder: Path, space: dict[str, object]) -> int | None:
    """Search in another process, and return its exit code."""
    search = start_process(resumable.work_in, str(folder), space)
    search.join(300)
    if search.exitcode is None:  # it waits for a lease
        search.kill()
        search.join()
    return search.exitcode


def result(folder: Path, space: dict[str, object]) -> tuple[dict[int, float], list[int]]:
    """Return the reports of the trial, and the epochs that were trained."""
    [*_, trial] = make_study(folder, space).trials()
    assert list(folder.glob("*.checkpoints/*.run")) == []
    return trial.intermediate_values, [int(e) for e in (folder / "trained").read_text().split()]


@pytest.mark.parametrize(
    ("task", "metric"),
    [
        (resumable.own_loop, "val_error"),
        (resumable.with_lightning, "val_error"),
        (resumable.with_transformers, "eval_loss"),
    ],
)
def test_a_killed_trial_continues_from_the_last_checkpoint_with_the_same_numbers(
    tmp_path, task, metric
):
    space, folders = content(task, metric), {}
    for kill in ("", "3 begun", "3 saved"):
        folder = folders[kill] = tmp_path / (kill or "whole")
        folder.mkdir()
        if kill:
            (folder / "kill").write_text(kill)
            assert search_in_process(folder, space) == -signal.SIGKILL
            assert not (folder / "kill").exists()
        assert search_in_process(folder, space) == 0
    whole, trained = result(folders[""], space)
    assert trained == list(range(HORIZON))
    assert result(folders["3 begun"], space) == (whole, [0, 1, 2, 3, 3, 4, 5])
    assert result(folders["3 saved"], space) == (whole, [0, 1, 2, 3, 4, 5])


def test_a_trial_that_is_killed_before_a_validation_continues_with_it(tmp_path):
    space = content(resumable.with_lightning_by_steps, "val_error")
    for kill in ("", "3 validated"):
        folder = tmp_path / (kill or "whole")
        folder.mkdir()
        if kill:
            (folder / "kill").write_text(kill)
            assert search_in_process(folder, space) == -signal.SIGKILL
        assert search_in_process(folder, space) == 0
    whole, trained = result(tmp_path / "whole", space)
    assert trained == list(range(HORIZON))
    assert result(tmp_path / "3 validated", space) == (whole, trained)
