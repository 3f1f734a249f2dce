"""A trial in training, and the plan that it trains."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from optuna.trial import Trial

from schedsearch.plan import Plan
from schedsearch.printable import describe_stop
from schedsearch.run import Run
from schedsearch.samplers import is_audited, is_exempt_from_pruning
from schedsearch.space import Objective, Space
from schedsearch.storage.attributes import AUDITED, PLAN, SAMPLE_INDEX, SEED, UNPRUNED
from schedsearch.training import search_seeds


@dataclass(eq=False)
class LiveTrial:
    """A trial in training: one run for each of its seeds."""

    trial: Trial
    runs: list[Run]

    @property
    def trial_id(self) -> int:
        """The id of the trial's row in the database."""
        return int(self.trial._trial_id)

    @property
    def epochs(self) -> int:
        """How many epochs all runs have completed, but for those that have stopped."""
        going_on = [run.epochs for run in self.runs if not run.stopped]
        return min(going_on) if going_on else max((run.epochs for run in self.runs), default=0)

    @property
    def due(self) -> list[Run]:
        """The runs to continue with: those that have completed the fewest epochs.

        Runs that have stopped are among them only once all runs of the trial have.
        """
        due = [run for run in self.runs if run.epochs == self.epochs]
        return [run for run in due if not run.stopped] or due

    @property
    def to_train(self) -> list[Run]:
        """The runs whose next epoch is to be trained; none once all runs have ended."""
        return [run for run in self.due if run.is_catching_up or not run.ended]

    @property
    def has_ended(self) -> bool:
        """Whether all runs have reached the horizon or have stopped, and none has diverged."""
        return all(run.ended for run in self.runs) and not math.isnan(self.metric)

    @property
    def stopped_after(self) -> int | None:
        """The number of epochs of a trial whose runs have all stopped before the horizon."""
        return self.epochs if all(run.stopped for run in self.runs) else None

    @property
    def metric(self) -> float:
        """The objective's metric after the last epoch: the mean over the seeds.

        A run that has stopped keeps its last metric.
        """
        return statistics.fmean(run.metric for run in self.runs)

    @property
    def value(self) -> float:
        """The trial's value: the mean of its runs' over the seeds."""
        return statistics.fmean(run.value for run in self.runs)

    def outcome(self, objective: Objective, *, complete: bool) -> str:
        """Say how the trial ended."""
        if math.isnan(self.metric):
            return f"diverged in epoch {self.epochs}"
        metric = f"{objective.metric} {self.value:.6g}"
        if not complete:
            return f"pruned after epoch {self.epochs}: {metric}"
        return f"complete: {metric}{describe_stop(self.stopped_after)}"


def seeds_of(trial: Trial, space: Space) -> range:
    """Return the seeds of a trial's runs: its own seed, or those of the study."""
    seed = trial.user_attrs.get(SEED)
    return search_seeds(space) if seed is None else range(seed, seed + 1)


def plan_for(trial: Trial, space: Space) -> Plan:
    """Return the plan that was queued with a trial, or draw one and record it.

    Raises:
        InputError: parameters that were drawn independently break a rule together.
    """
    attributes = trial.user_attrs  # a deep copy
    tables = attributes.get(PLAN)
    if tables is not None:
        return Plan.from_tables(tables)
    plan = space.suggest(trial)
    for seed in search_seeds(space):
        plan.resolve(space.horizon, seed)  # some rules depend on the horizon
    if is_exempt_from_pruning(space, attributes[SAMPLE_INDEX], plan):
        trial.set_user_attr(UNPRUNED, True)
    elif is_audited(space, attributes[SAMPLE_INDEX]):
        trial.set_user_attr(AUDITED, True)
    trial.set_user_attr(PLAN, plan.to_tables())
    return plan
