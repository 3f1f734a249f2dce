"""Plans on fresh seeds: the runs that one call of a command compares, and their results."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Any, Self

from schedsearch.confirmation.candidates import Candidate
from schedsearch.confirmation.live_calls import LiveCall
from schedsearch.confirmation.study import (
    RunResult,
    count_progress,
    failed_runs,
    recorded_runs,
)
from schedsearch.confirmation.verdicts import CommonMetric, Contender, common_metric, contend
from schedsearch.errors import DatabaseFileLostError, SchedSearchError
from schedsearch.metric_names import missing_on_test
from schedsearch.storage import StudyHandle
from schedsearch.storage.attributes import TEST_METRICS


@dataclass(frozen=True)
class FreshRuns(ABC):
    """The runs that one call of a command compares.

    It is a context manager: until its end, no other call takes its runs out of the queue, provided
    that `call.renew` is called about once a minute.

    Attributes:
        parent: the study whose plans are compared.
        study: the study of the runs, which workers train.
        seeds: fresh seeds, on which every plan is trained.
        call: says that this call is alive.
        others: how many runs of other calls stay in the queue.
        without_test: why plans will be compared on the validation split, if that is known already.
    """

    parent: StudyHandle
    study: StudyHandle
    seeds: range
    call: LiveCall
    others: int = 0
    without_test: str | None = None

    @property
    @abstractmethod
    def plans(self) -> Sequence[Candidate]:
        """The distinct plans, in the order of their results."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        # Without the file there is no record of this call to end, and the body reports the loss.
        with suppress(DatabaseFileLostError) if any(error) else nullcontext():
            self.call.end()

    @property
    def runs(self) -> list[tuple[Candidate, int]]:
        """The plans with their seeds; seed by seed, since runs of one seed share their data."""
        return [(plan, seed) for seed in self.seeds for plan in self.plans]

    def recorded(self) -> int:
        """Count the runs that have ended."""
        known = recorded_runs(self.study)
        return sum((candidate.plan, seed) in known for candidate, seed in self.runs)

    def progress(self) -> tuple[int, float]:
        """Return how many runs have ended, and how many runs' worth of epochs is trained.

        A run that has ended counts in full.
        """
        wanted = {(candidate.plan, seed) for candidate, seed in self.runs}
        return count_progress(self.study, wanted)

    def results(self) -> list[RunResult]:
        """Return the results of all runs, in their order.

        Raises:
            SchedSearchError: runs failed or are missing.
        """
        known, wanted = recorded_runs(self.study), self.runs
        missing = [(c.plan, seed) for c, seed in wanted if (c.plan, seed) not in known]
        if missing:
            failed = failed_runs(self.study)
            reasons = [f"seed {key[1]}: {failed[key]}" for key in missing if key in failed]
            first = (
                f", {len(reasons)} of them failed, the first with {reasons[0]}" if reasons else ""
            )
            raise SchedSearchError(
                f"{len(missing)} of {len(wanted)} runs are missing{first}: "
                "the same command trains them"
            )
        return [known[candidate.plan, seed] for candidate, seed in wanted]

    def contenders(self) -> tuple[list[Contender], CommonMetric]:
        """Return the plans with their runs, in the order of `plans`, and the metric of the runs.

        Raises:
            SchedSearchError: runs failed or are missing, or all diverged.
        """
        results, plans, objective = self.results(), self.plans, self.parent.space.objective
        metric = common_metric(results, objective.metric)
        of_plans = [slice(i, None, len(plans)) for i in range(len(plans))]
        found = contend(plans, [metric.values[of_plan] for of_plan in of_plans], objective)
        contenders = [
            replace(contender, stopped=sum(result.stopped for result in results[of_plan]))
            for contender, of_plan in zip(found, of_plans, strict=True)
        ]
        return contenders, metric


def without_test_metric(study: StudyHandle) -> str | None:
    """Return why a study's plans cannot be compared on the test split, if a search found that."""
    tested: Any = study.attributes(TEST_METRICS).get(TEST_METRICS)
    return None if tested is None else missing_on_test(study.space.objective.metric, tested)
