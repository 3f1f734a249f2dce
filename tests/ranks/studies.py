"""Studies of several processes to a trial, and the commands that search them."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from schedsearch.preparation import ComputeOptions, choose_numerics, prepare_space
from schedsearch.space import Space
from schedsearch.storage import (
    StudyHandle,
    create_study,
    get_only_study,
    open_database,
    plan_of,
)
from tests.searches import begin, document, url_of, wait_until, write_space

PROCESSES = ComputeOptions(processes=2)


def content(task: str, lr: Sequence[float], **search: Any) -> dict[str, Any]:
    """Return a grid of learning rates, so that two searches have equal plans."""
    search = {"sampler": {"name": "grid"}, "pruner": {"name": "none"}, **search}
    found = document(trials=100, **search)
    found["task"] = f"tests.ranks.loops:{task}"
    found["hyperparameters"]["lr"]["families"] = {"constant": {"value": {"levels": list(lr)}}}
    return found


def create(folder: Path, space: Mapping[str, Any]) -> None:
    """Create a study, as `start --workers 0` does."""
    folder.mkdir(exist_ok=True)
    prepared = prepare_space(Space.from_document(space, "small.toml"))
    numerics = choose_numerics(prepared, PROCESSES, say=print)
    create_study(open_database(url_of(folder), create=True), prepared.record(numerics))


def start(folder: Path, space: Mapping[str, Any]) -> subprocess.Popen[str]:
    """Begin `start --processes-per-trial 2` in a folder."""
    folder.mkdir(exist_ok=True)
    options = ["--processes-per-trial", 2, "--threads", 1, "--storage", url_of(folder)]
    return begin("start", write_space(folder, space), *options, folder=folder)


def torchrun(folder: Path, *options: str) -> subprocess.Popen[str]:
    """Begin two ranks of a worker in a folder, in which `create` has created the study."""
    return _torchrun(folder, "--standalone", "--nproc-per-node", "2", *options)


def torchrun_on_two_nodes(folder: Path) -> list[subprocess.Popen[str]]:
    """Begin two torchruns with a rank each, as on two nodes."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        endpoint = f"127.0.0.1:{free.getsockname()[1]}"
    nodes = ["--nnodes", "2", "--nproc-per-node", "1"]
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", endpoint]
    return [_torchrun(folder, *nodes, *meeting) for _ in range(2)]


def _torchrun(folder: Path, *options: str) -> subprocess.Popen[str]:
    worker = ["-m", "schedsearch", "worker", "small", "--storage", url_of(folder)]
    command = [sys.executable, "-m", "torch.distributed.run", *options, *worker]
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str], code: int = 0) -> str:
    """Wait until a command ends with an exit code; return its messages."""
    try:
        _, err = process.communicate(timeout=900)
    finally:
        process.terminate()  # torchrun then ends its ranks
    assert process.returncode == code, err
    return err


def study_in(folder: Path) -> StudyHandle:
    """Return the study of a folder."""
    return get_only_study(open_database(url_of(folder)))


def reports(study: StudyHandle) -> dict[Any, dict[int, float]]:
    """Return what each trial of a study has reported, by its plan."""
    trials = [t for t in study.load().trials if "superseded_by" not in t.user_attrs]
    found = {plan_of(trial): trial.intermediate_values for trial in trials}
    assert len(found) == len(trials)
    return found


def wait_for_ranks(folder: Path) -> list[int]:
    """Wait until both ranks train, and return their processes."""
    files = [folder / f"rank_{rank}.pid" for rank in (0, 1)]
    wait_until(lambda: all(file.exists() and file.read_text() for file in files))
    return [int(file.read_text()) for file in files]
