"""The clock of a database: the clocks of hosts differ."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Float, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

_CLOCKS = {
    "sqlite": "(julianday('now') - 2440587.5) * 86400.0",
    "postgresql": "CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS double precision)",
    "mysql": "UNIX_TIMESTAMP(NOW(6))",
    "mariadb": "UNIX_TIMESTAMP(NOW(6))",
}


class Clock(FunctionElement[float]):
    """The time in seconds since 1970, by the clock of the database, as a part of a query."""

    name = "clock"
    # Statements with it are compiled once. A ColumnElement would not be enough for that: it has
    # no key in the cache of statements, without a word.
    inherit_cache = True
    type = Float(asdecimal=False)


@compiles(Clock)
def _compile(element: Clock, compiler: Any, **options: Any) -> str:
    return _CLOCKS[compiler.dialect.name]


_TIME = select(Clock().label("clock"))


def database_time(connection: Connection) -> float:
    """Return the time in seconds since 1970, by the clock of the database."""
    return float(connection.execute(_TIME).scalar_one())


def database_now(connection: Connection) -> datetime:
    """Return the time by the clock of the database, as Optuna stores times: naive UTC."""
    return to_stored_time(database_time(connection))


def to_stored_time(seconds: float) -> datetime:
    """Return seconds since 1970 as Optuna stores times: naive UTC."""
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)


@dataclass(frozen=True)
class DatabaseClock:
    """The clock of a database, read once; this process measures the time since.

    So no clock of another host matters, nor a clock that is set meanwhile.

    Attributes:
        moment: the time when the clock was read, in naive UTC.
    """

    moment: datetime
    _read_at: float = field(default_factory=time.monotonic)

    @classmethod
    def read(cls, connection: Connection) -> DatabaseClock:
        """Read the clock of a database."""
        return cls(database_now(connection))

    def now(self) -> datetime:
        """Return the current time in naive UTC."""
        return self.moment + timedelta(seconds=time.monotonic() - self._read_at)
