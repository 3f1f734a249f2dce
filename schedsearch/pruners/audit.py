"""The audit of a pruner: a share of the trials goes on to the end, whatever it says of them.

A rule that looks at early epochs may end what learns slowly and gets far. What it ended nobody can
know, unless some of it is trained nevertheless. An audited trial is asked about like any other
until the pruner first says that it ends; it goes on with that verdict written down. From then on it
is for pruners and samplers what it would have been: one that was ended at that epoch. So the audit
shows a search, and does not change it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from optuna.pruners import BasePruner
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from schedsearch.pruners.exempt import is_exempt
from schedsearch.schedules.parameters import to_epochs
from schedsearch.space import Objective, Space
from schedsearch.storage import AUDITED, WOULD_PRUNE


@dataclass(frozen=True)
class PruneDecision:
    """What becomes of a trial that has reported: does it end here, or would it have?"""

    ends: bool
    would_prune: bool = False


_GOES_ON = PruneDecision(ends=False)


def decide(pruner: BasePruner, space: Space, study: Study, trial: FrozenTrial) -> PruneDecision:
    """Ask a pruner about a trial, unless it is exempt, still protected, or condemned already."""
    protected = to_epochs(space.search.pruner.protected, space.horizon)
    if is_exempt(trial) or WOULD_PRUNE in trial.user_attrs or (trial.last_step or 0) < protected:
        return _GOES_ON
    if not pruner.prune(study, trial):
        return _GOES_ON
    audited = AUDITED in trial.user_attrs
    return PruneDecision(ends=not audited, would_prune=audited)


# --- what it shows -------------------------------------------------------------------------------


@dataclass(frozen=True)
class WouldPrune:
    """A complete trial that the pruner would have ended.

    Attributes:
        epoch: after which the pruner would have ended it.
        value: what it came to.
        best_survivor: the best value, when it ended, of the trials that the pruner had let through.
        is_better: whether it came to more than that.
    """

    number: int
    epoch: int
    value: float
    best_survivor: float | None
    is_better: bool


@dataclass(frozen=True)
class Audit:
    """What the audited trials say of a pruner: how many are complete, and who was condemned.

    One that failed or diverged was not trained to the end, and says nothing.
    """

    ended: int
    would_prune: tuple[WouldPrune, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as the part of a document."""
        return {
            "ended": self.ended,
            "would_have_been_pruned": len(self.would_prune),
            "better_than_best_survivor": sum(one.is_better for one in self.would_prune),
            "trials": [asdict(one) for one in self.would_prune],
        }


def audit_of(trials: Sequence[FrozenTrial], objective: Objective) -> Audit | None:
    """Return what the audited trials of a study say; None if none is complete."""
    complete = [t for t in trials if t.state is TrialState.COMPLETE]
    ended = [t for t in complete if AUDITED in t.user_attrs]
    if not ended:
        return None
    survivors = [
        trial for trial in complete if not is_exempt(trial) and WOULD_PRUNE not in trial.user_attrs
    ]
    would_prune = (trial for trial in ended if WOULD_PRUNE in trial.user_attrs)
    return Audit(
        len(ended), tuple(_would_prune(trial, survivors, objective) for trial in would_prune)
    )


def _would_prune(
    trial: FrozenTrial, survivors: Iterable[FrozenTrial], objective: Objective
) -> WouldPrune:
    lower, moment = objective.lower_is_better, trial.datetime_complete
    before = [
        survivor.value
        for survivor in survivors
        if survivor.value is not None
        and survivor.datetime_complete is not None
        and moment is not None
        and survivor.datetime_complete <= moment
    ]
    assert trial.value is not None
    best = min(before, key=lower, default=None)
    return WouldPrune(
        number=trial.number,
        epoch=trial.user_attrs[WOULD_PRUNE],
        value=trial.value,
        best_survivor=best,
        is_better=best is not None and lower(trial.value) < lower(best),
    )
