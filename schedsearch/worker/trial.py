"""A trial in training."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from optuna.trial import Trial

from schedsearch.run import Run
from schedsearch.space import Objective


@dataclass(eq=False)
class LiveTrial:
    """A trial in training: one run for each of its seeds."""

    trial: Trial
    runs: list[Run]

    @property
    def trial_id(self) -> int:
        """The row in the database."""
        return int(self.trial._trial_id)

    @property
    def epochs(self) -> int:
        """How many epochs all runs have behind them."""
        return min((run.epochs for run in self.runs), default=0)

    @property
    def next_to_train(self) -> list[Run]:
        """The runs whose next epoch the others have behind them, or wait for too."""
        return [run for run in self.runs if run.epochs == self.epochs]

    @property
    def metric(self) -> float:
        """The objective's metric after the last epoch: the mean over the seeds."""
        return statistics.fmean(run.metric for run in self.runs)

    @property
    def value(self) -> float:
        """What the trial counts for: the mean over the seeds."""
        return statistics.fmean(run.value for run in self.runs)

    def outcome(self, objective: Objective, *, complete: bool) -> str:
        """Say how the trial ended, for the person who watches."""
        if math.isnan(self.metric):
            return f"diverged in epoch {self.epochs}"
        metric = f"{objective.metric} {self.value:.6g}"
        return f"complete: {metric}" if complete else f"pruned after epoch {self.epochs}: {metric}"
