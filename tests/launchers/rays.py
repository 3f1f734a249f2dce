"""A Ray cluster of this machine: its nodes are processes, and may be killed like machines."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from tests.processes import descendants
from tests.searches import ROOT
from tests.servers import free_port

#: The variables that say who may join.
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "of-the-tests-0123456789abcdef0123456789"}
#: Ray notices a dead node within two seconds, and runs workers as fast as other processes.
_SETTINGS = {
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_failure_threshold": "4",
    "RAY_worker_niceness": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    **TOKEN,
    "PYTHONPATH": str(ROOT),
}


class Node:
    """One node, until it is killed."""

    def __init__(self, *flags: str) -> None:
        command = [str(Path(sys.executable).parent / "ray"), "start", "--block", *flags]
        sizes = ["--num-cpus=4", "--object-store-memory=80000000", "--memory=1000000000"]
        ports = ["--dashboard-agent-listen-port=0", "--node-ip-address=127.0.0.1"]
        self.process = subprocess.Popen(
            [*command, *sizes, *ports],
            env=os.environ | _SETTINGS,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout is not None
        said = ""
        for line in self.process.stdout:
            said += line
            if "--block" in line:
                return
        raise AssertionError(said)

    def kill(self) -> None:
        """Take the power from the node: nothing of it runs for a moment longer."""
        for pid in (self.process.pid, *descendants(self.process.pid)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


class RayCluster:
    """A head, and nodes that join it."""

    def __init__(self) -> None:
        # Short: sockets live in it, and their paths have a limit.
        self.folder = Path(tempfile.mkdtemp(prefix="ray-"))
        self.address = f"127.0.0.1:{free_port()}"
        port = f"--port={self.address.rpartition(':')[2]}"
        folder = f"--temp-dir={self.folder}"
        self.nodes = [Node("--head", port, folder, "--include-dashboard=false")]

    @property
    def flags(self) -> tuple[str, ...]:
        """The options of `start` that run its workers here."""
        return "--on", "ray", "--address", self.address

    def add_node(self) -> Node:
        """Let another node join."""
        self.nodes.append(Node(f"--address={self.address}"))
        return self.nodes[-1]

    def end(self) -> None:
        """Kill all nodes, and remove what they wrote."""
        for node in reversed(self.nodes):
            node.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
