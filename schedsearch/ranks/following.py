"""What the ranks from 1 on do: they make each call that rank 0 makes, and answer it."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from schedsearch.engines import EpochResult, Snapshot
from schedsearch.engines.loop import LoopContext, LoopEngine
from schedsearch.engines.precision import start_torch_threads
from schedsearch.exception_lines import describe_error
from schedsearch.ranks.messages import (
    GENERATORS,
    kind_of,
    receive,
    result_message,
    result_of,
    send,
    values_of,
)
from schedsearch.space import Space
from schedsearch.study_task import engine_for
from schedsearch.task import load_task


class RankEnded(BaseException):
    """Rank 0 has ended, so this rank has to end: even in the middle of an epoch."""


def follow(connection: Connection, rank: int, setup: Mapping[str, Any]) -> None:
    """Make the calls of rank 0 until it ends them.

    Args:
        connection: to rank 0.
        rank: of this process.
        setup: rank 0's first message: the space and the numerics.

    Raises:
        RankEnded: rank 0 closed the connection.
    """
    follower = _Follower(connection, rank, setup)
    while True:
        try:
            call = receive(connection)
        except (EOFError, OSError):
            raise RankEnded from None
        if call["call"] == "end":
            return
        try:
            answer = follower.answer(call)
        except Exception as error:
            text = "".join(traceback.format_exception(error))
            answer = {"error": describe_error(error), "traceback": text}
        try:
            send(connection, {**answer, "number": call["number"]})
        except OSError:
            raise RankEnded from None


class _Follower:
    """The engines of this rank, by the numbers that rank 0 gave to its own."""

    def __init__(self, connection: Connection, rank: int, setup: Mapping[str, Any]) -> None:
        self._connection, self._rank, self._numerics = connection, rank, setup["numerics"]
        self._space = Space.from_document(setup["space"], setup["space"]["name"])
        start_torch_threads(self._numerics["threads"])
        self._engines: dict[int, LoopEngine] = {}
        self._seeds: dict[int, int] = {}
        self._call_number = 0

    def answer(self, call: Mapping[str, Any]) -> dict[str, Any]:
        """Make a call, and return the answer; raise what the user's code raises."""
        number, self._call_number = call["engine"], call["number"]
        if call["call"] == "make":
            self._engines[number] = self._make(call["arguments"])
            self._seeds[number] = 0
            return {}
        if call["call"] == "drop":
            del self._engines[number], self._seeds[number]
            return {}
        engine = self._engines[number]
        match call["call"]:
            case "fill":
                self._seeds[number] = call["seed"]
                self._fill(engine, call)
            case "train_epoch":
                if call["combined"] is not None:
                    engine.replace_last_result(result_of(call["combined"]))
                return self._train_epoch(
                    engine, values_of(call, engine.horizon, self._seeds[number])
                )
            case "generators":
                return {"generators": engine.generators()}
            case "test":
                engine.test(0)
            case "release":
                engine.release(0)
                if engine.raised is not None:
                    raise engine.raised
        return {}

    def _make(self, arguments: Mapping[str, Any]) -> LoopEngine:
        task = load_task(self._space.task, self._space.default_arguments)
        engine = engine_for(self._space, task, self._numerics, arguments)
        assert isinstance(engine, LoopEngine)
        return LoopEngine(
            engine.train,
            horizon=engine.horizon,
            precision=engine.precision,
            arguments=engine.arguments,
            while_waiting=self._end_with_rank_0,
        )

    def _fill(self, engine: LoopEngine, call: Mapping[str, Any]) -> None:
        snapshot = None
        if call["extra"] is not None:
            extra = dict(call["extra"])
            states = extra.pop(GENERATORS, ())
            if self._rank <= len(states):
                extra["generators"] = states[self._rank - 1]
            snapshot = Snapshot(call["epoch"], {}, extra=extra)
        results, directory = tuple(map(result_of, call["results"])), Path(call["directory"])
        context = LoopContext(
            call["identity"],
            results,
            lambda: directory,
            must_report=False,
            processes=call["processes"],
            on_report=self._send_report,
        )
        engine.fill(0, call["seed"], snapshot, context)

    def _train_epoch(self, engine: LoopEngine, values: Mapping[str, float]) -> dict[str, Any]:
        [outcome] = engine.train_epoch([values])
        if isinstance(outcome, Exception):
            raise outcome
        assert outcome is not None
        return {"kind": kind_of(outcome)}

    def _send_report(self, result: EpochResult) -> None:
        # At once, not with the answer: rank 0 may need it within the epoch.
        message = {"report": result_message(result), "number": self._call_number}
        send(self._connection, message)

    def _end_with_rank_0(self) -> None:
        # Rank 0 sends nothing in the middle of an epoch: it has closed the connection.
        if self._connection.poll():
            raise RankEnded
