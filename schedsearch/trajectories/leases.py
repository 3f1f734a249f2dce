"""Leases and pins: which run trains a node, and which checkpoints live runs depend on."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Mapping

from sqlalchemy import BindParameter, Connection, bindparam, delete, select, update

from schedsearch.storage import Database
from schedsearch.storage.clock import database_time
from schedsearch.storage.rows import split_ids
from schedsearch.storage.tables import trials
from schedsearch.trajectories.tables import insert_if_missing, leases, nodes, pins

#: Seconds that a lease and a pin last unless they are renewed.
LEASE = 60.0

_RUNS: BindParameter[str] = bindparam("runs", expanding=True)
_NAMES: BindParameter[str] = bindparam("names", expanding=True)
# By the primary key too: a search for runs alone would wait for the rows of other workers.
_RELEASE = delete(leases).where(leases.c.hash.in_(_NAMES), leases.c.run.in_(_RUNS))
_UNPIN = delete(pins).where(pins.c.run.in_(_RUNS))
_EXPIRE = delete(leases).where(
    leases.c.hash.in_(_NAMES),
    (leases.c.expires <= bindparam("moment")) | (leases.c.expires > bindparam("latest")),
)
_HOLDERS = (
    select(leases.c.hash, leases.c.run, nodes.c.hash.label("trained"))
    .join_from(leases, nodes, nodes.c.hash == leases.c.hash, isouter=True)
    .where(leases.c.hash.in_(_NAMES))
)
_ENDED = select(trials.c.trial_id).where(
    trials.c.trial_id.in_(bindparam("ids", expanding=True)), trials.c.state != "RUNNING"
)
_UNTIL: BindParameter[float] = bindparam("until")
_RENEW = update(leases).where(leases.c.hash.in_(_NAMES), leases.c.run.in_(_RUNS))
_RENEW_LEASES = _RENEW.values(expires=_UNTIL)
_RENEW_PINS = update(pins).where(pins.c.run.in_(_RUNS)).values(expires=_UNTIL)


#: The first digits of a run's name are the id of its trial, or all "f" without one. The names of
#: earlier versions are random: so many digits hardly ever look like an id.
_ID_DIGITS = 12
#: The largest id of a trial, which the database has as an integer of 32 bits.
_MAX_ID = 2**31 - 1


def name_run(trial_id: int | None = None) -> str:
    """Return 32 digits that identify a run, unique among all, and its trial if it has one."""
    first = "f" * _ID_DIGITS if trial_id is None else f"{trial_id:0{_ID_DIGITS}x}"
    return first + secrets.token_hex(10)


class Leases:
    """The leases and pins of one worker's runs.

    A run has one lease at most: on the node that it trains next. No other run of any worker trains
    that node until one of three things happens: the lease is released, it expires, or the run's
    trial is no longer running, since its worker died and the trial was queued again.

    No lock of the tables is needed: a lease is a row with the node as its key, and the transaction
    that adds a node deletes the lease on it. So who inserts a lease waits for that transaction, and
    sees the node afterwards.

    Args:
        database: has the tables.
        seconds: how long a lease and a pin last unless they are renewed.
    """

    def __init__(self, database: Database, seconds: float) -> None:
        self.seconds = seconds
        self._database = database
        # From a run to its node: requested for the next write, granted in a transaction that is
        # not yet committed, and granted.
        self._requested: dict[str, str] = {}
        self._granting: dict[str, str] = {}
        self._granted: dict[str, str] = {}
        # Runs and the nodes that they no longer need, runs that hold a lease or a pin, and that
        # ended.
        self._released: set[tuple[str, str]] = set()
        self._live: set[str] = set()
        self._ended: set[str] = set()

    def holds(self, run: str, node: str) -> bool:
        """Return whether a node is leased to a run."""
        return self._granted.get(run) == node

    def acquire(self, wanted: Mapping[str, str]) -> set[str]:
        """Lease to each run the node that it is to train next, and return the runs that got it.

        Leases that `write` has granted cost nothing; the others take one transaction.
        """
        missing = {run: node for run, node in wanted.items() if not self.holds(run, node)}
        if missing:
            held = self._held_by(missing)

            def lease(connection: Connection) -> dict[str, str]:
                _release(connection, held)
                return _lease(connection, missing, database_time(connection), self.seconds)

            granted = self._database.write(lease)
            granted |= self._take_over({r: n for r, n in missing.items() if r not in granted})
            self._replace(missing, granted)
            self._live.update(granted)
        return {run for run, node in wanted.items() if self.holds(run, node)}

    def _take_over(self, waiting: Mapping[str, str]) -> dict[str, str]:
        """Lease to runs the nodes whose leases have trials that ended, as after a worker's death.

        In a transaction of its own, since a lease is locked in the order of the nodes.
        """
        if not waiting:
            return {}
        ended = self._database.read(lambda c: _ended_leases(c, waiting.values(), self._live))
        if not ended:
            return {}
        names = {name for _, name in ended}
        wanted = {run: name for run, name in waiting.items() if name in names}

        def lease(connection: Connection) -> dict[str, str]:
            _release(connection, ended)
            return _lease(connection, wanted, database_time(connection), self.seconds)

        return self._database.write(lease)

    def request(self, run: str, node: str) -> None:
        """Request a lease that the next write grants, if it is free."""
        self._requested[run] = node
        self._live.add(run)

    def release_trained(self, run: str) -> None:
        """Release a run's lease with the next write: the run has trained the node."""
        self._released |= self._held_by((run,))
        self._granted.pop(run, None)

    def mark_live(self, run: str) -> None:
        """Renew a run's pin from now on, until the run ends."""
        self._live.add(run)

    def end(self, run: str) -> None:
        """Release the lease and the pin of a run with the next write."""
        self._requested.pop(run, None)
        self.release_trained(run)
        if run in self._live:
            self._live.discard(run)
            self._ended.add(run)

    def renew(self) -> None:
        """Extend all leases and pins of live runs."""
        if runs := list(self._live):
            held = self._held_by(runs)
            self._database.write(lambda c: _renew(c, held, runs, database_time(c) + self.seconds))

    def _held_by(self, runs: Iterable[str]) -> set[tuple[str, str]]:
        return {(run, self._granted[run]) for run in runs if run in self._granted}

    def _replace(self, wanted: Iterable[str], granted: Mapping[str, str]) -> None:
        """Replace the leases of the runs that wanted another one."""
        for run in wanted:
            self._granted.pop(run, None)
        self._granted.update(granted)

    @property
    def has_pending(self) -> bool:
        """Whether `write` has something to do."""
        return bool(self._requested or self._released or self._ended)

    def write(self, connection: Connection, moment: float) -> None:
        """Release and grant leases as requested; to be called after the nodes are written."""
        _release(connection, self._released | self._held_by(self._requested))
        _unpin(connection, self._ended)
        self._granting = _lease(connection, self._requested, moment, self.seconds)

    def mark_committed(self) -> None:
        """Drop what the last `write` wrote: its transaction has been committed."""
        self._replace(self._requested, self._granting)
        for pending in (self._granting, self._requested, self._released, self._ended):
            pending.clear()


def _lease(
    connection: Connection, wanted: Mapping[str, str], moment: float, seconds: float
) -> dict[str, str]:
    """Lease to each run the node that it wants, and return the leases that were granted.

    A lease is not granted if another run holds the node, or if the node has been trained. An
    expired lease counts as released, and so does one that ends later than any lease can.
    """
    granted: dict[str, str] = {}
    # In one order, so that two workers do not wait for each other.
    for some in split_ids(sorted(wanted.items(), key=lambda item: item[1])):
        chunk = dict(some)
        names = sorted(set(chunk.values()))
        latest = latest_end(moment, seconds)
        connection.execute(_EXPIRE, {"names": names, "moment": moment, "latest": latest})
        rows = [
            {"hash": name, "run": run, "expires": moment + seconds} for run, name in chunk.items()
        ]
        connection.execute(insert_if_missing(leases, connection.dialect.name), rows)
        # After the insertion: while this waited for it, another run may have trained the node.
        found = connection.execute(_HOLDERS, {"names": names}).all()
        held = [row for row in found if chunk.get(row.run) == row.hash]
        _release(connection, {(row.run, row.hash) for row in held if row.trained is not None})
        granted |= {row.run: row.hash for row in held if row.trained is None}
    return granted


def _ended_leases(
    connection: Connection, names: Iterable[str], live: Collection[str]
) -> set[tuple[str, str]]:
    """Return the leases on nodes, each a run and a node, whose trials are not running.

    Leases of live runs, which are those of this worker, are not looked up.
    """
    ended: set[tuple[str, str]] = set()
    for some in split_ids(sorted(set(names))):
        holders = connection.execute(_HOLDERS, {"names": some}).all()
        trial_ids = {
            (row.run, row.hash): trial_id
            for row in holders
            if row.run not in live and (trial_id := _trial_of(row.run)) is not None
        }
        if trial_ids:
            found = {*connection.execute(_ENDED, {"ids": [*trial_ids.values()]}).scalars()}
            ended |= {lease for lease, trial_id in trial_ids.items() if trial_id in found}
    return ended


def _trial_of(run: str) -> int | None:
    """Return the id of a run's trial; None if the name has none."""
    try:
        trial_id = int(run[:_ID_DIGITS], 16)
    except ValueError:
        return None
    return trial_id if trial_id <= _MAX_ID else None


def latest_end(moment: float, seconds: float) -> float:
    """Return the latest time at which a lease or a pin can end: a stranger may write any time.

    Args:
        moment: now.
        seconds: how long those of this process last.
    """
    # Twice as long: the clock may have been set back a little.
    return moment + 2 * max(seconds, LEASE)


def _release(connection: Connection, held: Collection[tuple[str, str]]) -> None:
    for some in split_ids(sorted(held, key=lambda lease: lease[1])):
        runs, names = zip(*some, strict=True)
        connection.execute(_RELEASE, {"runs": runs, "names": names})


def _unpin(connection: Connection, runs: Collection[str]) -> None:
    for some in split_ids(runs):
        connection.execute(_UNPIN, {"runs": some})


def _renew(
    connection: Connection,
    held: Collection[tuple[str, str]],
    runs: Collection[str],
    until: float,
) -> None:
    for some in split_ids(sorted(held)):
        of_runs, names = zip(*some, strict=True)
        connection.execute(_RENEW_LEASES, {"runs": of_runs, "names": names, "until": until})
    for ids in split_ids(runs):
        connection.execute(_RENEW_PINS, {"runs": ids, "until": until})
