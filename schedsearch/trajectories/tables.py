"""The tables of trained epochs, beside Optuna's: columns, creation and versions."""

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

from schedsearch.errors import StorageError
from schedsearch.storage import Database
from schedsearch.storage.clock import database_time

metadata = MetaData()


def _hash_column(key: str, *, primary: bool = False) -> Column[str]:
    """Return a column of 32 hexadecimal digits, compared byte by byte."""
    digits = mysql.CHAR(32, charset="ascii", collation="ascii_bin")
    kind = String(32).with_variant(digits, "mysql", "mariadb")
    return Column(key, kind, primary_key=primary, nullable=False)


versions = Table(
    "schedsearch_version",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
)

# Nodes are immutable. `run` is the training that wrote the node: with the index, one query returns
# all nodes that followed in that training.
nodes = Table(
    "schedsearch_nodes",
    metadata,
    _hash_column("hash", primary=True),
    _hash_column("parent"),
    _hash_column("root"),
    _hash_column("run"),
    Column("epoch", Integer, nullable=False),
    Column("result", Text, nullable=False),
    # Seconds since 1970 by the clock of the database; empty in nodes that version 0.1 wrote.
    Column("trained", Float(precision=53), nullable=True),
    Index("schedsearch_nodes_by_run", "run", "epoch"),
)

checkpoints = Table(
    "schedsearch_checkpoints",
    metadata,
    _hash_column("hash", primary=True),
    Column("artifact", String(80), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    # Seconds since 1970 by the clock of the database, like `expires` below.
    Column("used", Float(precision=53), nullable=False),
)

# Which run trains which node.
leases = Table(
    "schedsearch_leases",
    metadata,
    _hash_column("hash", primary=True),
    _hash_column("run"),
    Column("expires", Float(precision=53), nullable=False),
)

# The checkpoint from which each live run would be resumed.
pins = Table(
    "schedsearch_pins",
    metadata,
    _hash_column("run", primary=True),
    _hash_column("hash"),
    Column("expires", Float(precision=53), nullable=False),
)

# One row: the identity of the database, which its folders record too, and when checkpoints were
# last added. A copy of the database has the same row.
identity = Table(
    "schedsearch_identity",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("identity", String(32), nullable=False),
    Column("written", Float(precision=53), nullable=False),
)

#: Migrates the tables from one version to the next.
Migration = Callable[[Connection], None]


def _create(connection: Connection) -> None:
    metadata.create_all(connection)


def _add_time_of_nodes(connection: Connection) -> None:
    # A database whose tables `_create` has just made has the column.
    names = {column["name"] for column in inspect(connection).get_columns(nodes.name)}
    if "trained" not in names:
        kind = nodes.c.trained.type.compile(connection.dialect)
        connection.execute(text(f"ALTER TABLE {nodes.name} ADD COLUMN trained {kind}"))


def _add_identity(connection: Connection) -> None:
    identity.create(connection, checkfirst=True)


#: Migration n leads from version n to n + 1; version 0 is a database without these tables.
MIGRATIONS: tuple[Migration, ...] = (_create, _add_time_of_nodes, _add_identity)


def upgrade(database: Database, migrations: Sequence[Migration] = MIGRATIONS) -> bool:
    """Create the tables if they are missing, and migrate them to this version if they are older.

    Several workers may call this at once.

    Returns:
        False if the tables are of a later version: they must not be read or written.
    """
    if _stored_version(database.engine) < len(migrations):
        with database.creation_lock():
            for version in range(_stored_version(database.engine), len(migrations)):
                # A transaction for each: one that fails leaves the version before it.
                with database.engine.begin() as connection:
                    migrations[version](connection)
                    connection.execute(versions.delete())
                    connection.execute(insert(versions), {"version": version + 1})
    return _stored_version(database.engine) == len(migrations)


def _stored_version(engine: Engine) -> int:
    with engine.connect().execution_options(reads_only=True) as connection:
        if not inspect(connection).has_table(versions.name):
            return 0
        found = connection.execute(select(func.max(versions.c.version))).scalar()
    if found is not None and (type(found) is not int or found < 0):
        raise StorageError(
            f"the database is damaged: the version in its table {versions.name} is "
            f"{found!r:.40}, but must be a number from 0: use a copy of it, or pass --no-reuse"
        )
    return found or 0


_LOCK = select(versions.c.version).with_for_update()


def lock_tables(connection: Connection) -> float:
    """Lock these tables until the end of the transaction, and return the time.

    The time is in seconds since 1970, by the clock of the database.
    """
    connection.execute(_LOCK)
    return database_time(connection)


def insert_if_missing(table: Table, dialect: str) -> Insert:
    """Return a statement that inserts rows, except those whose primary key exists."""
    if dialect in ("mysql", "mariadb"):
        key = table.primary_key.columns.values()[0]
        return mysql.insert(table).on_duplicate_key_update({key.name: key})
    if dialect == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing()
    return sqlite.insert(table).on_conflict_do_nothing()
