"""Trials that are exempt from pruning, and Optuna's pruners with this exemption.

Pruning compares early epochs, and favours fast starts. The constants that are best in the end would
be among the first to be pruned, and schedules would be compared with poor constants. So the trials
of the constant share are trained in full. Optuna's rules still count them among the trials they
compare with; an audited trial counts as if it had been pruned.
"""

from __future__ import annotations

from optuna.pruners import HyperbandPruner, MedianPruner, PatientPruner
from optuna.study import Study
from optuna.trial import FrozenTrial

from schedsearch.storage import UNPRUNED


def is_exempt(trial: FrozenTrial) -> bool:
    """Return whether a trial is trained in full whatever its metric."""
    return bool(trial.user_attrs.get(UNPRUNED, False))


# Subclasses, since Optuna's samplers test whether the pruner is a HyperbandPruner.


class ExemptingHyperband(HyperbandPruner):
    """optuna.pruners.HyperbandPruner with exempt trials."""

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Return whether to prune the trial."""
        return not is_exempt(trial) and super().prune(study, trial)


class ExemptingMedian(MedianPruner):
    """optuna.pruners.MedianPruner with exempt trials."""

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Return whether to prune the trial."""
        return not is_exempt(trial) and super().prune(study, trial)


class ExemptingPatient(PatientPruner):
    """optuna.pruners.PatientPruner with exempt trials."""

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Return whether to prune the trial."""
        return not is_exempt(trial) and super().prune(study, trial)
