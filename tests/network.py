"""A network between workers and a server, which tests interrupt while the server runs."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class Network:
    """Passes on what comes in at `port` of this machine to another port of it.

    Args:
        server: the port that the server listens on.

    Attributes:
        round_trips: how often one side of a connection waited for an answer, and got it.
    """

    def __init__(self, server: int) -> None:
        self._server = server
        self.round_trips = 0
        self._last_sender: socket.socket | None = None
        self._ends: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._listen()

    def cut(self) -> None:
        """End all connections, and let no new one through."""
        for end in (self._listener, *self._ends):
            with suppress(OSError):  # of one that is closed already
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._ends.clear()

    def mend(self) -> None:
        """Let connections through again."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._listen()

    def _listen(self) -> None:
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):  # the network was cut
            while True:
                near, _ = listener.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self._server))
                except OSError:  # the server is down
                    near.close()
                    continue
                self._ends += near, far
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=(*ends, far), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                # Counted before it is passed on: the other side answers only then.
                self.round_trips += source is server and self._last_sender is not source
                self._last_sender = source
                target.sendall(data)
        # Also after a reset: otherwise the other end would wait for ever.
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)
