"""Explaining: variants of a plan on fresh seeds, judged, and the result kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from schedsearch.confirmation.candidates import Candidate
from schedsearch.confirmation.fresh_runs import FreshRuns, without_test_metric
from schedsearch.confirmation.live_calls import LiveCall
from schedsearch.confirmation.paired import fewest_seeds
from schedsearch.confirmation.stored_result import confirmation_result, keep_result
from schedsearch.confirmation.study import open_follow_up, queue_missing
from schedsearch.confirmation.verdicts import CommonMetric, Contender, best_first, winner
from schedsearch.errors import InputError, SchedSearchError, StudyError
from schedsearch.explanation.judging import (
    Judged,
    compare,
    document,
    judge,
    simplest_of_each,
)
from schedsearch.explanation.paths import Path, mean_paths, rounded
from schedsearch.explanation.stored_result import explanation_result
from schedsearch.explanation.variants import Explained, Question, Variant, most_comparisons
from schedsearch.plan import Plan
from schedsearch.printable import count_of
from schedsearch.storage import Purpose, StudyHandle, plan_of
from schedsearch.storage.attributes import EXPLANATION_RESULT, SEED
from schedsearch.study_task import load_study_task
from schedsearch.training import fresh_seeds

#: The mean path is that of the first seeds, so that it stays the same with more seeds.
PATH_SEEDS = 8
#: The most points of a path in the stored result: MySQL limits an attribute to 65,535 bytes.
_POINTS = 60


@dataclass(frozen=True, kw_only=True)
class Explanation(FreshRuns):
    """The runs of a plan and its variants at one stage of an explanation.

    At the first stage the variants have constants in place of schedules. When the plan is trained,
    its path is known: `advance` returns the next stage, whose variants follow the path. When these
    are trained, it returns the last one, with the simplest schedules together.

    Attributes:
        trial: the number of the explained trial.
        explained: its plan, and the best constants.
        variants: of the plan.
        margin: how much worse a simpler schedule may be; None: a quarter of the gain.
    """

    trial: int
    explained: Explained
    variants: Sequence[Variant]
    margin: float | None

    @property
    def plans(self) -> Sequence[Candidate]:
        plans = dict.fromkeys([self.explained.plan, *(variant.plan for variant in self.variants)])
        return [
            Candidate(self.trial if plan == self.explained.plan else None, plan) for plan in plans
        ]

    def advance(self) -> Explanation | None:
        """Return the next stage, with its runs queued; None if this one was the last.

        Raises:
            SchedSearchError: runs of this stage failed or are missing, or all runs of the plan
                diverged, so that it has no path.
        """
        self.results()
        variants = self._next_variants()
        if variants is None:
            return None
        following = replace(self, variants=variants)
        return replace(following, others=queue_missing(self.study, following.runs, self.call))

    def _next_variants(self) -> list[Variant] | None:
        changes = {variant.change for variant in self.variants}
        if all(variant.question is not Question.SIMPLER for variant in self.variants):
            return [*self.variants, *self.explained.path_variants(self._paths())]
        judged, *_ = self._judged()
        found = simplest_of_each(judged)
        if len(found) < 2 or "together" in changes:
            return None
        return [*self.variants, self.explained.together(found)]

    def judge(self) -> dict[str, Any]:
        """Judge the runs, and keep the result with the study, without the plans.

        Raises:
            SchedSearchError: runs failed or are missing, or all diverged.
        """
        judged, plan, metric = self._judged()
        result = document(judged, plan, self.parent.space.objective, metric)
        result["seeds"] = [self.seeds.start, self.seeds.stop]
        result["paths"] = {name: _thinned(path) for name, path in self._paths().items()}
        self.study.name_metric(metric.name)
        with self.study.database.creation_lock():
            result["looks"] = self._looks()
            keep_result(self.parent, self.study, result, EXPLANATION_RESULT)
        return result

    def _looks(self) -> list[Any]:
        """Return all looks at runs: at which trial, after how many seeds, and with which margin.

        A look without a given margin has no third item.
        """
        before = (explanation_result(self.parent) or {}).get("looks", [])
        now = [self.trial, len(self.seeds), *([] if self.margin is None else [self.margin])]
        return before if now in before else sorted([*before, now])

    def _judged(self) -> tuple[list[Judged], Contender, CommonMetric]:
        contenders, metric = self.contenders()
        of_plan = {contender.plan: contender for contender in contenders}
        plan, numbers = of_plan[self.explained.plan], self._numbers()
        runs = [replace(of_plan[v.plan], number=numbers[v.plan]) for v in self.variants]
        objective = self.parent.space.objective
        comparisons = compare(self.variants, runs, plan, objective, self.margin)
        return judge(comparisons, plan), plan, metric

    def _numbers(self) -> dict[Plan, int]:
        """Return for each plan a trial with it in the study of the runs: the first complete one.

        Only a plan that diverged on all seeds has the number of a run that diverged.
        """
        recorded = (TrialState.COMPLETE, TrialState.PRUNED)
        trials = [trial for trial in self.study.trials() if trial.state in recorded]
        found: dict[Plan, int] = {}
        for trial in sorted(trials, key=lambda trial: recorded.index(trial.state)):
            found.setdefault(plan_of(trial), trial.number)
        return found

    def _paths(self) -> dict[str, Path]:
        names = [name for key in self.explained.searched for name in key]
        return mean_paths(self._path_runs(), names, self.study.space.horizon)

    def _path_runs(self) -> list[FrozenTrial]:
        """Return the runs of the plan whose values make its path."""
        first = self.seeds[:PATH_SEEDS]
        runs = {
            trial.user_attrs[SEED]: trial
            for trial in self.study.trials()
            if trial.state is TrialState.COMPLETE
            and trial.user_attrs.get(SEED) in first
            and plan_of(trial) == self.explained.plan
        }
        if not runs:
            raise SchedSearchError(
                f"trial {self.trial} diverged with each of the first {len(first)} fresh seeds: "
                "there is no path to explain"
            )
        return [runs[seed] for seed in sorted(runs)]


def _thinned(path: Path) -> list[float]:
    every = -(-len(path) // _POINTS)
    return [rounded(value) for value in path[::every]]


def train_stages(explanation: Explanation, train: Callable[[Explanation], None]) -> Explanation:
    """Train all stages of an explanation, and return the last one; `train` trains one of them.

    Raises:
        SchedSearchError: runs failed or are missing.
    """
    while True:
        train(explanation)
        if (following := explanation.advance()) is None:
            return explanation
        explanation = following


def prepare_explanation(
    study: StudyHandle,
    *,
    seeds: int,
    trial: int | None = None,
    margin: float | None = None,
    epoch_timeout: float | None = None,
) -> Explanation:
    """Choose the plan to explain, and queue the runs of the first stage that are missing.

    Args:
        study: a study with complete trials.
        seeds: how many fresh seeds; no trial and no confirmation uses them.
        trial: the number of the trial to explain; None: the winner of the confirmation, or the best
            schedule.
        margin: how much worse a simpler schedule may be; None: a quarter of the gain.
        epoch_timeout: seconds that an epoch may take; None: as many as in the study.

    Raises:
        StudyError: the trial is not complete, or its plan has no schedule that the search chose;
            the task is not the one of the study; or STUDY:explain is another study's.
        InputError: with so few seeds no result can be significant, or the margin is not positive.
    """
    if margin is not None and not 0 < margin < float("inf"):
        raise InputError(f"--margin is {margin:g}, but must be a number greater than 0")
    chosen = study.trial(_best_schedule(study) if trial is None else trial)
    if chosen.state is not TrialState.COMPLETE:
        state = chosen.state.name.lower()
        raise StudyError(f"trial {chosen.number} is {state}, but must be complete")
    explained = Explained.of(plan_of(chosen), _best_constants(study), study.space.baseline())
    if not explained.searched:
        raise StudyError(
            f"the plan of trial {chosen.number} has no schedule to explain: it is constant (hint: "
            "--trial NUMBER explains another one)"
        )
    _check_seeds(seeds, explained)
    load_study_task(study)
    runs_in = open_follow_up(study, Purpose.EXPLAIN, epoch_timeout)
    explanation = Explanation(
        parent=study,
        study=runs_in,
        seeds=unseen_seeds(study, seeds),
        call=LiveCall(runs_in),
        without_test=without_test_metric(study),
        trial=chosen.number,
        explained=explained,
        variants=explained.constant_variants(),
        margin=margin,
    )
    others = queue_missing(runs_in, explanation.runs, explanation.call)
    return replace(explanation, others=others)


def unseen_seeds(study: StudyHandle, number: int) -> range:
    """Return seeds that neither a trial nor a confirmation uses, which chose the plan."""
    first = fresh_seeds(study.space, 1_000_000).stop
    return range(first, first + number)


def _check_seeds(seeds: int, explained: Explained) -> None:
    most = most_comparisons(explained)
    if seeds < (least := max(PATH_SEEDS, fewest_seeds(most))):
        raise InputError(
            f"--seeds is {seeds}, but must be at least {least} for up to "
            f"{count_of(most, 'comparison')}: with fewer seeds none of them could be significant "
            "after Holm's correction"
        )


def _best_schedule(study: StudyHandle) -> int:
    """Return the trial of the winner of the confirmation, or of the best schedule."""
    result = confirmation_result(study)
    if result is not None:
        if (confirmed := winner(result)) is not None:
            return confirmed
        compared = (entry["number"] for entry in best_first(result, "plans"))
        return int(next(compared))
    ranked = study.ranked_plans(constant=False)
    if ranked:
        return ranked[0].number
    if not study.complete_trials():
        raise study.no_complete_trial()
    raise StudyError(f"study {study.name} has no complete trial with a schedule yet")


def _best_constants(study: StudyHandle) -> Plan:
    """Return the best constant plan: of the confirmation, or of the study."""
    result = confirmation_result(study)
    number = None if result is None else result["baseline"]["number"]
    if number is not None:
        return plan_of(study.trial(number))
    ranked = study.ranked_plans(constant=True)
    return plan_of(ranked[0].trial) if ranked and result is None else study.space.baseline()
