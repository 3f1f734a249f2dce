"""The trials that no pruner ends, and Optuna's pruners made to leave them alone.

Early epochs favour what learns fast at first. Pruned like the rest, the constants that are best in
the end are among the first to go, and what is left of them is easily beaten. So the stratum of
constants is trained in full. (Optuna's rules still count it among the trials they compare with.)
"""

from __future__ import annotations

from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, PatientPruner
from optuna.study import Study
from optuna.trial import FrozenTrial

#: The attribute of a trial that no pruner ends.
UNPRUNED = "unpruned"


def is_exempt(trial: FrozenTrial) -> bool:
    """Tell whether a trial is trained in full whatever its metric."""
    return bool(trial.user_attrs.get(UNPRUNED, False))


class _Exempting(BasePruner):
    """A subclass and no wrapper, since Optuna's samplers ask whether a pruner is hyperband."""

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Tell whether the trial ends here."""
        # The class that comes next, one of Optuna's below, is not abstract.
        return not is_exempt(trial) and super().prune(study, trial)  # type: ignore[safe-super]


class Hyperband(_Exempting, HyperbandPruner):
    """Hyperband; see optuna.pruners.HyperbandPruner."""


class Median(_Exempting, MedianPruner):
    """The median rule; see optuna.pruners.MedianPruner."""


class Patient(_Exempting, PatientPruner):
    """Patience around another pruner; see optuna.pruners.PatientPruner."""
