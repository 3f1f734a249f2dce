"""Pruners, which stop trials early; they are called after each epoch."""

from __future__ import annotations

import warnings

from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, NopPruner

from schedsearch.pruners.asha import AshaPruner
from schedsearch.pruners.audit import Audit, decide_pruning, summarize_audit
from schedsearch.pruners.exempt_trials import ExemptingHyperband, ExemptingMedian, ExemptingPatient
from schedsearch.space.document import PrunerOptions

__all__ = ["AshaPruner", "Audit", "decide_pruning", "make_pruner", "summarize_audit"]


def make_pruner(options: PrunerOptions, horizon: int) -> BasePruner:
    """Return the pruner of a space; the step of a report is the number of trained epochs."""
    match options.name:
        case "asha":
            return AshaPruner(options.min_epochs, options.reduction_factor)
        case "hyperband":
            return ExemptingHyperband(
                min_resource=options.min_epochs,
                max_resource=max(horizon, options.min_epochs),
                reduction_factor=options.reduction_factor,
            )
        case "none":
            return NopPruner()
    median = ExemptingMedian(
        n_startup_trials=options.startup_trials, n_warmup_steps=options.min_epochs
    )
    if options.name == "median":
        return median
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return ExemptingPatient(median, patience=options.patience)
