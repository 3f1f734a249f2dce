"""Optuna's pruners, made to leave constants alone.

They compare all trials of a study with each other. Constants that schedules ended early would leave
the search no strong constant to be compared with.
"""

from __future__ import annotations

from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, PatientPruner
from optuna.study import Study
from optuna.trial import FrozenTrial

from schedsearch.storage import is_constant


class _ConstantsExempt(BasePruner):
    """A subclass and no wrapper, since Optuna's samplers ask whether a pruner is hyperband."""

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Tell whether the trial ends here: never, if it is a constant."""
        # The class that comes next, one of Optuna's below, is not abstract.
        return not is_constant(trial) and super().prune(study, trial)  # type: ignore[safe-super]


class Hyperband(_ConstantsExempt, HyperbandPruner):
    """Hyperband among the schedules; see optuna.pruners.HyperbandPruner."""


class Median(_ConstantsExempt, MedianPruner):
    """The median rule among the schedules; see optuna.pruners.MedianPruner."""


class Patient(_ConstantsExempt, PatientPruner):
    """Patience around another pruner; see optuna.pruners.PatientPruner."""
