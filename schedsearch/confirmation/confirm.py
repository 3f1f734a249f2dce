"""Confirming: the best schedules and constants on fresh seeds, judged, and the result kept."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Any, Self

from schedsearch.confirmation.candidates import Candidate, candidates, few_constants_warning
from schedsearch.confirmation.live_calls import LiveCall
from schedsearch.confirmation.paired import ALPHA, fewest_seeds
from schedsearch.confirmation.study import (
    RunResult,
    confirmation_result,
    count_progress,
    failed_runs,
    keep_result,
    open_confirmation,
    queue_missing,
    recorded_runs,
)
from schedsearch.confirmation.verdicts import common_metric, contend, document
from schedsearch.errors import DatabaseFileLostError, InputError, SchedSearchError
from schedsearch.metric_names import missing_on_test
from schedsearch.printable import count_of
from schedsearch.space.constant_coverage import constant_coverage_warnings
from schedsearch.storage import StudyHandle
from schedsearch.storage.attributes import TEST_METRICS
from schedsearch.study_task import load_study_task
from schedsearch.training import fresh_seeds


@dataclass(frozen=True)
class Confirmation:
    """The runs that one call of `confirm` compares.

    It is a context manager: until its end, no other call takes its runs out of the queue, provided
    that `call.renew` is called about once a minute.

    Attributes:
        parent: the study that is confirmed.
        study: the study of the runs, which workers train.
        schedules: the best distinct schedules, and the user plans.
        constants: the best distinct constants, and the default.
        seeds: fresh seeds, on which every plan is trained.
        call: says that this call is alive.
        others: how many runs of other calls stay in the queue.
        without_test: why plans will be compared on the validation split, if that is known already.
    """

    parent: StudyHandle
    study: StudyHandle
    schedules: Sequence[Candidate]
    constants: Sequence[Candidate]
    seeds: range
    call: LiveCall
    others: int = 0
    without_test: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        # Without the file there is no record of this call to end, and the body reports the loss.
        with suppress(DatabaseFileLostError) if any(error) else nullcontext():
            self.call.end()

    @property
    def runs(self) -> list[tuple[Candidate, int]]:
        """The plans with their seeds; seed by seed, since runs of one seed share their data."""
        return [(plan, seed) for seed in self.seeds for plan in [*self.schedules, *self.constants]]

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

    def judge(self) -> dict[str, Any]:
        """Judge the runs, and keep the result with the study, without the plans; see `document`.

        A run that diverged counts as the worst of all that did not. A plan that diverged more often
        than some constant is never called better than it. Without a metric on the test split,
        validation is compared.

        Raises:
            SchedSearchError: runs failed or are missing, or all diverged.
        """
        results, objective = self._results(), self.parent.space.objective
        metric = common_metric(results, objective.metric)
        chosen, count = [*self.schedules, *self.constants], len(self.schedules)
        of_plans = [slice(i, None, len(chosen)) for i in range(len(chosen))]
        contenders = [
            replace(contender, stopped=sum(result.stopped for result in results[of_plan]))
            for contender, of_plan in zip(
                contend(chosen, [metric.values[of_plan] for of_plan in of_plans], objective),
                of_plans,
                strict=True,
            )
        ]
        result = document(contenders[:count], contenders[count:], objective, metric, self.seeds)
        space = self.parent.space
        result["coarse"] = [*constant_coverage_warnings(space), *few_constants_warning(self.parent)]
        # The objective's name if the task has no test metric: that is known only now.
        self.study.name_metric(metric.name)
        # Another call may end at the same time: neither loses the look of the other.
        with self.study.database.creation_lock():
            result["judged"] = self._looks()
            result["looks"] = [seeds for seeds, _ in result["judged"]]
            keep_result(self.parent, self.study, result)
        return result

    def _results(self) -> list[RunResult]:
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

    def _looks(self) -> list[Any]:
        """Return all looks at the runs: after how many seeds, and at which trials."""
        before = (confirmation_result(self.parent) or {}).get("judged", [])
        now = [len(self.seeds), sorted(c.number for c in self.schedules if c.number is not None)]
        return before if now in before else sorted([*before, now])


def prepare_confirmation(
    study: StudyHandle, *, top: int, seeds: int, epoch_timeout: float | None = None
) -> Confirmation:
    """Choose the plans to confirm, and queue the runs of them that are missing.

    Args:
        study: a study with complete trials.
        top: how many distinct schedules, best value of the search first.
        seeds: how many fresh seeds.
        epoch_timeout: seconds that an epoch may take; None: as many as in the study.

    Raises:
        StudyError: no schedule is complete, the task is not the one of the study, or
            STUDY:confirm is another study's.
        InputError: with so few seeds no result can be significant.
    """
    schedules, constants = candidates(study, top)
    if seeds < (least := fewest_seeds(len(schedules))):
        raise InputError(
            f"--seeds is {seeds}, but must be at least {least} to compare "
            f"{count_of(len(schedules), 'schedule')}: with {least - 1} seeds the smallest possible "
            f"p is 2 / 2^{least - 1} = {2 / 2 ** (least - 1):.2g}, but it must be below "
            f"{ALPHA} / {len(schedules)} = {ALPHA / len(schedules):.2g}; raise --seeds or lower "
            "--top"
        )
    load_study_task(study)
    runs_in = open_confirmation(study, epoch_timeout)
    confirmation = Confirmation(
        parent=study,
        study=runs_in,
        schedules=schedules,
        constants=constants,
        seeds=fresh_seeds(study.space, seeds),
        call=LiveCall(runs_in),
        without_test=_without_test(study),
    )
    others = queue_missing(runs_in, confirmation.runs, confirmation.call)
    return replace(confirmation, others=others)


def _without_test(study: StudyHandle) -> str | None:
    """Return why a study's plans cannot be compared on the test split, if a search found that."""
    tested = study.attributes(TEST_METRICS).get(TEST_METRICS)
    return None if tested is None else missing_on_test(study.space.objective.metric, tested)
