"""Warnings where the constants of a space are too weak a baseline for its schedules."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from schedsearch.epoch_values import StepValues, evaluate_epochs, values_within_epoch
from schedsearch.schedules import Constant
from schedsearch.space.domains import Domain, Fixed, Levels, ListDomain, Range
from schedsearch.space.prefix_sharing import random_plans
from schedsearch.space.space import Space
from schedsearch.space.synthetic_feedback import synthetic_feedback

#: With fewer values, a schedule may win only because the best constant lies between two of them.
_MIN_VALUES = 10
#: With fewer constants tried per searched hyperparameter, the best of them is a weak baseline.
_FEWEST_TRIED = 10
#: Random plans that are compared with the constants, and how many epochs of each.
_SAMPLES, _MAX_EPOCHS = 60, 1000
#: The share of schedules with a mean outside the constants from which there is a warning.
_MAX_OUTSIDE = 0.2


def enough_constants(space: Space) -> int:
    """Return how many constants a search has to try for a strong baseline."""
    return _FEWEST_TRIED * len(space.choices)


def constant_coverage_warnings(space: Space) -> list[str]:
    """Return a warning for each hyperparameter whose constants a schedule could beat too easily.

    Where only the mean of a schedule over the run matters, a constant at that mean is as good. So
    the constants should have many values, and cover the means of the schedules. Closed-loop
    schedules are evaluated on a synthetic training curve.
    """
    warnings: list[str] = []
    means: dict[str, list[float]] | None = None
    for name, constants in _compared_constants(space):
        if (count := constants.size()) < _MIN_VALUES:
            values = "one value" if count == 1 else f"{count:.0f} values"
            warnings.append(
                f"{name}: `constant` has only {values}, so a schedule may win by a value that no "
                "constant has: give it a range"
            )
            continue
        means = means if means is not None else _mean_values(space)
        warnings.extend(_narrow_range(name, constants, means.get(name, [])))
    return warnings


def _compared_constants(space: Space) -> Iterator[tuple[str, Domain]]:
    """Yield the hyperparameters that have schedules, with the domain of their constants."""
    for name, families in space.searched().items():
        constant = families.options.get("constant")
        if constant is None or len(families.options) == 1:
            continue
        value = constant.domains["value"]
        group = space.document.groups.get(name)
        if group is None:
            yield name, value
        elif isinstance(value, ListDomain):
            yield from zip(group.members, value.items, strict=True)


def _narrow_range(name: str, constants: Domain, means: Sequence[float]) -> Iterator[str]:
    low, high = _ends(constants)
    outside = [mean for mean in means if not low <= mean <= high]
    if len(outside) > _MAX_OUTSIDE * len(means):
        yield (
            f"{name}: `constant` ranges from {low:.4g} to {high:.4g}, but the means of its "
            f"schedules from {min(means):.3g} to {max(means):.3g}, "
            f"{100 * len(outside) / len(means):.0f} % of them outside: widen the range, or a "
            "schedule may win by a value that no constant has"
        )


def _ends(domain: Domain) -> tuple[float, float]:
    match domain:
        case Range(low, high):
            return low, high
        case Levels(values):
            return min(values), max(values)
        case Fixed(value):
            return value, value
    raise TypeError(f"{domain} is not a domain of constants")


def _mean_values(space: Space) -> dict[str, list[float]]:
    """Return the means of random schedules over the run, by hyperparameter.

    Of a long run, only the first epochs are evaluated.
    """
    feedback = synthetic_feedback(space, 0)[:_MAX_EPOCHS]
    means: dict[str, list[float]] = {}
    for plan in random_plans(space, _SAMPLES, 0):
        values = [values_within_epoch(epoch) for epoch in evaluate_epochs(plan, feedback)]
        for names, schedule in plan.schedules.items():
            for name in () if isinstance(schedule, Constant) else names:
                means.setdefault(name, []).append(statistics.fmean(_mean(v[name]) for v in values))
    return means


def _mean(values: StepValues) -> float:
    return statistics.fmean(values) if isinstance(values, tuple) else values
