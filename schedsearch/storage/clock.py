"""The clock of a database: the clocks of hosts differ."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Connection, text

_CLOCKS = {
    "sqlite": "SELECT (julianday('now') - 2440587.5) * 86400.0",
    "postgresql": "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS double precision)",
    "mysql": "SELECT UNIX_TIMESTAMP(NOW(6))",
    "mariadb": "SELECT UNIX_TIMESTAMP(NOW(6))",
}


def database_time(connection: Connection) -> float:
    """Return the time in seconds since 1970, by the clock of the database."""
    return float(connection.execute(text(_CLOCKS[connection.dialect.name])).scalar_one())


def database_now(connection: Connection) -> datetime:
    """Return the time by the clock of the database, as Optuna stores times: naive UTC."""
    return datetime.fromtimestamp(database_time(connection), UTC).replace(tzinfo=None)
