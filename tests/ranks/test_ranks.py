"""Trials of two processes: all ranks leave together, and nothing hangs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from schedsearch.storage import StudyHandle, get_only_study, open_database, plan_of
from tests.processes import is_alive
from tests.searches import ROOT, begin, document, url_of, wait_until, write_space

pytestmark = pytest.mark.long


def content(task: str, trials: int = 6, **search: Any) -> dict[str, Any]:
    """A grid of learning rates, so that two searches have equal plans."""
    search = {"sampler": {"name": "grid", "points": 3}, "pruner": {"name": "none"}, **search}
    found = document(trials=trials, **search)
    lr = {"levels": [0.05, 0.1, 0.5]}
    found["task"] = f"tests.ranks.loops:{task}"
    found["hyperparameters"]["lr"]["families"] = {
        "constant": {"value": lr},
        "linear": {"initial": lr, "final": 0.01},
    }
    return found


def start(folder: Path, space: dict[str, Any], *flags: object) -> subprocess.Popen[str]:
    path = write_space(folder, space)
    options = ["--processes-per-trial", 2, "--threads", 1, "--storage", url_of(folder)]
    return begin("start", path, *options, *flags, folder=folder)


def search(folder: Path, space: dict[str, Any], *flags: object) -> tuple[StudyHandle, str]:
    """Search to the end; return the study, and what was said."""
    process = start(folder, space, *flags)
    _, err = process.communicate(timeout=400)
    assert process.returncode == 0, err
    return study_in(folder), err


def study_in(folder: Path) -> StudyHandle:
    return get_only_study(open_database(url_of(folder)))


def values(study: StudyHandle) -> dict[Any, float | None]:
    return {plan_of(trial): trial.value for trial in study.complete_trials()}


def torchrun(folder: Path, run: Sequence[str] = ()) -> Sequence[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    worker = ["schedsearch", "worker", "small", "--storage", url_of(folder), "--threads", "1"]
    return [*launcher, "--nproc-per-node", "2", *run, "-m", *worker]


def wait_for_ranks(folder: Path) -> list[int]:
    """Wait until both ranks train, and return their processes."""
    files = [folder / f"rank_{rank}.pid" for rank in (0, 1)]
    wait_until(lambda: all(file.exists() and file.read_text() for file in files))
    return [int(file.read_text()) for file in files]


def test_equal_searches_have_equal_numbers_however_the_ranks_were_started(tmp_path: Path):
    folders = [tmp_path / name for name in ("started", "torchrun")]
    for folder in folders:
        folder.mkdir()
    study, _ = search(folders[0], content("train"))
    created = start(folders[1], content("train"), "--workers", 0)
    created.communicate(timeout=120)
    subprocess.run(torchrun(folders[1]), cwd=folders[1], check=True, timeout=300)
    assert len(values(study)) == 6
    assert values(study_in(folders[1])) == values(study)


def test_a_hundred_pruned_trials_leave_no_rank_behind(tmp_path: Path):
    pruner = {"name": "asha", "min_epochs": 1, "reduction_factor": 5, "audit": 0.0}
    space = content("train", trials=170, pruner=pruner)
    lr = {"low": 0.001, "high": 0.5, "log": True}
    space["search"]["sampler"] = {"name": "random", "constants": 0.05}
    space["hyperparameters"]["lr"]["families"] = {
        "constant": {"value": lr},
        "linear": {"initial": lr, "final": 0.01},
    }
    study, err = search(tmp_path, space)
    counts = study.queue.counts()
    assert counts.pruned >= 100
    assert (counts.finished, counts.failed) == (170, 0)
    assert len(study.rows()) == 170
    assert "warning" not in err


def test_a_model_that_is_divided_among_the_ranks_trains(tmp_path: Path):
    study, _ = search(tmp_path, content("train_sharded", trials=3))
    assert all(0.0 < value < 1.0 for value in values(study).values() if value is not None)
    assert len(values(study)) == 3


def test_rank_0_alone_may_report(tmp_path: Path):
    study, _ = search(tmp_path, content("train_with_rank_0", trials=2))
    assert set(values(study).values()) == {9.0}


def test_a_rank_that_raises_fails_the_trial_with_its_traceback(tmp_path: Path):
    study, err = search(tmp_path, content("train_or_raise_on_rank_1", trials=6))
    failed = [trial for trial in study.trials() if trial.state is TrialState.FAIL]
    assert len(failed) == 2
    for trial in failed:
        assert 'raise ValueError("rank 1 has had enough")' in trial.user_attrs["traceback"]
        assert f"trial {trial.number} failed in epoch 3: RankFailedError: rank 1: " in err
    assert study.queue.counts().complete == 4


def test_the_processes_of_torchrun_begin_again_after_a_failed_trial(tmp_path: Path):
    created = start(tmp_path, content("train_or_raise_on_rank_1"), "--workers", 0)
    created.communicate(timeout=120)
    ended = subprocess.run(
        torchrun(tmp_path), cwd=tmp_path, timeout=300, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    counts = study_in(tmp_path).queue.counts()
    assert (counts.complete, counts.failed) == (4, 2)


def test_torchrun_passes_ctrl_c_on_and_the_trial_returns_to_the_queue(tmp_path: Path):
    created = start(tmp_path, content("train_slowly") | {"horizon": 100_000}, "--workers", 0)
    created.communicate(timeout=120)
    with subprocess.Popen(torchrun(tmp_path), cwd=tmp_path, stderr=subprocess.PIPE) as process:
        pids = wait_for_ranks(tmp_path)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    counts = study_in(tmp_path).queue.counts()
    assert (counts.running, counts.waiting, counts.failed) == (0, 1, 0)
    assert not any(map(is_alive, pids))


def test_torchrun_starts_all_ranks_again_if_one_is_killed(tmp_path: Path):
    created = start(tmp_path, content("train_slowly", trials=3), "--workers", 0)
    created.communicate(timeout=120)
    command = torchrun(tmp_path, run=["--max-restarts", "1"])
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        os.kill(wait_for_ranks(tmp_path)[1], signal.SIGKILL)
        _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    counts = study_in(tmp_path).queue.counts()
    assert (counts.complete, counts.failed) == (3, 0)


def test_all_ranks_get_the_arguments_and_the_seed_of_each_run(tmp_path: Path):
    space = content("train_with_arguments", trials=8, seeds=2)
    space["arguments"] = {"shift": {"levels": [10, 20]}}
    study, _ = search(tmp_path, space)
    found = study.complete_trials()
    assert {plan_of(trial).arguments["shift"] for trial in found} == {10, 20}
    for trial in found:
        # Rank r reports shift + seed + r, of which the mean over ranks 0 and 1 and seeds 0 and 1
        # counts.
        assert trial.value == plan_of(trial).arguments["shift"] + 0.5 + 0.5


def test_ranks_of_torchrun_that_hang_are_replaced(tmp_path: Path):
    space = content("train_or_hang_on_rank_1", epoch_timeout=8.0)
    created = start(tmp_path, space, "--workers", 0)
    created.communicate(timeout=120)
    ended = subprocess.run(
        torchrun(tmp_path), cwd=tmp_path, timeout=300, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("it took longer than 8 s") == 2
    counts = study_in(tmp_path).queue.counts()
    assert (counts.complete, counts.failed) == (4, 2)


def test_a_rank_that_hangs_meets_the_timeout(tmp_path: Path):
    space = content("train_or_hang_on_rank_1", trials=6, epoch_timeout=8.0)
    study, err = search(tmp_path, space)
    failed = [trial for trial in study.trials() if trial.state is TrialState.FAIL]
    assert len(failed) == 2
    assert err.count("it took longer than 8 s") == 2
    assert study.queue.counts().complete == 4


@pytest.mark.parametrize("rank", [0, 1])
def test_a_trial_of_a_rank_that_is_killed_is_queued_again(tmp_path: Path, rank: int):
    process = start(tmp_path, content("train_slowly", trials=4))
    os.kill(wait_for_ranks(tmp_path)[rank], signal.SIGKILL)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    counts = study_in(tmp_path).queue.counts()
    assert (counts.complete, counts.failed) == (4, 0)
    assert err.count("a worker was killed (SIGKILL): its trials are queued again") == 1
    lost = [r for r in study_in(tmp_path).load().trials if "superseded_by" in r.user_attrs]
    assert len(lost) == 1


def test_ctrl_c_hands_the_trial_back_and_a_checkpoint_continues_all_ranks(tmp_path: Path):
    folders = [tmp_path / name for name in ("whole", "stopped")]
    for folder in folders:
        folder.mkdir()
    space = content("train_resumably", trials=2) | {"horizon": 60}
    whole, _ = search(folders[0], space)
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
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert study is not None
    assert study.queue.counts().waiting == 1
    study, _ = search(folders[1], space)
    assert values(study) == values(whole)
    trained = sum(
        t.user_attrs["epochs_trained"] for t in study.trials() if "epochs_trained" in t.user_attrs
    )
    assert trained < 60


def test_a_second_ctrl_c_ends_all_ranks_at_once(tmp_path: Path):
    process = start(tmp_path, content("train_slowly", trials=4) | {"horizon": 100_000})
    pids = wait_for_ranks(tmp_path)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 130
    wait_until(lambda: not any(map(is_alive, pids)), 30)


def test_the_example_is_searched_by_two_processes(tmp_path: Path):
    flags = ["--processes-per-trial", 2, "--threads", 1, "--trials", 3]
    options = ["--trust-task", "--storage", url_of(tmp_path)]
    search = begin("start", "examples/distributed.toml", *flags, *options, folder=ROOT)
    _, err = search.communicate(timeout=300)
    assert search.returncode == 0, err
    assert all(0.0 < value < 2.0 for value in values(study_in(tmp_path)).values() if value)


def test_a_confirmation_and_a_config_train_with_as_many_processes(tmp_path: Path):
    search(tmp_path, content("train", trials=4))
    url = ["--storage", url_of(tmp_path)]
    for command in (
        ["confirm", "small", "--top", 1, "--seeds", 6, "--workers", 1],
        ["export", "small", "-o", "best.toml"],
    ):
        process = begin(*command, *url, folder=tmp_path)
        _, err = process.communicate(timeout=400)
        assert process.returncode == 0, err
    assert "processes = 2" in (tmp_path / "best.toml").read_text()
    train = begin("train", "best.toml", "--no-reuse", *url, folder=tmp_path)
    _, err = train.communicate(timeout=200)
    assert "reproduced the recorded value" in err
