"""Pruners: which trials end early, asked after each epoch."""

from __future__ import annotations

from optuna import pruners
from optuna.pruners import BasePruner

from schedsearch.space.document import PrunerOptions


def make_pruner(options: PrunerOptions, horizon: int) -> BasePruner:
    """Return the Optuna pruner that a space asks for; a report's step is the epochs trained."""
    if options.name == "asha":
        return pruners.SuccessiveHalvingPruner(
            min_resource=options.min_epochs, reduction_factor=options.reduction_factor
        )
    if options.name == "hyperband":
        return pruners.HyperbandPruner(
            min_resource=options.min_epochs,
            max_resource=max(horizon, options.min_epochs),
            reduction_factor=options.reduction_factor,
        )
    if options.name == "none":
        return pruners.NopPruner()
    median = pruners.MedianPruner(
        n_startup_trials=options.startup_trials, n_warmup_steps=options.min_epochs
    )
    if options.name == "median":
        return median
    return pruners.PatientPruner(median, patience=options.patience)
