"""Whether to stop a trial: the pruner decides, except for exempt, protected and audited trials.

Pruning compares early epochs, and favours fast starts. The constants that are best in the end would
be among the first to be pruned, and schedules would be compared with poor constants. So the trials
of the constant share are exempt. Optuna's pruners still count them among the trials they compare
with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from optuna.pruners import BasePruner
from optuna.study import Study
from optuna.trial import FrozenTrial

from schedsearch.schedules.durations import to_epochs
from schedsearch.space import Space
from schedsearch.storage.attributes import AUDITED, FORECAST, UNPRUNED, WOULD_PRUNE


def is_exempt(trial: FrozenTrial) -> bool:
    """Return whether a trial is trained in full whatever its metric."""
    return bool(trial.user_attrs.get(UNPRUNED, False))


@runtime_checkable
class ForecastingPruner(Protocol):
    """A pruner that forecasts the final value of a trial in training."""

    def forecast(self, study: Study, trial: FrozenTrial) -> tuple[float, float, float] | None:
        """Return the 5 %, 50 % and 95 % quantiles of the final value; None if it cannot tell."""


@dataclass(frozen=True)
class PruneDecision:
    """The decision about a trial that has reported an epoch.

    Attributes:
        prune: whether to stop the trial.
        would_prune: whether the pruner would stop it, but it is audited and continues.
        forecast: of an audited trial, at the first decision of a pruner that forecasts the final
            value: its 5 %, 50 % and 95 % quantiles.
    """

    prune: bool
    would_prune: bool = False
    forecast: tuple[float, float, float] | None = None


_CONTINUE = PruneDecision(prune=False)


def decide_pruning(
    pruner: BasePruner, space: Space, study: Study, trial: FrozenTrial
) -> PruneDecision:
    """Ask the pruner, unless the trial is exempt, protected, or would have been pruned before."""
    protected = to_epochs(space.search.pruner.protected, space.horizon, space.schedule_version)
    if is_exempt(trial) or WOULD_PRUNE in trial.user_attrs or (trial.last_step or 0) < protected:
        return _CONTINUE
    if AUDITED not in trial.user_attrs:
        return PruneDecision(pruner.prune(study, trial))
    forecast = None
    if isinstance(pruner, ForecastingPruner) and FORECAST not in trial.user_attrs:
        forecast = pruner.forecast(study, trial)
    return PruneDecision(False, pruner.prune(study, trial), forecast)
