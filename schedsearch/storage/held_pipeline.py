"""A pipeline of psycopg that sends nothing before the next sync."""

from __future__ import annotations

from typing import Any

from psycopg import Connection, Pipeline
from psycopg.abc import PQGen
from psycopg.generators import send


class HeldPipeline(Pipeline):
    """Holds back statements until the next sync, and sends them together with it.

    psycopg sends each statement at once. Then a server that has executed one waits for the next,
    and does not regard the transaction as idle: if the client is suspended there, the server never
    ends the transaction, and others wait for its locks. With this class, the server has either
    nothing to wait for, or a transaction that is idle, and that it ends after a while: see
    `connections`.
    """

    def _communicate_gen(self) -> PQGen[None]:
        return
        yield

    def _sync_gen(self) -> PQGen[None]:
        self._enqueue_sync()
        while self.command_queue:
            self.command_queue.popleft()()  # libpq collects them
        yield from send(self.pgconn)
        yield from self._fetch_gen(flush=False)


def hold_statements(connection: Connection[Any]) -> HeldPipeline:
    """Switch a connection into pipeline mode until it is closed."""
    pipeline = HeldPipeline(connection)
    connection._pipeline = pipeline
    return pipeline.__enter__()
