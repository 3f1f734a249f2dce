"""optuna-dashboard behind a guard: by default it reads only, and answers to no foreign name."""

from __future__ import annotations

import ipaddress
import socket
import sys
import threading
from collections.abc import Callable, Container, Iterable
from http import HTTPStatus
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from schedsearch.errors import InputError
from schedsearch.storage import BatchedStorage, Database

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from optuna.artifacts._protocol import ArtifactStore

Hosts: TypeAlias = frozenset[str]
Headers: TypeAlias = list[tuple[str, str]]


class SharedReading(BatchedStorage):
    """The studies in memory, for the threads of a server: they wait for each other's reading."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._reading = threading.RLock()

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        """Return a study's trials."""
        with self._reading:
            return super().get_all_trials(study_id, deepcopy, states)

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Return a trial."""
        with self._reading:
            return super().get_trial(trial_id)


def make_app(
    storage: BaseStorage, pictures: ArtifactStore, host: str, *, allow_edit: bool
) -> WSGIApplication:
    """Return optuna-dashboard on a storage, guarded.

    Args:
        storage: a cached one: the dashboard asks for every trial again and again.
        pictures: those of its trials.
        host: the name that it is served under, beside this machine's own.
        allow_edit: let the browser change and delete.
    """
    import optuna_dashboard

    return Guard(
        optuna_dashboard.wsgi(storage, artifact_store=pictures),
        own_names(host),
        allow_edit=allow_edit,
    )


def warm(storage: BaseStorage) -> None:
    """Read all trials of all studies once, so that no page waits for it: a cache keeps them."""
    try:
        for study in storage.get_all_studies():
            storage.get_all_trials(study._study_id, deepcopy=False)
    except Exception:
        return  # Whoever asks for the page meets it again, and is told.


class Guard:
    """Refuses what is not addressed to this machine, and what would write.

    What it lets through is for this site's own pages alone, and of the files that trials keep only
    pictures and plain text are for the browser to show: anybody who can write to the database says
    what kind they are.

    A page from elsewhere can make the browser ask a name of its own that resolves to this machine
    (DNS rebinding): so the Host header must be an address or one of our own names. And it can make
    the browser send requests to ours: so one that writes must come from a page of ours (Origin).
    """

    def __init__(self, inner: WSGIApplication, names: Hosts, *, allow_edit: bool) -> None:
        self._inner, self._names, self._allow_edit = inner, names, allow_edit

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response = _hardened(environ, start_response)
        host = environ.get("HTTP_HOST", "")
        if not self._is_own(host):
            return _refuse(start_response, HTTPStatus.MISDIRECTED_REQUEST, "not this server's name")
        if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            return self._inner(environ, start_response)
        if not self._allow_edit:
            text = "this dashboard reads only: start it with --allow-edit to change something"
            return _refuse(
                start_response, HTTPStatus.METHOD_NOT_ALLOWED, text, ("Allow", "GET, HEAD")
            )
        origin = environ.get("HTTP_ORIGIN")
        if origin is not None and urlsplit(origin).netloc != host:
            return _refuse(start_response, HTTPStatus.FORBIDDEN, "sent by another site's page")
        return self._inner(environ, start_response)

    def _is_own(self, host: str) -> bool:
        """Tell whether a Host header is an address, which cannot be rebound, or a name of ours."""
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        return name in self._names or _is_address(name)


def own_names(host: str) -> Hosts:
    """Return the names that this machine may be asked for: its own, and the one it listens on."""
    return frozenset(name.lower() for name in ("localhost", socket.gethostname(), host) if name)


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches an address."""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


#: Types of files that a browser may show. Scripts in a drawing do not run, see `_AS_FILE`.
_SHOWN = frozenset(
    {"image/png", "image/jpeg", "image/gif", "image/webp", "image/svg+xml", "text/plain"}
)
_EVERYWHERE = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_AS_FILE = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}
_AS_DOWNLOAD = _AS_FILE | {
    "Content-Type": "application/octet-stream",
    "Content-Disposition": "attachment",
}


def _hardened(environ: WSGIEnvironment, start_response: StartResponse) -> StartResponse:
    """Return what begins an answer, with the headers that keep a browser from running it."""
    # The slashes are what the dashboard's own routing overlooks.
    is_file = environ.get("PATH_INFO", "").lstrip("/").startswith("artifacts/")

    def start(status: str, headers: Headers, exc_info: Any = None) -> Callable[[bytes], object]:
        own = {name: value for name, value in headers if not name.lower().startswith("access-")}
        if is_file:
            kind = own.get("Content-Type", "").partition(";")[0].strip().lower()
            own |= _AS_FILE if kind in _SHOWN else _AS_DOWNLOAD
        return start_response(status, list((own | _EVERYWHERE).items()), exc_info)

    return start


def _refuse(
    start_response: StartResponse, status: HTTPStatus, text: str, *headers: tuple[str, str]
) -> Iterable[bytes]:
    body = f"{text}\n".encode()
    plain = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
    start_response(f"{status.value} {status.phrase}", [*plain, *headers])
    return [body]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        # Past HTTPServer's own, whose look-up of the host's full name can take seconds.
        self.server_name = str(self.server_address[0])
        TCPServer.server_bind(self)
        self.server_port = self.server_address[1]
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a browser that hung up."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Server6(_Server):
    address_family = socket.AF_INET6


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of single requests."""


def make_server(app: Callable[..., Iterable[bytes]], host: str, port: int) -> WSGIServer:
    """Return a server that listens already; port 0 takes any free one.

    Raises:
        InputError: the address is not this machine's, or the port is taken.
    """
    kind = _Server6 if ":" in host else _Server
    try:
        server = kind((host, port), _QuietHandler)
    except OSError as error:
        raise InputError(
            f"cannot listen on {host} port {port}: {(error.strerror or str(error)).lower()}; "
            "--host and --port give another (port 0: any free one)"
        ) from None
    server.set_app(app)
    return server


def url_of(server: WSGIServer) -> str:
    """Return where a browser finds the dashboard."""
    host = server.server_name
    return f"http://{f'[{host}]' if ':' in host else host}:{server.server_port}/dashboard"
