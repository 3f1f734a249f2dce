"""How the ranks of a trial find each other, and how they end."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from optuna.trial import TrialState

from schedsearch.cli import worker as worker_command
from schedsearch.engines import Engine
from schedsearch.errors import SchedSearchError
from schedsearch.launchers import in_process
from schedsearch.ranks import joining
from schedsearch.ranks import rank_group as rank_group_module
from schedsearch.ranks.followers import RankDiedError
from schedsearch.ranks.joining import GroupStore, RankServer, connect, look_up
from schedsearch.ranks.rank_group import RankGroup
from tests.searches import Ears, document, make_study, make_worker


def test_a_worker_whose_rank_failed_is_replaced_even_after_its_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def broken(processes: int, study: str) -> Iterator[Any]:
        yield SimpleNamespace(is_broken=True, stop=lambda: {"A": "1"})

    replaced: list[Any] = []
    monkeypatch.setattr(rank_group_module, "rank_group", broken)
    monkeypatch.setattr(in_process, "run_worker", lambda *_, **__: None)
    monkeypatch.setattr(worker_command, "_replace_process", lambda *given: replaced.append(given))
    late = worker_command._WorkerOptions("ann", time.monotonic() - 1.0, None, True, False, None)
    worker_command._train(make_study(tmp_path), late)
    [(_, options, environment)] = replaced
    assert environment == {"A": "1"}
    assert options.flags()[-2:] == ["--timeout", "0.0"]


def test_a_rank_waits_for_the_address_of_rank_0_for_a_limited_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = GroupStore("127.0.0.1")
    torchrun = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_RESTART_COUNT": "0",
    }
    clock, pauses = iter([0.0, 0.0, joining._TIMEOUT + 1.0]), iter([None])
    monkeypatch.setattr(
        joining,
        "time",
        SimpleNamespace(monotonic=lambda: next(clock), sleep=lambda _: next(pauses)),
    )
    with pytest.raises(SchedSearchError, match="rank 0 of a trial did not start within 10 min"):
        look_up(torchrun)


def test_ranks_that_are_stopped_leave_no_zombies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_USE_AGENT_STORE"):
        monkeypatch.setenv(name, "")  # so that the end of the test restores it
    server = RankServer("127.0.0.1")
    rank_1 = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    thread = threading.Thread(target=lambda: connect(server.address, 1))
    thread.start()
    found = RankGroup(2, "127.0.0.1", [rank_1], server, {"A": "1"})
    thread.join()
    assert found.stop() == {"A": "1"}
    assert rank_1.returncode is not None
    rank_1.communicate()


def test_a_rank_that_is_killed_while_it_makes_an_engine_fails_no_trial(tmp_path: Path) -> None:
    space = document() | {"task": "tests.test_arguments:train"}
    study = make_study(tmp_path, space | {"arguments": {"width": {"levels": [32, 64]}}})

    def lead(arguments: Mapping[str, Any]) -> Engine:
        raise RankDiedError(f"the process of rank 1 ended: {arguments}")

    worker = make_worker(study, "ann", lambda: False, Ears(), make_engine=lead)
    with pytest.raises(RankDiedError):
        worker.run()
    assert {trial.state for trial in study.trials()} == {TrialState.WAITING}
