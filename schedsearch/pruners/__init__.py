"""Pruners: which trials end early, asked after each epoch."""

from __future__ import annotations

import warnings

from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, NopPruner

from schedsearch.pruners.asha import AshaPruner
from schedsearch.pruners.audit import Audit, audit_of, decide
from schedsearch.pruners.exempt import Hyperband, Median, Patient
from schedsearch.space.document import PrunerOptions

__all__ = ["AshaPruner", "Audit", "audit_of", "decide", "make_pruner"]


def make_pruner(options: PrunerOptions, horizon: int) -> BasePruner:
    """Return the pruner that a space asks for; a report's step is the epochs trained."""
    match options.name:
        case "asha":
            return AshaPruner(options.min_epochs, options.reduction_factor)
        case "hyperband":
            return Hyperband(
                min_resource=options.min_epochs,
                max_resource=max(horizon, options.min_epochs),
                reduction_factor=options.reduction_factor,
            )
        case "none":
            return NopPruner()
    median = Median(n_startup_trials=options.startup_trials, n_warmup_steps=options.min_epochs)
    if options.name == "median":
        return median
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return Patient(median, patience=options.patience)
