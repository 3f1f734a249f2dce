"""What rank 0 tells the other ranks, and what it makes of their answers."""

from __future__ import annotations

import math
import socket
import threading
import traceback
from dataclasses import replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from schedsearch.engines import EpochResult
from schedsearch.engines.loop import LoopContext, LoopEngine, LoopRun
from schedsearch.epoch_values import EpochValues
from schedsearch.errors import SchedSearchError
from schedsearch.plan import Plan
from schedsearch.ranks.followers import Followers, RankDiedError, RankFailedError
from schedsearch.ranks.joining import Address, RankServer, connect
from schedsearch.ranks.leading import LeadingEngine
from schedsearch.ranks.messages import receive, send, values_message, values_of
from schedsearch.schedules import Feedback
from tests.schedules.strategies import TERMS, plans


@given(plans(), st.integers(1, 50), st.integers(0, 3), st.sampled_from(["epoch", "step"]))
def test_all_ranks_have_equal_values(
    plan: Plan, horizon: int, seed: int, interval: Literal["epoch", "step"]
) -> None:
    resolved = replace(plan, intervals={"lr": interval}).resolve(horizon, seed)
    state = resolved.start()
    for epoch in range(min(horizon, 3)):
        values = EpochValues(resolved, state)
        here, there = Pipe()
        send(here, values_message(values))
        received = values_of(receive(there), horizon, seed)
        assert isinstance(received, EpochValues)
        assert received.by_step(4) == values.by_step(4)
        assert received.within_epoch_key == values.within_epoch_key
        feedback = Feedback(1.0 / (1 + epoch), {"val_loss": 1.0}, dict.fromkeys(TERMS, 1.0))
        state = resolved.update(state, feedback)


def test_a_message_keeps_tensors_and_refuses_other_objects() -> None:
    here, there = Pipe()
    state = {"model": {"weight": torch.ones(2)}, "step": 3, "loss": math.inf, 4: (None, [True])}
    send(here, {"extra": state})
    received = receive(there)["extra"]
    assert torch.equal(received.pop("model")["weight"], torch.ones(2))
    assert received == {"step": 3, "loss": math.inf, 4: (None, [True])}
    with pytest.raises(SchedSearchError, match=r"run\.checkpoint"):
        send(here, {"extra": object()})


def followers(count: int = 1) -> tuple[Followers, list[Connection]]:
    pairs = [Pipe() for _ in range(count)]
    return Followers([own for own, _ in pairs], lambda rank: f" ({rank})"), [
        far for _, far in pairs
    ]


def test_answers_come_by_rank() -> None:
    here, ranks = followers(2)
    here.call("x", value=1)
    for rank in (1, 0):
        assert receive(ranks[rank]) == {"call": "x", "value": 1, "number": 1}
        send(ranks[rank], {"rank": rank + 1, "number": 1})
    assert [answer["rank"] for answer in here.answers()] == [1, 2]


def test_an_error_of_a_rank_is_raised_with_its_traceback_while_others_train() -> None:
    here, ranks = followers(2)
    here.call("x")
    here.check()
    assert not here.is_broken
    send(ranks[1], {"error": "ValueError: no", "traceback": "Traceback: line 3", "number": 1})
    with pytest.raises(RankFailedError, match="rank 2: ValueError: no") as raised:
        here.check()
    assert here.is_broken
    assert "Traceback: line 3" in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize("method", ["check", "answers"])
def test_the_end_of_a_process_is_noticed(method: str) -> None:
    here, ranks = followers()
    here.call("x")
    ranks[0].close()
    with pytest.raises(RankDiedError, match=r"rank 1 ended \(1\)"):
        getattr(here, method)()
    assert isinstance(here.raised_before(1.0), RankDiedError)


def report_one(run: LoopRun) -> None:
    for _ in run:
        run.report(reduce="mean", val_loss=1.0, terms={"fit": 4.0})


report_one.hyperparameters = {"lr": 0.1}


def train_with_answer(
    answer: dict[str, Any], report: dict[str, Any] | None
) -> tuple[Any, LeadingEngine]:
    """Train an epoch on rank 0, while rank 1 reports and answers."""
    here, [rank] = followers()

    def follow() -> None:
        send(rank, {"number": receive(rank)["number"]})
        number = receive(rank)["number"]
        if report is not None:
            send(rank, {"report": report, "number": number})
        send(rank, {**answer, "number": number})

    thread = threading.Thread(target=follow)
    thread.start()
    engine = LeadingEngine(LoopEngine(report_one, horizon=3), here, 0)
    engine.fill(0, 0, None, LoopContext())
    [outcome] = engine.train_epoch([{"lr": 0.1}])
    thread.join()
    here.fail(RuntimeError())  # so that the end of the test needs no more answers
    return outcome, engine


ANSWER = {"kind": "trained an epoch"}
REPORT = {"metrics": {"val_loss": 3.0}, "terms": {"fit": 0.0}, "stopped": False}


def test_the_mean_of_all_ranks_counts_also_for_the_state_of_the_run() -> None:
    outcome, engine = train_with_answer(ANSWER, REPORT)
    assert outcome == EpochResult({"val_loss": 2.0}, {"fit": 2.0})
    assert engine._filled().state.results == [outcome]


@pytest.mark.parametrize(
    ("kind", "report", "words"),
    [
        ("ended its loop", REPORT, "rank 1 ended its loop, but rank 0 trained an epoch"),
        ("trained an epoch", None, "rank 1 did not call run.report"),
        (
            "trained an epoch",
            REPORT | {"metrics": {"val_acc": 1.0}},
            "rank 1 reported other metrics",
        ),
    ],
)
def test_ranks_that_do_not_agree_fail_the_trial(
    kind: str, report: dict[str, Any] | None, words: str
) -> None:
    outcome, engine = train_with_answer({"kind": kind}, report)
    assert isinstance(outcome, SchedSearchError)
    assert words in str(outcome)
    engine.release(0)  # the loop is left as it is


def test_rank_0_accepts_only_those_that_know_the_key() -> None:
    server = RankServer("127.0.0.1")
    wrong = Address(server.address.host, server.address.port, "guess")

    def enter() -> None:
        with socket.create_connection((wrong.host, wrong.port)) as stranger:
            stranger.sendall(b"hello")
        with pytest.raises(Exception, match="digest"):
            connect(wrong, 1)
        connections.append(connect(Address.parse(server.address.to_text()), 1))

    connections: list[Connection] = []
    thread = threading.Thread(target=enter)
    thread.start()
    [rank] = server.accept_ranks(1, lambda: None)
    thread.join()
    connections[0].send_bytes(b"here")
    assert rank.recv_bytes() == b"here"
