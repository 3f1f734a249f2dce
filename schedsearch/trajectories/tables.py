"""The tables of what was trained, beside Optuna's: their columns, their making, their version."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Float,
    Index,
    Insert,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    func,
    insert,
    inspect,
    select,
    text,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite

from schedsearch.storage import Database

metadata = MetaData()


def _name(key: str, *, primary: bool = False) -> Column[str]:
    """Return a column for 32 hexadecimal digits, compared byte by byte."""
    digits = mysql.CHAR(32, charset="ascii", collation="ascii_bin")
    kind = String(32).with_variant(digits, "mysql", "mariadb")
    return Column(key, kind, primary_key=primary, nullable=False)


versions = Table(
    "schedsearch_version",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
)

# A node never changes, and holds nothing but what was trained. `run` is that of the training that
# made it: with one index, one query gives all that followed.
nodes = Table(
    "schedsearch_nodes",
    metadata,
    _name("hash", primary=True),
    _name("parent"),
    _name("root"),
    _name("run"),
    Column("epoch", Integer, nullable=False),
    Column("result", Text, nullable=False),
    Index("schedsearch_nodes_by_run", "run", "epoch"),
)

checkpoints = Table(
    "schedsearch_checkpoints",
    metadata,
    _name("hash", primary=True),
    Column("artifact", String(80), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    # Seconds since 1970 by the database's clock, like `expires` below.
    Column("used", Float(precision=53), nullable=False),
)

# Who trains which node.
leases = Table(
    "schedsearch_leases",
    metadata,
    _name("hash", primary=True),
    _name("run"),
    Column("expires", Float(precision=53), nullable=False),
)

# Which checkpoint a live run would go on from.
pins = Table(
    "schedsearch_pins",
    metadata,
    _name("run", primary=True),
    _name("hash"),
    Column("expires", Float(precision=53), nullable=False),
)

#: Leads from one version of the tables to the next.
Step = Callable[[Connection], None]


def _create(connection: Connection) -> None:
    metadata.create_all(connection)


#: Step n leads from version n to n + 1; version 0 is a database without these tables.
STEPS: tuple[Step, ...] = (_create,)


def upgrade(database: Database, steps: Sequence[Step] = STEPS) -> bool:
    """Bring the tables to the version that is known here, if they are older or missing.

    Any number of workers may do so at once.

    Returns:
        False if the tables are of a later version: nobody here may read or write them.
    """
    if _stored_version(database.engine) < len(steps):
        with database.creating():
            for version in range(_stored_version(database.engine), len(steps)):
                # One transaction each: a step that fails leaves its predecessor's version.
                with database.engine.begin() as connection:
                    steps[version](connection)
                    connection.execute(versions.delete())
                    connection.execute(insert(versions), {"version": version + 1})
    return _stored_version(database.engine) == len(steps)


def _stored_version(engine: Engine) -> int:
    with engine.connect().execution_options(reads_only=True) as connection:
        if not inspect(connection).has_table(versions.name):
            return 0
        return connection.execute(select(func.max(versions.c.version))).scalar() or 0


_LOCK = select(versions.c.version).with_for_update()
_CLOCKS = {
    "sqlite": "SELECT (julianday('now') - 2440587.5) * 86400.0",
    "postgresql": "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS double precision)",
    "mysql": "SELECT UNIX_TIMESTAMP(NOW(6))",
    "mariadb": "SELECT UNIX_TIMESTAMP(NOW(6))",
}


def lock(connection: Connection) -> float:
    """Let one transaction at a time write to these tables; return the time, in seconds since 1970.

    The time is the database's: the clocks of hosts differ.
    """
    connection.execute(_LOCK)
    return float(connection.execute(text(_CLOCKS[connection.dialect.name])).scalar_one())


def add_missing(table: Table, dialect: str) -> Insert:
    """Return the statement that inserts rows, and leaves alone those whose key is there."""
    if dialect in ("mysql", "mariadb"):
        key = table.primary_key.columns.values()[0]
        return mysql.insert(table).on_duplicate_key_update({key.name: key})
    if dialect == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing()
    return sqlite.insert(table).on_conflict_do_nothing()
