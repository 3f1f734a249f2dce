"""Confirming: the best schedules and constants on fresh seeds, judged, and the result kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from schedsearch.confirmation.candidates import Candidate, candidates, few_constants_warning
from schedsearch.confirmation.fresh_runs import FreshRuns, without_test_metric
from schedsearch.confirmation.live_calls import LiveCall
from schedsearch.confirmation.paired import ALPHA, fewest_seeds
from schedsearch.confirmation.stored_result import confirmation_result, keep_result
from schedsearch.confirmation.study import open_follow_up, queue_missing
from schedsearch.confirmation.verdicts import document
from schedsearch.errors import InputError
from schedsearch.printable import count_of
from schedsearch.space.constant_coverage import constant_coverage_warnings
from schedsearch.storage import Purpose, StudyHandle
from schedsearch.study_task import load_study_task
from schedsearch.training import fresh_seeds


@dataclass(frozen=True, kw_only=True)
class Confirmation(FreshRuns):
    """The runs that one call of `confirm` compares.

    Attributes:
        schedules: the best distinct schedules, and the user plans.
        constants: the best distinct constants, and the default.
    """

    schedules: Sequence[Candidate]
    constants: Sequence[Candidate]

    @property
    def plans(self) -> Sequence[Candidate]:
        return [*self.schedules, *self.constants]

    def judge(self) -> dict[str, Any]:
        """Judge the runs, and keep the result with the study, without the plans; see `document`.

        A run that diverged counts as the worst of all that did not. A plan that diverged more often
        than some constant is never called better than it. Without a metric on the test split,
        validation is compared.

        Raises:
            SchedSearchError: runs failed or are missing, or all diverged.
        """
        (contenders, metric), count = self.contenders(), len(self.schedules)
        space = self.parent.space
        result = document(
            contenders[:count], contenders[count:], space.objective, metric, self.seeds
        )
        result["coarse"] = [*constant_coverage_warnings(space), *few_constants_warning(self.parent)]
        # The objective's name if the task has no test metric: that is known only now.
        self.study.name_metric(metric.name)
        # Another call may end at the same time: neither loses the look of the other.
        with self.study.database.creation_lock():
            result["judged"] = self._looks()
            result["looks"] = [seeds for seeds, _ in result["judged"]]
            keep_result(self.parent, self.study, result)
        return result

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
    runs_in = open_follow_up(study, Purpose.CONFIRM, epoch_timeout)
    confirmation = Confirmation(
        parent=study,
        study=runs_in,
        schedules=schedules,
        constants=constants,
        seeds=fresh_seeds(study.space, seeds),
        call=LiveCall(runs_in),
        without_test=without_test_metric(study),
    )
    others = queue_missing(runs_in, confirmation.runs, confirmation.call)
    return replace(confirmation, others=others)
