"""What was trained, epoch by epoch: a trie of nodes, read a run at a time."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, select

from schedsearch.engines import EpochResult
from schedsearch.storage import Database
from schedsearch.trajectories.tables import add_missing, nodes

#: Nodes that are kept in memory, about half a kilobyte each; then the older half is forgotten.
_REMEMBERED = 200_000

_FIRST = nodes.alias()
_REST_OF_RUN = (
    select(nodes.c.hash, nodes.c.result)
    .join_from(_FIRST, nodes, (nodes.c.run == _FIRST.c.run) & (nodes.c.epoch >= _FIRST.c.epoch))
    .where(_FIRST.c.hash == bindparam("hash"))
)


@dataclass(frozen=True)
class Node:
    """What one epoch made of a run.

    Attributes:
        hash: its name, see `child_of`.
        parent: the name of what the epoch began with.
        root: the name of the run before its first epoch.
        run: the training that came here first.
        epoch: how many epochs have been trained, this one included.
        result: what the epoch gave.
    """

    hash: str
    parent: str
    root: str
    run: str
    epoch: int
    result: EpochResult


class Nodes:
    """The nodes of a database, as far as they were asked for, and those to be written."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[str, str] = {}
        self._waiting: list[dict[str, Any]] = []
        self._writing = 0

    def find(self, name: str) -> EpochResult | None:
        """Return what a node's epoch gave; None if nobody has trained it.

        What is not in memory takes one query, which also reads what followed in the same training.
        """
        if name not in self._known:
            rows = self._database.read(
                lambda connection: connection.execute(_REST_OF_RUN, {"hash": name}).all()
            )
            self._remember({row.hash: row.result for row in rows})
        found = self._known.get(name)
        return None if found is None else _result(found)

    def add(self, node: Node) -> None:
        """Keep a node to be written; it is found from now on."""
        text = _text(node.result)
        self._remember({node.hash: text})
        row = {
            "hash": node.hash,
            "parent": node.parent,
            "root": node.root,
            "run": node.run,
            "epoch": node.epoch,
            "result": text,
        }
        self._waiting.append(row)

    def write(self, connection: Connection) -> None:
        """Write what waits; of two trainings of one node, which gave the same, the first stays."""
        self._writing = len(self._waiting)
        if self._waiting:
            connection.execute(add_missing(nodes, connection.dialect.name), self._waiting)

    def written(self) -> None:
        """Drop what was written: its transaction has been committed."""
        del self._waiting[: self._writing]
        self._writing = 0

    def _remember(self, found: Mapping[str, str]) -> None:
        self._known.update(found)
        if len(self._known) > _REMEMBERED:
            for name in list(self._known)[: len(self._known) // 2]:
                del self._known[name]


def trained(connection: Connection, names: Iterable[str]) -> set[str]:
    """Return which of these nodes have been trained."""
    return set(connection.scalars(select(nodes.c.hash).where(nodes.c.hash.in_(list(names)))))


def _text(result: EpochResult) -> str:
    """Return an epoch's result as JSON, which has no word for NaN: such numbers are text."""
    parts = (result.metrics, result.terms)
    return json.dumps([{name: _jsonable(v) for name, v in part.items()} for part in parts])


def _jsonable(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _result(text: str) -> EpochResult:
    metrics, terms = json.loads(text)
    return EpochResult(_floats(metrics), _floats(terms))


def _floats(numbers: Mapping[str, float | str]) -> dict[str, float]:
    return {name: float(value) for name, value in numbers.items()}
