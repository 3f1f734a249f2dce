"""The trie of trained epochs: one node per epoch, read one run at a time."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, select

from schedsearch.engines import EpochResult
from schedsearch.errors import StorageError
from schedsearch.storage import Database
from schedsearch.trajectories.tables import insert_if_missing, nodes

#: Nodes cached in memory, about half a kilobyte each; beyond, the older half is dropped.
_CACHE_SIZE = 200_000

_FIRST = nodes.alias()
_NODE_AND_FOLLOWING = (
    select(nodes.c.hash, nodes.c.result)
    .join_from(_FIRST, nodes, (nodes.c.run == _FIRST.c.run) & (nodes.c.epoch >= _FIRST.c.epoch))
    .where(_FIRST.c.hash == bindparam("hash"))
)


@dataclass(frozen=True)
class Node:
    """One trained epoch.

    Attributes:
        hash: see `child_hash`.
        parent: the hash of the node of the epoch before.
        root: the hash of the run before its first epoch.
        run: the training that reached this node first.
        epoch: the number of epochs trained, this one included.
        result: of the epoch.
    """

    hash: str
    parent: str
    root: str
    run: str
    epoch: int
    result: EpochResult


class Nodes:
    """The nodes of a database: those that were looked up, and those pending to be written."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._cache: dict[str, str] = {}
        self._pending: list[dict[str, Any]] = []

    def find(self, name: str) -> EpochResult | None:
        """Return the result of a node; None if it has not been trained.

        A node that is not in memory takes one query, which also reads the nodes that followed in
        the same training.

        Raises:
            StorageError: the stored result is invalid.
        """
        if name not in self._cache:
            rows = self._database.read(
                lambda connection: connection.execute(_NODE_AND_FOLLOWING, {"hash": name}).all()
            )
            self._cache_results({row.hash: row.result for row in rows})
        found = self._cache.get(name)
        if found is None:
            return None
        try:
            return _from_json(found)
        except (ArithmeticError, ValueError, TypeError, AttributeError, RecursionError):
            raise StorageError(
                f"the database is damaged: its result of epoch {name} is invalid: use a copy of "
                "it, or pass --no-reuse"
            ) from None

    def add(self, node: Node) -> None:
        """Add a node, to be written later; `find` returns it from now on."""
        text = _to_json(node.result)
        self._cache_results({node.hash: text})
        row = {
            "hash": node.hash,
            "parent": node.parent,
            "root": node.root,
            "run": node.run,
            "epoch": node.epoch,
            "result": text,
        }
        self._pending.append(row)

    def time_of(self, name: str) -> float | None:
        """Return when a node was written, in seconds since 1970.

        None if it is missing, or if version 0.1 wrote it.
        """
        query = select(nodes.c.trained).where(nodes.c.hash == name)
        return self._database.read(lambda connection: connection.scalar(query))

    @property
    def has_pending(self) -> bool:
        """Whether there are nodes to write."""
        return bool(self._pending)

    def write(self, connection: Connection, moment: float) -> None:
        """Write pending nodes; one that another training has written is left unchanged."""
        if self._pending:
            for row in self._pending:
                row["trained"] = moment
            connection.execute(insert_if_missing(nodes, connection.dialect.name), self._pending)

    def mark_committed(self) -> None:
        """Drop the nodes that the last `write` wrote: its transaction has been committed."""
        self._pending.clear()

    def _cache_results(self, found: Mapping[str, str]) -> None:
        self._cache.update(found)
        if len(self._cache) > _CACHE_SIZE:
            for name in list(self._cache)[: len(self._cache) // 2]:
                del self._cache[name]


def _to_json(result: EpochResult) -> str:
    """Return a result as JSON, with numbers that are not finite as text."""
    parts = (result.metrics, result.terms)
    content: list[Any] = [{name: _jsonable(v) for name, v in part.items()} for part in parts]
    return json.dumps([*content, True] if result.stopped else content)


def _jsonable(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _from_json(text: str) -> EpochResult:
    metrics, terms, *stopped = json.loads(text)
    if stopped not in ([], [True]) or not (metrics or stopped):
        raise ValueError(f"an epoch has metrics, and `true` where its run stopped: {text}")
    return EpochResult(_floats(metrics), _floats(terms), stopped=bool(stopped))


def _floats(numbers: Mapping[str, float | str]) -> dict[str, float]:
    return {name: float(value) for name, value in numbers.items()}
