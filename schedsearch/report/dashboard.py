"""optuna-dashboard behind a filter: read-only by default, and safe against DNS rebinding."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable, Container, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit

from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from schedsearch.report.dashboard_errors import ErrorResponses
from schedsearch.storage import SHAPE_ERRORS, BatchedStorage, Database, find_study_damage

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from optuna.artifacts._protocol import ArtifactStore

Hosts: TypeAlias = frozenset[str]
Headers: TypeAlias = list[tuple[str, str]]


class ThreadSafeStorage(BatchedStorage):
    """The cached studies for the threads of a server, which read one after the other."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._read_lock = threading.RLock()

    def get_all_studies(self) -> list[Any]:
        """Return all studies.

        Raises:
            DamagedStudyError: an attribute of a study is not JSON.
        """
        try:
            return super().get_all_studies()
        except SHAPE_ERRORS:
            if (damage := find_study_damage(self._database)) is not None:
                raise damage from None
            raise

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        """Return a study's trials."""
        with self._read_lock:
            return super().get_all_trials(study_id, deepcopy, states)

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Return a trial."""
        with self._read_lock:
            return super().get_trial(trial_id)


def make_app(
    storage: BaseStorage,
    pictures: ArtifactStore,
    host: str,
    *,
    allow_edit: bool,
    warn: Callable[[str], None],
) -> WSGIApplication:
    """Return the WSGI application: optuna-dashboard behind `RequestFilter` and `ErrorResponses`.

    Args:
        storage: a cached storage, since the dashboard reads all trials again and again.
        pictures: the artifact store with the pictures of trials.
        host: a host name to accept, in addition to the names of this machine.
        allow_edit: whether the browser may change and delete studies.
        warn: prints a line about a request that cannot be answered.
    """
    import optuna_dashboard

    app = optuna_dashboard.wsgi(storage, artifact_store=pictures)
    app.catchall = False  # ErrorResponses answers exceptions
    return RequestFilter(ErrorResponses(app, warn), accepted_names(host), allow_edit=allow_edit)


def warm_cache(storage: BaseStorage) -> None:
    """Read all trials of all studies into the cache, so that no page has to wait for that."""
    try:
        for study in storage.get_all_studies():
            storage.get_all_trials(study._study_id, deepcopy=False)
    except Exception:
        return  # The page that needs the trials meets the same error, and reports it.


class RequestFilter:
    """Refuses requests to foreign host names, and by default all requests that write.

    Other sites may not read the responses. The browser displays artifacts of trials only if they
    are pictures or plain text: the database states their types, so these cannot be trusted.

    A foreign page can send requests under its own host name that resolves to this machine (DNS
    rebinding): so the Host header must be an address or a name of this machine. It can also send
    requests to the dashboard's name: so a request that writes must have the dashboard's Origin.
    """

    def __init__(self, app: WSGIApplication, names: Hosts, *, allow_edit: bool) -> None:
        self._app, self._names, self._allow_edit = app, names, allow_edit

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response = _with_security_headers(environ, start_response)
        host = environ.get("HTTP_HOST", "")
        if not self._is_accepted(host):
            return _refuse(start_response, HTTPStatus.MISDIRECTED_REQUEST, "unknown host name")
        if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            return self._app(environ, start_response)
        if not self._allow_edit:
            text = "the dashboard is read-only: start it with --allow-edit to make changes"
            return _refuse(
                start_response, HTTPStatus.METHOD_NOT_ALLOWED, text, ("Allow", "GET, HEAD")
            )
        origin = environ.get("HTTP_ORIGIN")
        if origin is not None and urlsplit(origin).netloc != host:
            return _refuse(
                start_response,
                HTTPStatus.FORBIDDEN,
                "the request comes from a page of another site",
            )
        return self._app(environ, start_response)

    def _is_accepted(self, host: str) -> bool:
        """Return whether a host is an accepted name, or an address (which has no DNS entry)."""
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        return name in self._names or _is_address(name)


def accepted_names(host: str) -> Hosts:
    """Return the host names of this machine, and the one that the server listens on."""
    return frozenset(name.lower() for name in ("localhost", socket.gethostname(), host) if name)


def is_loopback(host: str) -> bool:
    """Return whether an address can be reached from this machine only."""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


#: File types that a browser may display. `_ARTIFACT_HEADERS` keeps scripts in SVG from running.
_DISPLAYED = frozenset(
    {"image/png", "image/jpeg", "image/gif", "image/webp", "image/svg+xml", "text/plain"}
)
_COMMON_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_ARTIFACT_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"
}
_DOWNLOAD_HEADERS = _ARTIFACT_HEADERS | {
    "Content-Type": "application/octet-stream",
    "Content-Disposition": "attachment",
}


def _with_security_headers(
    environ: WSGIEnvironment, start_response: StartResponse
) -> StartResponse:
    """Return a `start_response` that adds security headers, and drops those that allow sharing."""
    # optuna-dashboard ignores repeated slashes at the beginning.
    is_artifact = environ.get("PATH_INFO", "").lstrip("/").startswith("artifacts/")

    def start(status: str, headers: Headers, exc_info: Any = None) -> Callable[[bytes], object]:
        kept = {name: value for name, value in headers if not name.lower().startswith("access-")}
        if is_artifact:
            kind = kept.get("Content-Type", "").partition(";")[0].strip().lower()
            kept |= _ARTIFACT_HEADERS if kind in _DISPLAYED else _DOWNLOAD_HEADERS
        return start_response(status, list((kept | _COMMON_HEADERS).items()), exc_info)

    return start


def _refuse(
    start_response: StartResponse, status: HTTPStatus, text: str, *headers: tuple[str, str]
) -> Iterable[bytes]:
    body = f"{text}\n".encode()
    plain = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
    start_response(f"{status.value} {status.phrase}", [*plain, *headers])
    return [body]
