"""The HTTP server of the dashboard: a thread for each connection, within limits.

A client may connect and never finish its request. So the number of connections is limited, a
request has to arrive within seconds, and where all places are taken, the connection that has waited
for its request longest makes room for a new one.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, cast
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from schedsearch.errors import InputError

#: At most so many connections at a time; a browser opens up to six.
MAX_CONNECTIONS = 64
#: Seconds that a request may take to arrive.
REQUEST_TIMEOUT = 10.0
#: Seconds that a connection may stay silent while the rest of a request or an answer is sent.
_SOCKET_TIMEOUT = 30.0
#: Seconds that a whole answer may take.
ANSWER_TIMEOUT = 120.0
#: Seconds that a new connection waits for a place.
_PLACE_TIMEOUT = 1.0
_BUSY = (
    b"HTTP/1.0 503 Service Unavailable\r\nContent-Type: text/plain\r\nRetry-After: 1\r\n"
    b"Connection: close\r\n\r\nall connections are in use: try again\n"
)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *arguments: Any) -> None:
        self._places = threading.BoundedSemaphore(MAX_CONNECTIONS)
        # The connections whose requests have not arrived, oldest first, and since when.
        self._expected: dict[socket.socket, float] = {}
        # The connections whose requests are being answered, and since when.
        self._answered: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        super().__init__(*arguments)

    def server_bind(self) -> None:
        # Not HTTPServer's method: it looks up the full host name, which can take seconds.
        self.server_name = str(self.server_address[0])
        TCPServer.server_bind(self)
        self.server_port = self.server_address[1]
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread; refuse the connection if no place becomes free."""
        if not self._places.acquire(blocking=False):
            self._disconnect_oldest()
            if not self._places.acquire(timeout=_PLACE_TIMEOUT):
                self._refuse(request)
                return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # the system has no room for another thread
            self._places.release()
            self._refuse(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer a request, and free its place."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def _refuse(self, request: socket.socket) -> None:
        with suppress(OSError):  # It is closed either way.
            request.settimeout(0)
            request.send(_BUSY)
        self.shutdown_request(request)

    def service_actions(self) -> None:
        """Disconnect clients that send or read too slowly; called twice a second."""
        now = time.monotonic()
        with self._lock:
            for found, limit in (
                (self._expected, REQUEST_TIMEOUT),
                (self._answered, ANSWER_TIMEOUT),
            ):
                for connection in [one for one, since in found.items() if now - since > limit]:
                    self._disconnect(connection)

    def _disconnect_oldest(self) -> None:
        with self._lock:
            for connection in list(self._expected)[:1]:
                self._disconnect(connection)

    def _disconnect(self, connection: socket.socket) -> None:
        """End a connection: its thread can neither read nor write, and ends too."""
        self._expected.pop(connection, None)
        self._answered.pop(connection, None)
        with suppress(OSError):  # The client may be faster.
            connection.shutdown(socket.SHUT_RDWR)

    def expect_request(self, connection: socket.socket) -> None:
        """Note that a request begins to arrive."""
        with self._lock:
            self._expected[connection] = time.monotonic()

    def request_arrived(self, connection: socket.socket) -> None:
        """Note that the head of a request has arrived, and that its answer begins."""
        with self._lock:
            if self._expected.pop(connection, None) is not None:
                self._answered[connection] = time.monotonic()

    def connection_ended(self, connection: socket.socket) -> None:
        """Note that an answer is complete, or that its connection has ended."""
        with self._lock:
            self._expected.pop(connection, None)
            self._answered.pop(connection, None)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a client that closed its connection, or is too slow."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = _SOCKET_TIMEOUT

    def setup(self) -> None:
        super().setup()
        self._server.expect_request(self.connection)

    def parse_request(self) -> bool:
        try:
            return super().parse_request()
        finally:
            self._server.request_arrived(self.connection)

    def finish(self) -> None:
        self._server.connection_ended(self.connection)
        super().finish()

    def log_message(self, format: str, *args: Any) -> None:
        """Do not log requests."""

    @property
    def _server(self) -> _Server:
        return cast("_Server", self.server)


def make_server(app: Callable[..., Iterable[bytes]], host: str, port: int) -> WSGIServer:
    """Return a server that already listens; port 0 picks any free port.

    Raises:
        InputError: the address does not belong to this machine, or the port is in use.
    """
    kind = _Server6 if ":" in host else _Server
    try:
        server = kind((host, port), _Handler)
    except OSError as error:
        raise InputError(
            f"cannot listen on {host} port {port}: {(error.strerror or str(error)).lower()}; "
            "choose others with --host and --port (port 0: any free port)"
        ) from None
    server.set_app(app)
    return server


def url_of(server: WSGIServer) -> str:
    """Return the URL of the dashboard."""
    host = server.server_name
    return f"http://{f'[{host}]' if ':' in host else host}:{server.server_port}/dashboard"
