"""How the processes of a trial find each other: started by torchrun, or by rank 0 itself."""

from __future__ import annotations

import gc
import json
import os
import secrets
import socket
import struct
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge, wait
from typing import TYPE_CHECKING

from schedsearch.errors import SchedSearchError

if TYPE_CHECKING:
    from torch._C._distributed_c10d import TCPStore

#: The address and the key of rank 0 for the processes that it starts.
ADDRESS_VARIABLE = "SCHEDSEARCH_RANK_0"
#: Counts how often the processes of torchrun have replaced themselves.
GENERATION_VARIABLE = "SCHEDSEARCH_RANK_GENERATION"
#: Seconds in which all ranks have to start.
_TIMEOUT = 600.0
#: Seconds for which rank 0 waits for each message of a process that connects.
_READ_SECONDS = 10


@dataclass(frozen=True)
class Rank:
    """The place of this process among the processes of a trial."""

    number: int
    size: int

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Rank | None:
        """Return the rank that torchrun, or rank 0, gave to a process; None without them.

        >>> Rank.of({"TORCHELASTIC_RUN_ID": "1", "RANK": "1", "WORLD_SIZE": "2"})
        Rank(number=1, size=2)
        >>> Rank.of({"RANK": "1", "WORLD_SIZE": "2"})
        """
        if "TORCHELASTIC_RUN_ID" not in environment or environment["WORLD_SIZE"] == "1":
            return None
        return cls(int(environment["RANK"]), int(environment["WORLD_SIZE"]))


@dataclass(frozen=True)
class Address:
    """Where rank 0 waits for the others, and the key with which they authenticate."""

    host: str
    port: int
    key: str

    def to_text(self) -> str:
        """Return the address as a text, for `parse`."""
        return json.dumps([self.host, self.port, self.key])

    @classmethod
    def parse(cls, text: str) -> Address:
        """Return the address from its text."""
        return cls(*json.loads(text))


class RankServer:
    """The socket at which rank 0 waits for the others.

    Args:
        host: at which they find it; a loopback address is open to this machine only.
    """

    def __init__(self, host: str) -> None:
        is_local = host in ("127.0.0.1", "localhost")
        self._socket = socket.create_server(("127.0.0.1" if is_local else "", 0))
        port = self._socket.getsockname()[1]
        self.address = Address(host, port, secrets.token_hex(16))

    def accept_ranks(self, ranks: int, check: Callable[[], None]) -> list[Connection]:
        """Wait for all other ranks, and return their connections by rank.

        Args:
            ranks: how many there are, beside rank 0.
            check: called about once a second; raises to end this.

        Raises:
            SchedSearchError: they did not come within ten minutes.
        """
        found: dict[int, Connection] = {}
        key, end = self.address.key.encode(), time.monotonic() + _TIMEOUT
        while len(found) < ranks:
            if time.monotonic() > end:
                raise SchedSearchError(
                    f"{ranks - len(found)} of {ranks + 1} processes of a trial did not start "
                    f"within {_TIMEOUT / 60:.0f} minutes"
                )
            check()
            if not wait([self._socket], 1.0):
                continue
            # An exception means another program, or a rank that has ended.
            with self._socket.accept()[0] as opened, suppress(Exception):
                _set_read_timeout(opened, _READ_SECONDS)
                connection = _connection(opened)
                deliver_challenge(connection, key)
                answer_challenge(connection, key)
                rank = int(connection.recv_bytes())
                _set_read_timeout(opened, 0)
                found[rank] = connection
        self._socket.close()
        return [found[rank] for rank in sorted(found)]


def connect(address: Address, rank: int) -> Connection:
    """Return a connection to rank 0.

    Raises:
        OSError or EOFError: rank 0 has ended.
    """
    with socket.create_connection((address.host, address.port)) as opened:
        connection = _connection(opened)
    answer_challenge(connection, address.key.encode())
    deliver_challenge(connection, address.key.encode())
    connection.send_bytes(str(rank).encode())
    return connection


def publish(address: Address, environment: Mapping[str, str]) -> None:
    """Tell the processes that torchrun started where rank 0 is."""
    _torchrun_store(environment).set(_key(environment), address.to_text())


def look_up(environment: Mapping[str, str]) -> Address:
    """Return where rank 0 is; wait until it has published that.

    Raises:
        SchedSearchError: it did not within ten minutes.
    """
    if ADDRESS_VARIABLE in environment:
        return Address.parse(environment[ADDRESS_VARIABLE])
    store = _torchrun_store(environment)
    end = time.monotonic() + _TIMEOUT
    while not store.check([_key(environment)]):
        if time.monotonic() > end:
            raise SchedSearchError(
                f"rank 0 of a trial did not start within {_TIMEOUT / 60:.0f} minutes"
            )
        time.sleep(0.1)
    return Address.parse(store.get(_key(environment)).decode())


def _key(environment: Mapping[str, str]) -> str:
    generation = environment.get(GENERATION_VARIABLE, "0")
    return f"schedsearch/{environment['TORCHELASTIC_RESTART_COUNT']}/{generation}"


def _torchrun_store(environment: Mapping[str, str]) -> TCPStore:

    from torch._C._distributed_c10d import TCPStore

    host, port = environment["MASTER_ADDR"], int(environment["MASTER_PORT"])
    return TCPStore(host, port, is_master=False, timeout=timedelta(seconds=_TIMEOUT))


def _connection(opened: socket.socket) -> Connection:
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Connection(os.dup(opened.fileno()))


def _set_read_timeout(opened: socket.socket, seconds: int) -> None:
    """Limit how long a read of a socket waits; 0: it has no limit."""
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", seconds, 0))


class GroupStore:
    """A store of torch.distributed in rank 0, at which the loop's process group begins.

    torchrun has one too, but it keeps what an earlier group wrote, at which a later one fails.

    Args:
        host: at which the other ranks find it.
    """

    def __init__(self, host: str) -> None:
        from torch._C._distributed_c10d import TCPStore

        self._store = TCPStore(host, 0, is_master=True, wait_for_workers=False)
        self.port: int = self._store.port


def point_to_store(host: str, port: int) -> None:
    """Let `init_process_group` in this process begin at a store."""
    os.environ |= {
        "MASTER_ADDR": host,
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }


def leave_process_group() -> None:
    """Destroy the process group of the user's loop, if it made one.

    A process group and what uses it, such as DistributedDataParallel, have threads of C++ that may
    abort the process if they are still there when the interpreter ends (SIGABRT, "terminate called
    without an active exception").
    """
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        gc.collect()  # trainers of frameworks are reference cycles
        with suppress(RuntimeError):  # another rank was lost; all work is done
            distributed.destroy_process_group()
