"""What the plans of a space have in common: how much of a search need not be trained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from schedsearch.errors import InputError
from schedsearch.plan import Plan, PlanState
from schedsearch.schedules.parameters import epochs
from schedsearch.schedules.piecewise import Piecewise
from schedsearch.space.choosers import RandomChooser
from schedsearch.space.space import Space
from schedsearch.space.synthetic_feedback import synthetic_feedback

#: How often as many plans as are wanted are drawn, since some break a rule of their parameters.
_TRIES = 10
#: Epochs for which plans are followed. Those that are one until then are taken to stay one.
_FOLLOWED = 1000

_Going = tuple[Plan, PlanState]


@dataclass(frozen=True)
class Sharing:
    """What plans drawn from a space have in common.

    Attributes:
        reuse: the share of all epochs that another plan has trained already, in [0, 1].
        branches: after how many epochs plans part that were one until then, or could part.
        alone: the hyperparameters whose values tell apart most plans in their first epoch.
    """

    reuse: float
    branches: frozenset[int]
    alone: tuple[str, ...]


def expected_reuse(space: Space, trials: int, seed: int) -> float:
    """Return the share of epochs that a search of so many trials would not need to train.

    See `expected_sharing`.
    """
    return expected_sharing(space, trials, seed).reuse


def expected_sharing(space: Space, trials: int, seed: int) -> Sharing:
    """Draw so many plans at random, run each in full, and see what they have in common.

    reuse = 1 - (distinct prefixes of values in force) / (trials * horizon)

    Schedules that follow the training follow a made-up one, the same for all plans, as if all met
    the same metrics. A search that prunes, or that looks where it found something good, shares
    more; of population-based training, which copies on purpose, the share that it copies counts.

    Raises:
        InputError: no drawn plan keeps the rules between its parameters.
    """
    plans = list(drawn_plans(space, trials, seed))
    if not plans:
        raise InputError(f"{space.name}: no drawn plan keeps the rules between its parameters")
    branches = {epoch for plan in plans for epoch in boundaries(plan, space.horizon)}
    first = [plan.values(plan.start()) for plan in plans]
    # Plans that are one so far, with their states. One that goes alone shares nothing from there.
    together, trained = [[(plan, plan.start()) for plan in plans]], 0
    for epoch, given in enumerate(synthetic_feedback(space, seed)[:_FOLLOWED]):
        parts = [part for group in together for part in _parted(group)]
        if epoch and len(parts) > len(together):
            branches.add(epoch)
        trained += len(parts) + sum(space.horizon - epoch - 1 for part in parts if len(part) == 1)
        together = [
            [(plan, plan.update(state, given)) for plan, state in part]
            for part in parts
            if len(part) > 1
        ]
    trained += len(together) * (space.horizon - min(space.horizon, _FOLLOWED))
    reuse = 1 - trained / (len(plans) * space.horizon)
    if space.search.sampler.name == "pbt":
        reuse = max(reuse, _copied(space, trials, branches))
    alone = (
        name
        for name in plans[0].names
        if 1 < len({values[name] for values in first}) > len(plans) / 2
    )
    return Sharing(reuse, frozenset(branches), tuple(alone))


def _parted(group: list[_Going]) -> Iterable[list[_Going]]:
    """Return the plans of a group by the values that are now in force."""
    parts: dict[tuple[float, ...], list[_Going]] = {}
    for plan, state in group:
        parts.setdefault(tuple(plan.values(state).values()), []).append((plan, state))
    return parts.values()


def _copied(space: Space, trials: int, branches: set[int]) -> float:
    """Return the share of epochs that plans copy which branch off anywhere alike, unpruned."""
    options = space.search.sampler
    proposed = max(0.0, 1 - options.population / trials) * (1 - options.constants)
    return proposed * sum(branches) / (max(1, len(branches)) * space.horizon)


def boundaries(plan: Plan, horizon: int) -> Iterator[int]:
    """Yield after how many epochs a resolved plan may go on otherwise: where a segment begins.

    Its own value may well be the same in both segments.
    """
    for schedule in plan.schedules.values():
        if isinstance(schedule, Piecewise):
            duration, count = epochs(schedule.duration), len(schedule.values)
            for epoch in range(1, min(duration, horizon)):
                if epoch * count // duration != (epoch - 1) * count // duration:
                    yield epoch


def drawn_plans(space: Space, count: int, seed: int) -> Iterator[Plan]:
    """Yield so many resolved plans, fewer where the rules between parameters refuse most."""
    found = 0
    for attempt in range(count * _TRIES):
        if found == count:
            return
        try:
            plan = space.suggest(RandomChooser(f"{seed} {attempt}"))
            yield plan.resolve(space.horizon, space.search.seed)
            found += 1
        except InputError:
            continue
