"""The engine of rank 0: each call is made by all ranks at once."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from schedsearch.engines import EpochResult, Resumed, Snapshot
from schedsearch.engines.loop import LoopContext, LoopEngine, LoopRun
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
        # The result of the last epoch, if the other ranks do not have it yet.
        self._combined: EpochResult | None = None

    def fill(
        self,
        lane: int,
        seed: int,
        snapshot: Snapshot | None = None,
        context: LoopContext | None = None,
    ) -> None:
        """Start a run on all ranks; they share one folder, so it must be on a shared disk."""
        processes = self._followers.count + 1
        context = replace(
            context or LoopContext(), processes=processes, combined=self._combined_report
        )
        self._combined = None
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
            combined = None if self._combined is None else result_message(self._combined)
            self._call("train_epoch", combined=combined, **values_message(lane_values))
            self._combined = None
            [outcome] = super().train_epoch(values)
            if isinstance(outcome, Exception):
                raise self._first_error(outcome)
            assert outcome is not None
            return [self._combine(outcome, self._followers.answers())]
        except Exception as error:
            self._followers.fail(error)
            return [error]

    def test(self, lane: int) -> dict[str, float]:
        """End the loop on all ranks, and return the metrics that rank 0 gave to `run.test`."""
        self._call("test")
        try:
            metrics = super().test(lane)
        except Exception as error:
            first = self._first_error(error)
            self._followers.fail(first)
            raise first from first.__cause__
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
            self._leave(self._lane.run)
            return
        run = self._lane.run
        try:
            if self._lane.thread.is_started:
                self._call("release")
                super().release(lane)
                if self.raised is None:
                    self._followers.answers()
                else:
                    # Another rank may wait for this one in a collective call, and never answer.
                    self.raised = self._first_error(self.raised)
                    self._followers.fail(self.raised)
            else:
                super().release(lane)
        except RankFailedError as error:
            self.raised, self.tested = error, None
            self._leave(run)

    def _leave(self, run: LoopRun) -> None:
        """Leave a loop that may hang as it is."""
        run.remove_temporary_directory()
        self._lane = None

    def close(self) -> None:
        """Drop the engines of the other ranks."""
        if not self._followers.is_broken:
            self._call("drop")
            self._followers.answers()

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
        combined = self._combined_report(outcome)
        self._combined = replace(combined, stopped=False)
        self.replace_last_result(self._combined)
        return combined

    def _combined_report(self, own: EpochResult) -> EpochResult:
        """Return the mean of rank 0's report and those of the other ranks, once these are there."""
        reports = self._followers.reports()
        for rank in range(1, self._followers.count + 1):
            if rank not in reports:
                raise SchedSearchError(
                    f"rank {rank} did not call run.report(…, reduce={self.reduction!r}) in an "
                    "epoch in which rank 0 did"
                )
        return _mean([own, *(result_of(reports[rank]) for rank in sorted(reports))])


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
