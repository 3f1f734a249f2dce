"""Errors of the dashboard: a status and one line for the browser, one line for the terminal.

optuna-dashboard answers 500 to many requests that are wrong, and prints a traceback for each.
"""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from schedsearch.errors import SchedSearchError, summarize_exception
from schedsearch.printable import printable_line

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

#: Ids of studies and trials are below this on every database.
_ID_LIMIT = 2**31
_MAX_PATH = 2_000


class ErrorResponses:
    """Refuses wrong requests before the application sees them, and answers its exceptions.

    Args:
        app: optuna-dashboard.
        warn: prints a line on the terminal.
    """

    def __init__(self, app: WSGIApplication, warn: Callable[[str], None]) -> None:
        self._app, self._warn = app, warn
        self._warned: set[str] = set()
        self._caught = _CaughtExceptions()
        logger = logging.getLogger("optuna_dashboard")
        logger.handlers, logger.propagate = [self._caught], False

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        if (refusal := _find_mistake(environ)) is not None:
            return _respond(environ, start_response, *refusal)
        # The application expects this header, and writes tracebacks to the other.
        environ.setdefault("HTTP_ACCEPT_ENCODING", "")
        environ["wsgi.errors"] = io.StringIO()
        started: list[Any] = []

        def start(status: str, headers: Any, exc_info: Any = None) -> Callable[[bytes], object]:
            started[:] = [status, headers]
            return lambda content: None

        self._caught.clear()
        try:
            body = self._app(environ, start)
        except Exception as error:
            return self._answer(error, environ, start_response)
        caught = self._caught.get()
        if caught is not None and started[0].startswith("500"):
            if hasattr(body, "close"):
                body.close()
            return self._answer(caught, environ, start_response)
        start_response(*started)
        return body

    def _answer(
        self, error: Exception, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        if isinstance(error, KeyError):  # raised by storages for an unknown id
            return _respond(environ, start_response, HTTPStatus.NOT_FOUND, "there is no such page")
        is_ours = isinstance(error, SchedSearchError)
        reason = printable_line(str(error)) if is_ours else summarize_exception(error)
        line = (
            f"error: the dashboard cannot answer {printable_line(environ['PATH_INFO'])}: {reason}"
        )
        if line not in self._warned:  # the browser asks again and again
            self._warned.add(line)
            self._warn(line)
        text = reason if is_ours else "internal error: the terminal of the dashboard shows it"
        return _respond(environ, start_response, HTTPStatus.INTERNAL_SERVER_ERROR, text)


class _CaughtExceptions(logging.Handler):
    """Keeps the exception that the application logged last, for each thread."""

    def __init__(self) -> None:
        super().__init__()
        self._of_thread = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        error = sys.exception()
        if isinstance(error, Exception):
            self._of_thread.error = error

    def clear(self) -> None:
        self._of_thread.error = None

    def get(self) -> Exception | None:
        error: Exception | None = self._of_thread.error
        return error


def _find_mistake(environ: WSGIEnvironment) -> tuple[HTTPStatus, str] | None:
    """Return the status and the reason to refuse a request; None if nothing is wrong with it."""
    path, query = environ.get("PATH_INFO", ""), environ.get("QUERY_STRING", "")
    if len(path) + len(query) > _MAX_PATH:
        return HTTPStatus.REQUEST_URI_TOO_LONG, "the address is too long"
    try:
        name = path.encode("latin-1").decode()
    except UnicodeError:
        return HTTPStatus.BAD_REQUEST, "the address is not UTF-8"
    if not name.isprintable():
        return HTTPStatus.BAD_REQUEST, "the address has characters that cannot be printed"
    parts = name.split("/")
    if ".." in parts or any(_is_too_large(part) for part in parts):
        return HTTPStatus.NOT_FOUND, "there is no such page"
    for after in parse_qs(query, keep_blank_values=True).get("after", ()):
        if not after.isdecimal() or _is_too_large(after):
            return HTTPStatus.BAD_REQUEST, "`after` must be a number of trials"
    return None


def _is_too_large(part: str) -> bool:
    digits = part.removeprefix("-")
    return digits.isdecimal() and (len(digits) > 10 or int(digits) >= _ID_LIMIT)


def _respond(
    environ: WSGIEnvironment, start_response: StartResponse, status: HTTPStatus, reason: str
) -> Iterable[bytes]:
    """Answer with one line: JSON for the dashboard's scripts, otherwise plain text."""
    is_api = environ.get("PATH_INFO", "").lstrip("/").startswith("api/")
    text, kind = (
        (json.dumps({"reason": reason}), "application/json") if is_api else (reason, "text/plain")
    )
    body = f"{text}\n".encode(errors="backslashreplace")
    headers = [("Content-Type", f"{kind}; charset=utf-8"), ("Content-Length", str(len(body)))]
    start_response(f"{status.value} {status.phrase}", headers)
    return [] if environ.get("REQUEST_METHOD") == "HEAD" else [body]
