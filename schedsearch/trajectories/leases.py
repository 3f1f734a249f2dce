"""Leases: who trains which node, so that nobody else does at the same time."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sqlalchemy import BindParameter, Connection, bindparam, delete, select, update

from schedsearch.storage.rows import chunks
from schedsearch.trajectories.nodes import trained
from schedsearch.trajectories.tables import add_missing, leases, pins

_RUNS: BindParameter[str] = bindparam("runs", expanding=True)
_NAMES: BindParameter[str] = bindparam("names", expanding=True)
_RELEASE = delete(leases).where(leases.c.run.in_(_RUNS))
_UNPIN = delete(pins).where(pins.c.run.in_(_RUNS))
_EXPIRE = delete(leases).where(leases.c.hash.in_(_NAMES), leases.c.expires <= bindparam("moment"))
_HOLDERS = select(leases.c.hash, leases.c.run).where(leases.c.hash.in_(_NAMES))
_RENEW = tuple(
    update(table).where(table.c.run.in_(_RUNS)).values(expires=bindparam("until"))
    for table in (leases, pins)
)


def lease(
    connection: Connection, wanted: Mapping[str, str], moment: float, seconds: float
) -> dict[str, str]:
    """Lease to each run the node that it wants to train next, and release what it had before.

    A run has one lease at most. An expired one is anybody's.

    Returns:
        what was granted: nobody else holds the node, and nobody has trained it yet.
    """
    release(connection, wanted)
    granted: dict[str, str] = {}
    for some in chunks(wanted.items()):
        asked = dict(some)
        names = sorted(set(asked.values()))
        connection.execute(_EXPIRE, {"names": names, "moment": moment})
        known = trained(connection, names)
        rows = [
            {"hash": name, "run": run, "expires": moment + seconds}
            for run, name in asked.items()
            if name not in known
        ]
        if rows:
            connection.execute(add_missing(leases, connection.dialect.name), rows)
            found = connection.execute(_HOLDERS, {"names": names})
            holders = {row.hash: row.run for row in found}
            granted |= {run: name for run, name in asked.items() if holders.get(name) == run}
    return granted


def release(connection: Connection, runs: Collection[str]) -> None:
    """Release what runs have leased."""
    for some in chunks(runs):
        connection.execute(_RELEASE, {"runs": some})


def unpin(connection: Connection, runs: Collection[str]) -> None:
    """Let the checkpoints be evicted that runs would have gone on from."""
    for some in chunks(runs):
        connection.execute(_UNPIN, {"runs": some})


def renew(connection: Connection, runs: Collection[str], until: float) -> None:
    """Let the leases and pins of runs last until then."""
    for some in chunks(runs):
        for statement in _RENEW:
            connection.execute(statement, {"runs": some, "until": until})
