"""An estimate of how many epochs of a search are shared prefixes, which need no training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from schedsearch.argument_values import ArgumentKey, argument_key
from schedsearch.epoch_values import EpochValues, StepValues, values_within_epoch
from schedsearch.errors import InputError
from schedsearch.plan import Plan, PlanState
from schedsearch.schedules.durations import epochs
from schedsearch.schedules.piecewise import Piecewise, segment_epochs
from schedsearch.space.space import Space
from schedsearch.space.suggesters import RandomSuggester
from schedsearch.space.synthetic_feedback import synthetic_feedback

#: Samples per wanted plan, since some samples break a rule between their parameters.
_MAX_ATTEMPTS = 10
#: Epochs that are evaluated. Plans with the same values until then count as equal.
_MAX_EPOCHS = 1000

_PlanInProgress = tuple[Plan, PlanState]


@dataclass(frozen=True)
class PrefixSharing:
    """How much plans sampled from a space have in common.

    Attributes:
        reuse: the share of all epochs that another plan has trained already, in [0, 1].
        branch_epochs: the numbers of epochs after which plans with a common prefix diverge, or
            could diverge.
        never_shared: the hyperparameters whose values differ in most plans from the first epoch.
    """

    reuse: float
    branch_epochs: frozenset[int]
    never_shared: tuple[str, ...]


def estimate_prefix_sharing(space: Space, trials: int, seed: int) -> PrefixSharing:
    """Sample `trials` plans, evaluate each over the full horizon, and count common prefixes.

    reuse = 1 - (distinct prefixes of values) / (trials * horizon)

    Closed-loop schedules are evaluated on one synthetic training curve. A search that prunes, or
    that samples near its best trials, reuses more. For population-based training, which copies
    prefixes, the expected share of copied epochs is a lower limit.

    Raises:
        InputError: no sampled plan keeps the rules between its parameters.
    """
    plans = list(random_plans(space, trials, seed))
    if not plans:
        raise InputError(
            f"{space.name}: every sampled plan breaks a rule between its parameters: "
            "narrow the ranges"
        )
    branch_epochs = {epoch for plan in plans for epoch in segment_starts(plan, space.horizon)}
    first = [values_within_epoch(EpochValues(plan, plan.start())) for plan in plans]
    # Groups of plans with the same prefix. A plan alone in its group shares nothing from there on.
    # Plans with other arguments have no common prefix.
    by_arguments: dict[ArgumentKey, list[_PlanInProgress]] = {}
    for plan in plans:
        key = argument_key(plan.arguments)
        by_arguments.setdefault(key, []).append((plan, plan.start()))
    groups, trained = list(by_arguments.values()), 0
    for epoch, feedback in enumerate(synthetic_feedback(space, seed)[:_MAX_EPOCHS]):
        split = [part for group in groups for part in _split_by_values(group)]
        if epoch and len(split) > len(groups):
            branch_epochs.add(epoch)
        trained += len(split) + sum(space.horizon - epoch - 1 for part in split if len(part) == 1)
        groups = [
            [(plan, plan.update(state, feedback)) for plan, state in part]
            for part in split
            if len(part) > 1
        ]
    trained += len(groups) * (space.horizon - min(space.horizon, _MAX_EPOCHS))
    reuse = 1 - trained / (len(plans) * space.horizon)
    if space.search.sampler.name == "pbt":
        reuse = max(reuse, _copied_share(space, trials, branch_epochs))
    never_shared = (
        name
        for name in plans[0].names
        if 1 < len({values[name] for values in first}) > len(plans) / 2
    )
    return PrefixSharing(reuse, frozenset(branch_epochs), tuple(never_shared))


def _split_by_values(group: list[_PlanInProgress]) -> Iterable[list[_PlanInProgress]]:
    """Split plans by their values in the current epoch."""
    parts: dict[tuple[StepValues, ...], list[_PlanInProgress]] = {}
    for plan, state in group:
        values = tuple(values_within_epoch(EpochValues(plan, state)).values())
        parts.setdefault(values, []).append((plan, state))
    return parts.values()


def _copied_share(space: Space, trials: int, branch_epochs: set[int]) -> float:
    """Return the expected share of copied epochs if every branch epoch is equally likely."""
    options = space.search.sampler
    proposed = max(0.0, 1 - options.population / trials) * (1 - options.constants)
    return proposed * sum(branch_epochs) / (max(1, len(branch_epochs)) * space.horizon)


def segment_starts(plan: Plan, horizon: int) -> Iterator[int]:
    """Yield the epochs at which a segment of a resolved plan begins, even with an equal value."""
    for schedule in plan.schedules.values():
        if isinstance(schedule, Piecewise):
            starts = segment_epochs(len(schedule.values), epochs(schedule.duration))
            yield from (epoch for epoch in dict.fromkeys(starts) if 0 < epoch < horizon)


def random_plans(space: Space, count: int, seed: int) -> Iterator[Plan]:
    """Yield `count` random resolved plans, or fewer if most samples break a rule."""
    found = 0
    for attempt in range(count * _MAX_ATTEMPTS):
        if found == count:
            return
        try:
            plan = space.suggest(RandomSuggester(f"{seed} {attempt}"))
            yield plan.resolve(space.horizon, space.search.seed)
            found += 1
        except InputError:
            continue
