"""The constant share: the trials, evenly spread over a study, that try constants only."""

from __future__ import annotations

import math

from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from schedsearch.plan import Plan
from schedsearch.samplers.delegating import DelegatingSampler
from schedsearch.space import Space
from schedsearch.storage.attributes import SAMPLE_INDEX


def in_share(index: int, share: float) -> bool:
    """Return whether an index belongs to a share of all indices, spread evenly.

    >>> [index for index in range(20) if in_share(index, 0.15)]
    [6, 13, 19]
    """
    return math.floor((index + 1) * share) > math.floor(index * share)


def is_exempt_from_pruning(space: Space, sample_index: int, plan: Plan) -> bool:
    """Return whether a sampled trial is a constant that schedules are compared with.

    These are the trials of the constant share. A grid has no such share: there, they are all
    constants of the grid.
    """
    options = space.search.sampler
    if options.name == "grid":
        return space.is_constant_plan(plan.to_tables())
    return in_share(sample_index, options.constants)


def is_audited(space: Space, sample_index: int) -> bool:
    """Return whether a sampled trial is audited: a share of the trials outside the constant share.

    Audited trials are trained in full, to measure what the pruner misses.
    """
    sampler, pruner = space.search.sampler, space.search.pruner
    constants = 0 if sampler.name == "grid" else math.floor(sample_index * sampler.constants)
    return pruner.name != "none" and in_share(sample_index - constants, pruner.audit)


class ConstantShareSampler(DelegatingSampler):
    """Samples the constant share with a separate sampler.

    A learning rate that suits schedules need not suit constants, so a sampler for the constants
    learns from constants alone.

    Args:
        schedules: samples all other trials.
        constants: samples the trials of the constant share.
        share: the share of sampled trials, in [0, 1].
    """

    def __init__(self, schedules: BaseSampler, constants: BaseSampler, share: float) -> None:
        super().__init__(schedules, constants)
        self._share = share

    def _sampler_of(self, trial: FrozenTrial) -> BaseSampler:
        schedules, constants = self._samplers
        sample_index = trial.user_attrs.get(SAMPLE_INDEX)
        is_constant = sample_index is not None and in_share(sample_index, self._share)
        return constants if is_constant else schedules
