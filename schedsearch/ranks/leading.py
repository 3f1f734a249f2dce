"""The engine of rank 0: each call is made by all ranks at once."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from schedsearch.engines import EpochResult, Resumed, Snapshot
from schedsearch.engines.loop import LoopContext, LoopEngine
from schedsearch.errors import SchedSearchError, TrainingRefusedError
from schedsearch.exception_lines import describe_error
from schedsearch.ranks.followers import Followers, RankFailedError
from schedsearch.ranks.messages import (
    GENERATORS,
    kind_of,
    result_message,
    result_of,
    values_message,
)

#: Seconds in which another rank may have failed first if rank 0 fails: its end is noticed later.
_GRACE = 2.0


class LeadingEngine(LoopEngine):
    """Trains with a loop on all ranks: this one runs in rank 0, and the others follow it.

    Args:
        engine: of rank 0; its loop is trained here.
        followers: the other ranks.
        number: of this engine among those of the worker.
    """

    def __init__(self, engine: LoopEngine, followers: Followers, number: int) -> None:
        super().__init__(
            engine.train,
            horizon=engine.horizon,
            precision=engine.precision,
            arguments=engine.arguments,
            while_waiting=followers.check,
        )
        self._followers, self._number = followers, number

    def fill(
        self,
        lane: int,
        seed: int,
        snapshot: Snapshot | None = None,
        context: LoopContext | None = None,
    ) -> None:
        """Start a run on all ranks; they share one folder, so it must be on a shared disk."""
        processes = self._followers.count + 1
        context = replace(context or LoopContext(), processes=processes)
        super().fill(lane, seed, snapshot, context)
        self._call(
            "fill",
            seed=seed,
            epoch=None if snapshot is None else snapshot.epoch,
            extra=None if snapshot is None else dict(snapshot.extra),
            identity=context.identity,
            results=[result_message(result) for result in context.results],
            directory=str(self._filled().run.directory),
            processes=processes,
        )
        self._followers.answers()

    def train_epoch(
        self, values: Sequence[Mapping[str, float] | None]
    ) -> Sequence[EpochResult | Resumed | Exception | None]:
        """Let the loop train one epoch on all ranks; see Engine."""
        [lane_values] = values
        if lane_values is None:
            return [None]
        try:
            self._call("train_epoch", **values_message(lane_values))
            [outcome] = super().train_epoch(values)
            if isinstance(outcome, Exception):
                raise self._first_error(outcome)
            assert outcome is not None
            return [self._combine(outcome, self._followers.answers())]
        except Exception as error:
            self._followers.is_broken = True
            return [error]

    def test(self, lane: int) -> dict[str, float]:
        """End the loop on all ranks, and return the metrics that rank 0 gave to `run.test`."""
        self._call("test")
        try:
            metrics = super().test(lane)
        except Exception as error:
            self._followers.is_broken = True
            raise self._first_error(error) from None
        self._followers.answers()
        return metrics

    def snapshot(self, lane: int) -> Snapshot | None:
        """Return a copy of rank 0's checkpoint, with the generators of all ranks."""
        snapshot = super().snapshot(lane)
        if snapshot is None or self._followers.is_broken:
            return snapshot
        self._call("generators")
        states = [answer["generators"] for answer in self._followers.answers()]
        return replace(snapshot, extra={**snapshot.extra, GENERATORS: states})

    def release(self, lane: int) -> None:
        """End the loop on all ranks; if one has failed, the others are left as they are."""
        if self._lane is None:
            return
        if self._followers.is_broken:
            self._lane = None
            return
        try:
            if self._lane.thread.is_started:
                self._call("release")
                super().release(lane)
                self._followers.answers()
            else:
                super().release(lane)
        except RankFailedError as error:
            self.raised, self._lane = error, None

    def _call(self, name: str, **content: Any) -> None:
        self._followers.call(name, engine=self._number, **content)

    def _first_error(self, error: Exception) -> Exception:
        """Return the error of another rank, if rank 0 may have failed only because of it."""
        if isinstance(error, RankFailedError | TrainingRefusedError):
            return error
        other = self._followers.raised_before(_GRACE)
        if isinstance(other, RankFailedError) and other.line == describe_error(error):
            return error  # all ranks have failed alike
        return other or error

    def _combine(
        self, outcome: EpochResult | Resumed, answers: Sequence[Mapping[str, Any]]
    ) -> EpochResult | Resumed:
        """Return the outcome of all ranks; raise SchedSearchError if they differ in their kind."""
        own = kind_of(outcome)
        for rank, answer in enumerate(answers, start=1):
            if answer["kind"] != own:
                raise SchedSearchError(
                    f"rank {rank} {answer['kind']}, but rank 0 {own}: all ranks must resume, "
                    "continue and end together"
                )
        if isinstance(outcome, Resumed) or self.reduction is None or not outcome.metrics:
            return outcome
        for rank, answer in enumerate(answers, start=1):
            if answer["reduction"] != self.reduction:
                raise SchedSearchError(
                    f"rank {rank} did not call run.report(…, reduce={self.reduction!r}) in an "
                    "epoch in which rank 0 did"
                )
        combined = _mean([outcome, *map(result_of, answers)])
        self._filled().state.results[-1] = replace(combined, stopped=False)
        return combined


def _mean(results: Sequence[EpochResult]) -> EpochResult:
    """Return the mean of each metric and term over all ranks."""
    first = results[0]
    for rank, result in enumerate(results):
        if (
            result.metrics.keys() != first.metrics.keys()
            or result.terms.keys() != first.terms.keys()
        ):
            raise SchedSearchError(f"rank {rank} reported other metrics or terms than rank 0")
    return replace(
        first,
        metrics={n: statistics.fmean(r.metrics[n] for r in results) for n in first.metrics},
        terms={n: statistics.fmean(r.terms[n] for r in results) for n in first.terms},
    )
