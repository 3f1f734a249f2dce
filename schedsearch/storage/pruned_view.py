"""A view of studies for samplers and pruners.

In it, the pruner stopped every trial that it would have stopped, and trials that stopped by
themselves keep their last value.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field

from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from schedsearch.storage.attributes import RACED_TRIAL, STOPPED_AFTER, WOULD_PRUNE, is_superseded
from schedsearch.storage.forwarding_storage import ForwardingStorage


class PrunedView(ForwardingStorage):
    """Lists a trial that runs to the end only to audit the pruner as one that was pruned.

    Samplers and pruners that read a study through this storage see no epoch after the one at which
    the pruner would have stopped the trial. They see the trial as pruned once it has ended.
    A run of a race is listed as failed, which samplers and pruners ignore: they see a plan once,
    with its first run.
    The reports of a trial whose training loop ended before the horizon have its last value in every
    later epoch, so pruners compare the trials that continue with it.
    A single trial (`get_trial`) is returned unchanged, since its worker still trains it.

    A finished trial is read once: if its transaction is rolled back later, the view keeps the old
    state.

    Args:
        target: the storage of the studies; it lists the trials by number, without gaps.
        check: raises an error if a finished trial is not valid; None checks nothing.
    """

    def __init__(
        self, target: BaseStorage, check: Callable[[FrozenTrial], None] | None = None
    ) -> None:
        super().__init__(target)
        self._check = check
        self._seen: defaultdict[int, _Seen] = defaultdict(_Seen)

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        found = list(super().get_all_trials(study_id, deepcopy=False))
        for number, shown in self._seen[study_id].update(found, self._check).items():
            found[number] = shown
        if states is not None:
            found = [trial for trial in found if trial.state in states]
        return copy.deepcopy(found) if deepcopy else found

    def whole_trials(self, study_id: int) -> list[FrozenTrial]:
        """Return all trials unchanged, for what may learn from epochs that audits paid for."""
        return super().get_all_trials(study_id, deepcopy=False)


def whole_trials(study: Study) -> Sequence[FrozenTrial]:
    """Return the trials of a study as they are, also if it lists them through a `PrunedView`."""
    storage = study._storage
    if isinstance(storage, PrunedView):
        return storage.whole_trials(study._study_id)
    return study.get_trials(deepcopy=False)


@dataclass
class _Seen:
    """The trials of one study that were listed before."""

    count: int = 0
    unfinished: list[int] = field(default_factory=list)
    replaced: dict[int, FrozenTrial] = field(default_factory=dict)

    def update(
        self, trials: Sequence[FrozenTrial], check: Callable[[FrozenTrial], None] | None
    ) -> dict[int, FrozenTrial]:
        """Return the trials to show instead of others, by number."""
        unseen = [*self.unfinished, *range(self.count, len(trials))]
        self.count = len(trials)
        self.unfinished = [number for number in unseen if not trials[number].state.is_finished()]
        for number in unseen:
            if check is not None and trials[number].state.is_finished():
                check(trials[number])
            if RACED_TRIAL in trials[number].user_attrs:
                self.replaced[number] = _as_failed(trials[number])
            elif WOULD_PRUNE in trials[number].user_attrs:
                self.replaced[number] = _as_pruned(trials[number])
            elif trials[number].user_attrs.get(STOPPED_AFTER) in trials[number].intermediate_values:
                self.replaced[number] = _with_last_value(trials[number])
        return self.replaced


def _as_pruned(trial: FrozenTrial) -> FrozenTrial:
    """Return a copy of a trial without what came after the pruner would have stopped it."""
    last = trial.user_attrs[WOULD_PRUNE]
    pruned = copy.copy(trial)
    pruned.intermediate_values = {
        epoch: value for epoch, value in trial.intermediate_values.items() if epoch <= last
    }
    # A trial that still runs may yet be replaced by its retry: what is pruned stays pruned.
    if trial.state.is_finished() and not is_superseded(trial):
        pruned.state = TrialState.PRUNED
        pruned.value = pruned.intermediate_values[last]
    return pruned


def _as_failed(trial: FrozenTrial) -> FrozenTrial:
    """Return a copy of a trial that has failed before its first epoch."""
    failed = copy.copy(trial)
    failed.state, failed.values, failed.intermediate_values = TrialState.FAIL, None, {}
    return failed


def _with_last_value(trial: FrozenTrial) -> FrozenTrial:
    shown = copy.copy(trial)
    shown.intermediate_values = _Reports(trial.intermediate_values)
    return shown


class _Reports(dict[int, float]):
    """The reports of a trial that stopped: those of later epochs repeat the last one.

    They are not stored: a horizon may be a million epochs.
    """

    def __missing__(self, epoch: int) -> float:
        last = max(self)
        if epoch < last:
            raise KeyError(epoch)
        return self[last]

    def __contains__(self, epoch: object) -> bool:
        return super().__contains__(epoch) or (isinstance(epoch, int) and epoch > max(self))
