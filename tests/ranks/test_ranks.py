"""Trials of two processes: all ranks leave together, and nothing hangs."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from schedsearch.ranks.rank_group import _MERGE_SECONDS
from schedsearch.storage import open_database, open_study, plan_of
from tests.processes import is_alive
from tests.ranks.studies import (
    content,
    create,
    ended,
    reports,
    start,
    study_in,
    torchrun,
    torchrun_on_two_nodes,
    wait_for_ranks,
)
from tests.searches import begin, url_of, wait_until

pytestmark = pytest.mark.long


def launch(launcher: Callable[..., Any], folder: Path, space: dict[str, Any]) -> Any:
    """Begin a search by `start` or by torchrun."""
    if launcher is start:
        return start(folder, space)
    create(folder, space)
    return torchrun(folder)


def test_all_ranks_get_the_arguments_and_the_seed_of_each_run(tmp_path: Path) -> None:
    space = content("train_with_arguments", [0.1], seeds=2)
    loops = ["mean", "rank 0", "sharded"]
    space["arguments"] = {"shift": {"levels": [10, 20]}, "loop": {"levels": loops}}
    ended(start(tmp_path, space))
    trials = study_in(tmp_path).complete_trials()
    values = {tuple(plan_of(t).arguments.values()): t.value for t in trials}
    assert len(values) == len(trials) == 6
    for shift in (10, 20):
        # Rank r reports shift + seed + r, of which the mean over ranks 0 and 1 and seeds 0 and 1
        # counts.
        assert values[shift, "mean"] == shift + 0.5 + 0.5
        assert values[shift, "rank 0"] == shift + 0.5
        assert 0.0 < values[shift, "sharded"] < 1.0
    assert values[10, "sharded"] == values[20, "sharded"]


@pytest.mark.parametrize("launcher", [start, torchrun])
def test_no_process_group_outlives_the_trials(tmp_path: Path, launcher: Callable[..., Any]) -> None:
    # Its threads could abort the process while the interpreter ends.
    ended(launch(launcher, tmp_path, content("train_in_a_cycle", [0.1, 0.2])))
    for rank in range(2):
        found = json.loads((tmp_path / f"rank_{rank}.json").read_text())
        assert found == {"group": False, "model": False}


def test_two_torchruns_train_a_trial_together_as_two_nodes_do(tmp_path: Path) -> None:
    create(tmp_path, content("train_with_arguments", [0.1]))
    for node in torchrun_on_two_nodes(tmp_path):
        ended(node)
    [trial] = study_in(tmp_path).complete_trials()
    assert trial.value == 10 + 0.5


@pytest.mark.parametrize("launcher", [start, torchrun])
def test_a_rank_that_raises_or_hangs_fails_the_trial_on_all_ranks(
    tmp_path: Path, launcher: Callable[..., Any]
) -> None:
    space = content("train_raise_or_hang", [0.1, 0.2, 0.4, 0.5], epoch_timeout=8.0)
    err = ended(launch(launcher, tmp_path, space))
    study = study_in(tmp_path)
    raised, hung = sorted(
        (trial for trial in study.trials() if trial.state is TrialState.FAIL),
        key=lambda trial: plan_of(trial).values(plan_of(trial).resolve(9, 0).start(0))["lr"],
    )
    assert 'raise ValueError("rank 1 has had enough")' in raised.user_attrs["traceback"]
    assert f"trial {raised.number} failed in epoch 3: RankFailedError: rank 1: " in err
    assert err.count("it took longer than 8 s") == 1
    assert f"trial {hung.number} failed" in err
    counts = study.queue.counts()
    assert (counts.complete, counts.failed) == (2, 2)


@pytest.mark.parametrize("launcher", [start, torchrun])
def test_a_second_ctrl_c_ends_all_ranks_at_once(
    tmp_path: Path, launcher: Callable[..., Any]
) -> None:
    space = content("train_endlessly", [0.1, 0.2]) | {"horizon": 2}
    process = launch(launcher, tmp_path, space)
    pids = wait_for_ranks(tmp_path)
    sent = time.monotonic()
    process.send_signal(signal.SIGINT)
    # Ranks take what comes within a second for the same signal.
    wait_until(lambda: launcher is start or time.monotonic() > sent + 2 * _MERGE_SECONDS)
    process.send_signal(signal.SIGTERM)
    ended(process, 130 if launcher is start else 1)
    assert time.monotonic() < sent + 30, "torchrun kills ranks that still run after 30 seconds"
    wait_until(lambda: not any(map(is_alive, pids)), 30)
    counts = study_in(tmp_path).queue.counts()
    assert (counts.running, counts.waiting, counts.complete, counts.failed) == (0, 1, 0, 0)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_trial_of_a_rank_that_is_killed_is_queued_again(tmp_path: Path, rank: int):
    process = start(tmp_path, content("train_slowly", [0.05, 0.1, 0.2, 0.5]))
    os.kill(wait_for_ranks(tmp_path)[rank], signal.SIGKILL)
    err = ended(process)
    counts = study_in(tmp_path).queue.counts()
    assert (counts.complete, counts.failed) == (4, 0)
    assert err.count("a worker was killed (SIGKILL): its trials are queued again") == 1
    lost = [r for r in study_in(tmp_path).load().trials if "superseded_by" in r.user_attrs]
    assert len(lost) == 1


def test_ctrl_c_hands_the_trial_back_and_a_checkpoint_continues_all_ranks(tmp_path: Path):
    folders = [tmp_path / name for name in ("whole", "stopped")]
    space = content("train_resumably", [0.05, 0.1]) | {"horizon": 60}
    ended(start(folders[0], space))
    whole = study_in(folders[0])
    process = start(folders[1], space)
    study = None

    def is_within() -> bool:
        nonlocal study
        try:
            study = study_in(folders[1])
            return study.queue.counts().epochs >= 5
        except Exception:
            return False

    wait_until(is_within)
    process.send_signal(signal.SIGINT)
    ended(process, 130)
    assert study is not None
    assert study.queue.counts().waiting == 1
    ended(start(folders[1], space))
    assert reports(study) == reports(whole)
    assert any(t.user_attrs.get("trained", 60) < 60 for t in study.complete_trials())


def test_confirm_explain_and_train_use_as_many_processes(tmp_path: Path) -> None:
    space = content("train", [0.05, 0.1], sampler={"name": "grid"})
    families = space["hyperparameters"]["lr"]["families"]
    families["linear"] = {"initial": {"levels": [0.1, 0.5]}, "final": 0.01}
    ended(start(tmp_path, space | {"horizon": 3}))
    url = ["--storage", url_of(tmp_path)]
    for purpose, flags in (("confirm", ["--top", 1, "--seeds", 6]), ("explain", ["--seeds", 8])):
        process = begin(purpose, "small", *flags, "--workers", 1, "--json", *url, folder=tmp_path)
        out, err = process.communicate(timeout=900)
        assert process.returncode == 0, err
        assert json.loads(out)
        runs = open_study(open_database(url_of(tmp_path)), f"small:{purpose}")
        assert runs.record.numerics["processes"] == 2
        # A trial that other numerics trained would have recorded them.
        assert not any("numerics" in trial.user_attrs for trial in runs.complete_trials())
    process = begin("export", "small", "-o", "best.toml", *url, folder=tmp_path)
    ended(process)
    assert "processes = 2" in (tmp_path / "best.toml").read_text()
    train = begin("train", "best.toml", "--no-reuse", *url, folder=tmp_path)
    assert "reproduced the recorded value" in ended(train)
