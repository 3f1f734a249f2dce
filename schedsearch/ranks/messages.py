"""Messages between ranks: plain data and tensors, as bytes of snapshots. Nothing is pickled."""

from __future__ import annotations

from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

from schedsearch.engines import EpochResult, Resumed, Snapshot
from schedsearch.epoch_values import EpochValues
from schedsearch.errors import SchedSearchError
from schedsearch.plan import Plan
from schedsearch.trajectories.snapshots import decode, encode

#: In the `extra` of a snapshot: the states of the random generators of rank 1, rank 2 and so on.
GENERATORS = "ranks"


def send(connection: Connection, message: Mapping[str, Any]) -> None:
    """Send a message, see `message_bytes`.

    Raises:
        OSError: the other process has ended.
    """
    connection.send_bytes(message_bytes(message))


def message_bytes(message: Mapping[str, Any]) -> bytes:
    """Return a message of tensors, numbers, text, None, lists, tuples and dicts as bytes.

    Raises:
        SchedSearchError: it holds anything else, as a loop's checkpoint may.
    """
    content = encode(Snapshot(0, {}, extra=message))
    if content is None:
        raise SchedSearchError(
            "where several processes train a trial, run.checkpoint() takes tensors, numbers, text, "
            "None, lists, tuples and dicts of these only"
        )
    return content


def receive(connection: Connection) -> dict[str, Any]:
    """Wait for a message, and return it.

    Raises:
        EOFError or OSError: the other process has ended.
    """
    return dict(decode(connection.recv_bytes()).extra)


def values_message(values: Mapping[str, float]) -> dict[str, Any]:
    """Return the values of an epoch as plain data, for `values_of`."""
    if isinstance(values, EpochValues):
        return {"plan": values.plan.to_tables(), "state": dict(values.state)}
    return {"values": dict(values)}


def values_of(message: Mapping[str, Any], horizon: int, seed: int) -> Mapping[str, float]:
    """Return the values of an epoch from `values_message`, in a run of this horizon and seed."""
    if "values" in message:
        return dict(message["values"])
    plan = Plan.from_tables(message["plan"]).resolve(horizon, seed)
    return EpochValues(plan, message["state"])


def result_message(result: EpochResult) -> dict[str, Any]:
    """Return the result of an epoch as plain data, for `result_of`."""
    return {
        "metrics": dict(result.metrics),
        "terms": dict(result.terms),
        "stopped": result.stopped,
    }


def result_of(message: Mapping[str, Any]) -> EpochResult:
    """Return the result of an epoch from `result_message`."""
    return EpochResult(message["metrics"], message["terms"], stopped=message["stopped"])


def kind_of(outcome: EpochResult | Resumed) -> str:
    """Return what all ranks must agree on, as the end of a sentence about one rank."""
    if isinstance(outcome, Resumed):
        return f"resumed after {outcome.epoch} epochs"
    return "ended its loop" if outcome.stopped else "trained an epoch"
