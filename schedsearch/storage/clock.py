"""The clock of a database: the clocks of hosts differ."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import ColumnElement, Connection, Dialect, Float, literal_column, select

_CLOCKS = {
    "sqlite": "(julianday('now') - 2440587.5) * 86400.0",
    "postgresql": "CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS double precision)",
    "mysql": "UNIX_TIMESTAMP(NOW(6))",
    "mariadb": "UNIX_TIMESTAMP(NOW(6))",
}


def clock_column(dialect: Dialect) -> ColumnElement[float]:
    """Return the time in seconds since 1970, by the clock of the database, as part of a query."""
    return literal_column(_CLOCKS[dialect.name], Float(asdecimal=False)).label("clock")


def database_time(connection: Connection) -> float:
    """Return the time in seconds since 1970, by the clock of the database."""
    return float(connection.execute(select(clock_column(connection.dialect))).scalar_one())


def database_now(connection: Connection) -> datetime:
    """Return the time by the clock of the database, as Optuna stores times: naive UTC."""
    return to_stored_time(database_time(connection))


def to_stored_time(seconds: float) -> datetime:
    """Return seconds since 1970 as Optuna stores times: naive UTC."""
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
