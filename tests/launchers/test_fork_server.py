"""Local workers, as new processes and as forks: what a worker finds, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schedsearch.engines.loop import LoopRun
from schedsearch.launchers.base import WorkerExit, WorkerSpec
from schedsearch.launchers.fork_server import ForkServer, can_fork
from schedsearch.launchers.local import LocalLauncher, LocalWorker, kill_group
from schedsearch.launchers.supervisor import worker_name
from tests.processes import is_alive
from tests.searches import DEFAULTS, ROOT, document, make_study, url_of, wait_until

#: From NumPy's global generator, when the worker loads the task.
_DRAWN = np.random.random()

pytestmark = pytest.mark.long


def train_and_tell(run: LoopRun) -> None:
    """Write down what the process of the worker is like."""
    facts = {
        "folder": str(Path.cwd()),
        "leads": os.getsid(0) == os.getpid(),
        "arguments": sys.argv[1:],
        "command": sys.orig_argv[1:4],
        "given": os.environ.get("GIVEN"),
        "draw": _DRAWN,
        "interrupt": repr(signal.getsignal(signal.SIGTERM)),
        "other": len(os.environb[b"OTHER"]) if "OTHER" in os.environ else 0,
    }
    with Path(os.environ["TOLD"]).open("a") as file:
        print(json.dumps(facts), file=file)
    for _ in run:
        run.report(val_loss=1.0)
    print("from the task")


def train_for_ever(run: LoopRun) -> None:
    """Say that it has begun, and train for minutes."""
    print("begun", flush=True)
    for _ in run:
        time.sleep(0.01)
        run.report(val_loss=1.0)


for _task in (train_and_tell, train_for_ever):
    _task.hyperparameters = DEFAULTS


def searched(task: Callable[[LoopRun], None]) -> dict[str, Any]:
    """Return the content of a space of one trial for a task of this module."""
    return document(trials=1) | {"task": f"{__name__}:{task.__name__}"}


@pytest.fixture(autouse=True)
def importable_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let workers import the tasks from any folder."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture(scope="module", params=[False, True], ids=["new", "forked"])
def launcher(request: pytest.FixtureRequest) -> Iterator[LocalLauncher]:
    with closing(LocalLauncher(forks=request.param)) as launcher:
        yield launcher


class Launched:
    """A worker of a study, and the lines of its output."""

    def __init__(self, launcher: LocalLauncher, folder: Path, study: str = "small") -> None:
        self.lines: list[str] = []
        self.spec = WorkerSpec(worker_name(), study, (), url_of(folder), str(folder))
        self.worker: LocalWorker = launcher.launch(self.spec, self.lines.append)

    def end(self) -> WorkerExit:
        """Wait until the worker ends by itself."""
        wait_until(lambda: self.worker.poll() is not None, 60)
        found = self.worker.poll()
        assert found is not None
        return found


@pytest.fixture
def endless(tmp_path: Path, launcher: LocalLauncher) -> Iterator[Launched]:
    """A worker in the middle of a trial that does not end."""
    make_study(tmp_path, searched(train_for_ever) | {"horizon": 10_000})
    launched = Launched(launcher, tmp_path)
    try:
        wait_until(lambda: "begun" in launched.lines, 60)
        yield launched
    finally:
        launched.worker.kill()


def test_a_worker_has_the_folder_the_environment_and_a_session_of_its_own(
    tmp_path, launcher, monkeypatch
):
    told = tmp_path / "told"
    monkeypatch.setenv("TOLD", str(told))
    monkeypatch.setenv("GIVEN", "before the server")
    launcher.prepare()
    # Not UTF-8, and larger than what a new process could get in one variable with others.
    monkeypatch.setenv("GIVEN", "with the worker")
    monkeypatch.setenv("OTHER", os.fsdecode(b"\xff" + 100_000 * b"x"))
    make_study(tmp_path, searched(train_and_tell))
    launched = Launched(launcher, tmp_path)
    assert launched.end() == WorkerExit(0)
    assert "from the task" in launched.lines
    facts = json.loads(told.read_text())
    assert facts["folder"] == str(tmp_path)
    assert facts["leads"]
    assert facts["given"] == "with the worker"
    assert facts["command"] == ["-m", "schedsearch", "worker"]
    assert facts["arguments"][:3] == ["worker", "--name", launched.spec.name]
    assert "StopRequest" in facts["interrupt"]
    assert facts["other"] == 100_001


def test_workers_do_not_draw_the_same_numbers(tmp_path, launcher, monkeypatch):
    monkeypatch.setenv("TOLD", str(tmp_path / "told"))
    for name in ("one", "two"):
        (folder := tmp_path / name).mkdir()  # else the second takes the epochs of the first
        make_study(folder, searched(train_and_tell))
        assert Launched(launcher, folder).end() == WorkerExit(0)
    draws = [json.loads(line)["draw"] for line in (tmp_path / "told").read_text().splitlines()]
    assert len(set(draws)) == 2


def test_the_exit_code_and_the_last_line_of_a_worker_that_fails(tmp_path, launcher):
    make_study(tmp_path)
    launched = Launched(launcher, tmp_path, "other")
    assert launched.end() == WorkerExit(2)
    assert any("has no study `other`" in line for line in launched.lines)


def test_a_worker_that_is_asked_to_stop_hands_its_trial_back(endless):
    endless.worker.stop()
    assert endless.end() == WorkerExit(130)


def test_a_worker_that_is_killed_is_gone_at_once(endless):
    endless.worker.kill()
    assert endless.worker.poll() == WorkerExit(-9, "SIGKILL")


def test_a_worker_that_another_process_kills_has_a_signal(endless):
    os.killpg(endless.worker.pid, signal.SIGKILL)
    assert endless.end() == WorkerExit(-9, "SIGKILL")


def server_of(worker: LocalWorker) -> int:
    """Return the process that a worker is a fork of."""
    parent = int(Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()[1])
    assert "fork_server" in Path(f"/proc/{parent}/cmdline").read_text()
    return parent


@pytest.mark.parametrize("launcher", [True], indirect=True, ids=["forked"])
def test_signals_for_all_processes_of_a_service_leave_the_server_to_its_command(endless):
    server = server_of(endless.worker)
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(server, number)
    endless.worker.stop()
    assert endless.end() == WorkerExit(130)
    assert is_alive(server)


@pytest.mark.parametrize("launcher", [True], indirect=True, ids=["forked"])
def test_a_worker_of_a_suspended_server_can_be_killed(endless):
    os.kill(server_of(endless.worker), signal.SIGSTOP)
    endless.worker.kill()
    assert endless.worker.poll() == WorkerExit(-9, "SIGKILL")


@pytest.mark.parametrize("launcher", [True], indirect=True, ids=["forked"])
def test_workers_of_a_killed_server_end_and_the_next_one_has_a_new_server(
    tmp_path, launcher, endless
):
    pid = endless.worker.pid
    os.kill(server_of(endless.worker), signal.SIGKILL)
    assert endless.end() == WorkerExit(-9, "SIGKILL")
    wait_until(lambda: not is_alive(pid))
    other = Launched(launcher, tmp_path, "other")
    assert other.end() == WorkerExit(2)


def test_a_server_that_cannot_load_what_workers_need_leaves_it_to_new_processes(
    tmp_path, monkeypatch
):
    (tmp_path / "torch.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    with closing(LocalLauncher(forks=True)) as launcher:
        launcher.prepare()
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        (tmp_path / "torch.py").unlink()
        make_study(tmp_path)
        assert Launched(launcher, tmp_path, "other").end() == WorkerExit(2)


@pytest.mark.parametrize("launcher", [True], indirect=True, ids=["forked"])
def test_a_worker_that_is_asked_to_stop_before_it_loads_anything_stops(tmp_path, launcher):
    make_study(tmp_path, searched(train_for_ever) | {"horizon": 10_000})
    for _ in range(6):
        launched = Launched(launcher, tmp_path)
        launched.worker.stop()
        assert launched.end().code in (130, -signal.SIGTERM)
        assert "begun" not in launched.lines


@pytest.mark.parametrize("launcher", [True], indirect=True, ids=["forked"])
def test_a_suspended_server_starts_the_next_worker(tmp_path, launcher, endless):
    os.kill(server_of(endless.worker), signal.SIGSTOP)
    assert Launched(launcher, tmp_path, "other").end() == WorkerExit(2)


@pytest.mark.parametrize("launcher", [True], indirect=True, ids=["forked"])
def test_the_answer_to_an_interrupted_request_is_not_taken_for_the_next_one(
    tmp_path, launcher, endless, monkeypatch
):
    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ForkServer, "_begun_pid", interrupt)
        with pytest.raises(KeyboardInterrupt):
            Launched(launcher, tmp_path)
    assert Launched(launcher, tmp_path, "other").end() == WorkerExit(2)


def test_the_children_of_a_worker_that_ended_by_itself_can_be_ended(tmp_path):
    """The process leads a group, as workers do."""
    script = "sleep 600 >/dev/null 2>&1 & echo $!"
    leader = subprocess.Popen(
        ["sh", "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert leader.stdout is not None
    with leader.stdout:
        child = int(leader.stdout.readline())
    leader.wait()
    assert is_alive(child)
    kill_group(leader)
    wait_until(lambda: not is_alive(child))


@pytest.mark.parametrize("call", ["memfd_create", "pidfd_open"])
def test_workers_are_no_forks_where_python_lacks_a_call(call, monkeypatch, tmp_path):
    monkeypatch.setattr("schedsearch.launchers.fork_server._DEVICES", tmp_path)
    assert can_fork()
    monkeypatch.delattr(os, call)
    assert not can_fork()


def test_workers_are_no_forks_beside_a_gpu(monkeypatch, tmp_path):
    monkeypatch.setattr("schedsearch.launchers.fork_server._DEVICES", tmp_path)
    assert can_fork()
    (tmp_path / "nvidia0").touch()
    assert not can_fork()


def test_a_server_that_cannot_fork_leaves_it_to_new_processes(tmp_path, monkeypatch):
    (tmp_path / "server_without_fork.py").write_text(
        "import os\n"
        "from schedsearch.cli import fork_server\n"
        "def fail(): raise OSError\n"
        "os.fork = fail\n"
        "fork_server._main()\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
    monkeypatch.setattr("schedsearch.launchers.fork_server._SERVER", "server_without_fork")
    make_study(tmp_path)
    with closing(LocalLauncher(forks=True)) as launcher:
        for _ in range(2):
            assert Launched(launcher, tmp_path, "other").end() == WorkerExit(2)
            assert launcher._server is not None
            # The launcher ends what it believes to be forks of a server that was killed.
            os.kill(launcher._server.pid, signal.SIGKILL)
            wait_until(lambda server=launcher._server: not is_alive(server.pid))


def test_a_command_with_many_open_files_has_forks(tmp_path):
    make_study(tmp_path, searched(train_for_ever) | {"horizon": 10_000})
    with ExitStack() as stack:
        for _ in range(1100):
            stack.enter_context(Path(os.devnull).open())
        launcher = stack.enter_context(closing(LocalLauncher(forks=True)))
        launched = Launched(launcher, tmp_path)
        try:
            assert server_of(launched.worker)
        finally:
            launched.worker.kill()


@pytest.mark.parametrize("child", ["", "os.fork() or time.sleep(600)"])
def test_a_server_ends_with_a_command_that_is_killed(child):
    """Also while a child of the command keeps the connection to the server open."""
    command = subprocess.Popen(
        [sys.executable, "-c", _COMMAND.format(child=child)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert command.stdout is not None
        with command.stdout:
            server = int(command.stdout.readline())
        assert is_alive(server)
        command.kill()
        wait_until(lambda: not is_alive(server), 60)
    finally:
        kill_group(command)


_COMMAND = """
import os, time
from schedsearch.launchers.fork_server import ForkServer
print(ForkServer().pid, flush=True)
{child}
time.sleep(600)
"""


def test_a_server_that_is_closed_ends():
    server = ForkServer()
    pid = server.pid
    assert is_alive(pid)
    server.close()
    wait_until(lambda: not is_alive(pid))
