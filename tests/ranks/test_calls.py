"""Calls of rank 0 that fail, and what the other ranks know of its calls."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import Pipe
from pathlib import Path
from typing import Any, ClassVar

import pytest

from schedsearch.engines import Engine, EpochResult
from schedsearch.engines.loop import LoopContext, LoopEngine, LoopRun
from schedsearch.ranks import followers as followers_module
from schedsearch.ranks import leading
from schedsearch.ranks.followers import Followers, RankFailedError
from schedsearch.ranks.following import _Follower, follow
from schedsearch.ranks.leading import LeadingEngine
from schedsearch.ranks.messages import message_bytes, receive, send
from schedsearch.worker.lane_allocator import _KEPT, LaneAllocator
from tests.searches import document

SETUP = {"space": document(), "numerics": {"engine": "loop", "threads": 1, "processes": 2}}
#: Long enough on any machine: only a call that hangs takes it.
LIMIT = 20.0


@pytest.fixture(autouse=True)
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leading, "_GRACE", 0.0)


def returns(function: Callable[[], Any]) -> Any:
    """Call a function that must not hang."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(function()), daemon=True)
    thread.start()
    thread.join(LIMIT)
    assert results, "it hangs, or it raised"
    return results[0]


def with_lr(train: Any) -> Any:
    train.hyperparameters = {"lr": 0.1}
    return train


@with_lr
def report(run: LoopRun) -> None:
    for _ in run:
        run.report(val_loss=1.0)


@with_lr
def report_and_raise(run: LoopRun) -> None:
    report(run)
    raise OSError("no space left on device")


@contextmanager
def leading_engine(train: Any) -> Iterator[tuple[LeadingEngine, Followers, list[str]]]:
    """Yield rank 0's engine, and the calls that a simulated rank 1 gets.

    Rank 1 never ends its loop, as if it waited for rank 0 in a collective call.
    """
    here, there = Pipe()
    followers = Followers([here], lambda rank: "")
    calls: list[str] = []

    def rank_1() -> None:
        while (call := receive(there))["call"] != "end":
            calls.append(call["call"])
            if call["call"] not in ("release", "test"):
                send(there, {"kind": "trained an epoch", "number": call["number"]})

    thread = threading.Thread(target=rank_1)
    thread.start()
    try:
        yield LeadingEngine(LoopEngine(train, horizon=1), followers, 0), followers, calls
    finally:
        here.send_bytes(message_bytes({"call": "end"}))
        thread.join()


def test_rank_0_waits_for_no_other_rank_if_it_raises_after_its_loop() -> None:
    with leading_engine(report_and_raise) as (engine, followers, _):
        engine.fill(0, 0)
        assert engine.train_epoch([{"lr": 0.1}]) == [EpochResult({"val_loss": 1.0}, {})]
        returns(lambda: engine.release(0) or "released")
        assert isinstance(engine.raised, OSError)
        assert followers.failure is engine.raised


def test_after_a_failed_call_no_rank_gets_another_one() -> None:
    with leading_engine(report) as (engine, followers, calls):
        engine.fill(0, 0)
        failure = RankFailedError(2, "ValueError: no")
        followers.fail(failure)
        assert returns(lambda: engine.train_epoch([{"lr": 0.1}])) == [failure]
        with pytest.raises(RankFailedError):
            engine.test(0)
        with pytest.raises(RankFailedError):
            engine.fill(0, 0)
        engine.close()
        engine.release(0)
    assert calls == ["fill"]


def test_an_answer_to_an_earlier_call_is_ignored() -> None:
    pairs = [Pipe() for _ in range(2)]
    here = Followers([own for own, _ in pairs], lambda rank: "")
    for name in ("x", "y"):
        here.call(name)
        for _, rank in pairs:
            send(rank, {"to": name, "number": receive(rank)["number"]})
    assert [answer["to"] for answer in here.answers()] == ["y", "y"]


def test_a_message_is_encoded_once_for_all_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[Any] = []

    def count(message: Mapping[str, Any]) -> bytes:
        encoded.append(message)
        return message_bytes(message)

    monkeypatch.setattr(followers_module, "message_bytes", count)
    pairs = [Pipe() for _ in range(3)]
    Followers([own for own, _ in pairs], lambda rank: "").call("x")
    assert [receive(rank)["call"] for _, rank in pairs] == ["x"] * 3
    assert len(encoded) == 1


# --- the state of a run ----------------------------------------------------------------------

STATES: dict[int, list[Any]] = {}


@with_lr
def save_states(run: LoopRun) -> None:
    """Report another value on each rank, and keep the results in its state of each epoch."""
    rank = 0 if run._context.must_report else 1
    for _ in run:
        run.report(reduce="mean", val_loss=1.0 + 2 * rank)
        STATES[rank].append([metrics["val_loss"] for metrics, _ in run.state_dict()["results"]])


def test_the_state_of_rank_0_has_the_mean_also_of_the_present_epoch(tmp_path: Path) -> None:
    STATES.update({0: [], 1: []})
    here, there = Pipe()
    setup = SETUP | {"space": document() | {"task": f"{__name__}:save_states"}}
    thread = threading.Thread(target=follow, args=(there, 1, setup))
    thread.start()
    followers = Followers([here], lambda rank: "")
    followers.call("make", engine=0, arguments={})
    followers.answers()
    engine = LeadingEngine(LoopEngine(save_states, horizon=3), followers, 0)
    engine.fill(0, 0, None, LoopContext(directory=lambda: tmp_path))
    for _ in range(2):
        [outcome] = engine.train_epoch([{"lr": 0.1}])
        assert outcome == EpochResult({"val_loss": 2.0}, {})
    engine.release(0)
    followers.call("end")
    thread.join()
    assert STATES[0] == [[2.0], [2.0, 2.0]]
    # The other ranks get the mean with the next epoch.
    assert STATES[1] == [[3.0], [2.0, 3.0]]


# --- engines that are dropped ----------------------------------------------------------------


class Closed(LoopEngine):
    """An engine that records that it was closed."""

    closed: ClassVar[list[Mapping[str, Any]]] = []

    def close(self) -> None:
        self.closed.append(self.arguments)


def test_the_engines_of_arguments_that_were_not_used_lately_are_closed() -> None:
    def make(arguments: Mapping[str, Any]) -> Engine:
        return Closed(report, horizon=1, arguments=arguments)

    Closed.closed.clear()
    lanes = LaneAllocator([make({})], 1, make)
    for size in range(_KEPT + 2):
        lanes.engine({"size": size})
    assert Closed.closed == [{"size": 0}, {"size": 1}]


def test_other_ranks_drop_the_engine_that_rank_0_drops() -> None:
    here, there = Pipe()
    follower = _Follower(there, 1, SETUP)
    for number in (0, 1):
        follower.answer({"call": "make", "engine": number, "arguments": {}, "number": number})
    followers = Followers([here], lambda rank: "")
    engine = LeadingEngine(LoopEngine(report, horizon=1), followers, 0)

    def answer() -> None:
        call = receive(there)
        send(there, {**follower.answer(call), "number": call["number"]})

    thread = threading.Thread(target=answer)
    thread.start()
    returns(lambda: engine.close() or "closed")
    thread.join()
    assert list(follower._engines) == [1]
