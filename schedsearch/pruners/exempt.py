"""The trials that no pruner ends, and Optuna's pruners made to leave them alone.

Early epochs favour what learns fast at first. Pruned like the rest, the constants that are best in
the end are among the first to go, and what is left of them is easily beaten. So the stratum of
constants is trained in full. (Optuna's rules still count it among the trials they compare with;
of a trial that is kept for the audit, only what it was until the rule would have ended it.)
"""

from __future__ import annotations

from optuna.pruners import HyperbandPruner, MedianPruner, PatientPruner
from optuna.study import Study
from optuna.trial import FrozenTrial

from schedsearch.storage import UNPRUNED
from schedsearch.storage.pruned_view import as_pruned


def is_exempt(trial: FrozenTrial) -> bool:
    """Tell whether a trial is trained in full whatever its metric."""
    return bool(trial.user_attrs.get(UNPRUNED, False))


# Subclasses and no wrapper, since Optuna's samplers ask whether a pruner is hyperband.


class Hyperband(HyperbandPruner):
    """Hyperband; see optuna.pruners.HyperbandPruner."""

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Tell whether the trial ends here."""
        return not is_exempt(trial) and super().prune(study, trial)


class Median(MedianPruner):
    """The median rule; see optuna.pruners.MedianPruner."""

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Tell whether the trial ends here."""
        return not is_exempt(trial) and super().prune(as_pruned(study), trial)


class Patient(PatientPruner):
    """Patience around another pruner; see optuna.pruners.PatientPruner."""

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Tell whether the trial ends here."""
        return not is_exempt(trial) and super().prune(as_pruned(study), trial)
