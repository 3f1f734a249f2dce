"""Pruners, which stop trials early; they are called after each epoch."""

from __future__ import annotations

import warnings

from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, PatientPruner

from schedsearch.pruners.asha import AshaPruner
from schedsearch.pruners.audit import Audit, summarize_audit
from schedsearch.pruners.decision import decide_pruning
from schedsearch.space import Space
from schedsearch.space.rungs import rungs

__all__ = [
    "AshaPruner",
    "Audit",
    "compared_epochs",
    "decide_pruning",
    "make_pruner",
    "summarize_audit",
]


def make_pruner(space: Space) -> BasePruner:
    """Return the pruner of a space; the step of a report is the number of trained epochs."""
    options = space.search.pruner
    match options.name:
        case "forecast":
            # scipy takes a while to load, and most commands do not need it.
            from schedsearch.pruners.forecast import ForecastPruner

            return ForecastPruner(space)
        case "asha":
            return AshaPruner(rungs(space), options.reduction_factor)
        case "hyperband":
            return HyperbandPruner(
                min_resource=options.min_epochs,
                max_resource=space.horizon,
                reduction_factor=options.reduction_factor,
            )
        case "none":
            return NopPruner()
    median = MedianPruner(
        n_startup_trials=options.startup_trials, n_warmup_steps=options.min_epochs
    )
    if options.name == "median":
        return median
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return PatientPruner(median, patience=options.patience)


def compared_epochs(space: Space) -> frozenset[int] | None:
    """Return the epochs at which a pruner compares a trial with others; None for any epoch."""
    match space.search.pruner.name:
        case "asha":
            return frozenset(rungs(space))
        case "none":
            return frozenset()
    return None
