"""The audit of a pruner: a share of the trials is trained in full, to measure what pruning misses.

A pruner sees early epochs only, and may stop trials that improve late. Whether it did is known only
for trials that are trained in full nevertheless. The pruner evaluates an audited trial until
it would stop it; that epoch is recorded, and the trial continues. From then on, pruners and
samplers see the trial as if it had been pruned, so the audit does not change the search.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from schedsearch.pruners.decision import is_exempt
from schedsearch.space import Objective
from schedsearch.storage.attributes import AUDITED, FORECAST, WOULD_PRUNE


@dataclass(frozen=True)
class WouldBePrunedTrial:
    """A complete audited trial that the pruner would have stopped.

    Attributes:
        number: of the trial.
        epoch: the epoch after which the pruner would have stopped it.
        value: the final value of the trial.
        best_survivor: the best value, when it ended, of the trials that were not pruned.
        is_better: whether its value is better than that.
    """

    number: int
    epoch: int
    value: float
    best_survivor: float | None
    is_better: bool


@dataclass(frozen=True)
class ForecastTrial:
    """A complete audited trial whose final value was forecast while it was trained.

    Attributes:
        number: of the trial.
        epoch: the epoch after which the forecast was made.
        low: the 5 % quantile of the forecast.
        median: the 50 % quantile.
        high: the 95 % quantile.
        value: the final value of the trial.
    """

    number: int
    epoch: int
    low: float
    median: float
    high: float
    value: float

    @property
    def is_within(self) -> bool:
        """Whether the value is between the quantiles, which 90 % of all values should be."""
        return self.low <= self.value <= self.high


@dataclass(frozen=True)
class Audit:
    """The result of the audit.

    Attributes:
        complete: the number of complete audited trials; failed and diverged ones do not count.
        would_prune: those of them that the pruner would have stopped.
        forecasts: those of them whose final value the pruner has forecast.
    """

    complete: int
    would_prune: tuple[WouldBePrunedTrial, ...]
    forecasts: tuple[ForecastTrial, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the audit as plain data."""
        return {
            "ended": self.complete,
            "would_have_been_pruned": len(self.would_prune),
            "better_than_best_survivor": sum(trial.is_better for trial in self.would_prune),
            "trials": [asdict(trial) for trial in self.would_prune],
            "forecasts": [
                {**asdict(trial), "is_within": trial.is_within} for trial in self.forecasts
            ],
        }


def summarize_audit(trials: Sequence[FrozenTrial], objective: Objective) -> Audit | None:
    """Return the audit of a study's pruner; None if no audited trial is complete."""
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    audited = [trial for trial in complete if AUDITED in trial.user_attrs]
    if not audited:
        return None
    survivors = [
        trial for trial in complete if not is_exempt(trial) and WOULD_PRUNE not in trial.user_attrs
    ]
    would_prune = (
        _compare(trial, survivors, objective)
        for trial in audited
        if WOULD_PRUNE in trial.user_attrs
    )
    forecasts = (_forecast_of(trial) for trial in audited if FORECAST in trial.user_attrs)
    return Audit(len(audited), tuple(would_prune), tuple(forecasts))


def _forecast_of(trial: FrozenTrial) -> ForecastTrial:
    epoch, low, median, high = trial.user_attrs[FORECAST]
    assert trial.value is not None
    return ForecastTrial(trial.number, epoch, low, median, high, trial.value)


def _compare(
    trial: FrozenTrial, survivors: Iterable[FrozenTrial], objective: Objective
) -> WouldBePrunedTrial:
    """Compare a trial with the survivors that were complete when it ended."""
    loss, ended = objective.to_minimize, trial.datetime_complete
    values = [
        survivor.value
        for survivor in survivors
        if survivor.value is not None
        and survivor.datetime_complete is not None
        and ended is not None
        and survivor.datetime_complete <= ended
    ]
    assert trial.value is not None
    best = min(values, key=loss, default=None)
    return WouldBePrunedTrial(
        number=trial.number,
        epoch=trial.user_attrs[WOULD_PRUNE],
        value=trial.value,
        best_survivor=best,
        is_better=best is not None and loss(trial.value) < loss(best),
    )
