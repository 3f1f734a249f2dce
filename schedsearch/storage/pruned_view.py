"""A view of a study in which audited trials were pruned as the pruner decided."""

from __future__ import annotations

import copy
from collections.abc import Container, Iterable

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from schedsearch.storage.attributes import WOULD_PRUNE

#: What samplers and pruners ask a study for; one of hyperband's brackets refuses all else.
_KEPT = ("study_name", "_study_id", "_storage", "_directions", "_thread_local", "sampler", "pruner")


def as_pruned(study: Study) -> Study:
    """Return a view in which each trial that would have been pruned ended at that epoch."""
    view = _AsPruned.__new__(_AsPruned)
    view.__dict__.update({name: getattr(study, name) for name in _KEPT}, inner=study)
    return view


class _AsPruned(Study):
    inner: Study

    def get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return _seen(self.inner.get_trials(deepcopy=False), deepcopy, states)

    # Optuna's own samplers ask by this method.
    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        found = self.inner._get_trials(deepcopy=False, use_cache=use_cache)
        return _seen(found, deepcopy, states)


def _seen(
    trials: Iterable[FrozenTrial], deepcopy: bool, states: Container[TrialState] | None
) -> list[FrozenTrial]:
    ended = [trial for trial in map(_ended, trials) if states is None or trial.state in states]
    return copy.deepcopy(ended) if deepcopy else ended


def _ended(trial: FrozenTrial) -> FrozenTrial:
    if (last := trial.user_attrs.get(WOULD_PRUNE)) is None:
        return trial
    ended = copy.copy(trial)
    ended.state = TrialState.PRUNED
    ended.intermediate_values = {
        epoch: value for epoch, value in trial.intermediate_values.items() if epoch <= last
    }
    ended.value = ended.intermediate_values[last]
    return ended
