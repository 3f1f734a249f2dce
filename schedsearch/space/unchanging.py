"""Warnings where the schedules of a family do not change within the horizon: they are constants."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from schedsearch.epoch_values import evaluate_epochs, values_within_epoch
from schedsearch.errors import InputError
from schedsearch.plan import Plan
from schedsearch.schedules import Feedback, Interval, from_table
from schedsearch.space.domains import FamilyParameters
from schedsearch.space.space import Space
from schedsearch.space.suggesters import RandomSuggester
from schedsearch.space.synthetic_feedback import synthetic_feedback

#: Samples of each family, and the share of them that may be constants without a warning.
_SAMPLES, _MAX_CONSTANT = 60, 0.5
#: Epochs that are evaluated.
_MAX_EPOCHS = 1000


def unchanging_warnings(space: Space) -> Iterator[str]:
    """Yield a warning for each family of which most samples repeat a constant.

    Closed-loop schedules are evaluated on the synthetic training curve, on a metric that improves
    in every epoch, and on one that never does. Groups and schedules that follow other
    hyperparameters are left out.
    """
    if space.is_config:
        return
    curves = _curves(space)
    for name, families in space.hyperparameters.items():
        interval = space.interval(name)
        for family, option in families.options.items():
            if family == "constant":
                continue
            plans = list(_samples(space, name, option, family, interval))
            if _mostly_constant(plans, curves):
                horizon = "1 epoch" if space.horizon == 1 else f"{space.horizon} epochs"
                by_step = list(_samples(space, name, option, family, "step"))
                remedy = f"within the horizon of {horizon}, and such trials repeat a constant: set "
                if not _mostly_constant([replace(plan, bounds={}) for plan in plans], curves):
                    remedy = "at the bounds, and such trials repeat a constant: change the values"
                elif _mostly_constant(by_step, curves):
                    remedy += "shorter durations, or a longer horizon"
                else:
                    remedy += 'interval = "step", or a longer horizon'
                yield f"{name}.{family}: most random samples keep one value {remedy}"


def _samples(
    space: Space, name: str, option: FamilyParameters, family: str, interval: Interval
) -> Iterator[Plan]:
    """Yield resolved plans of a hyperparameter; none if it follows another hyperparameter."""
    table = space.document.hyperparameters[name]
    bounds = {name: table.bounds} if table.bounds else {}
    whole = frozenset({name} if table.round else ())
    for seed in range(_SAMPLES):
        try:
            parameters = option.suggest(RandomSuggester(seed), name)
            schedule = from_table({family: parameters}, version=space.schedule_version)
            if schedule.dependencies:
                return
            plan = Plan({(name,): schedule}, bounds, {name: interval}, whole)
            yield plan.resolve(space.horizon, seed)
        except InputError:
            continue


def _mostly_constant(plans: Sequence[Plan], curves: Sequence[Sequence[Feedback]]) -> bool:
    constants = sum(not _changes(plan, curves) for plan in plans)
    return constants > _MAX_CONSTANT * len(plans)


def _curves(space: Space) -> Sequence[Sequence[Feedback]]:
    synthetic = synthetic_feedback(space, 0)[:_MAX_EPOCHS]
    improving = [
        Feedback(-float(epoch), each.metrics, each.terms) for epoch, each in enumerate(synthetic)
    ]
    return synthetic, improving, [Feedback(1.0, each.metrics, each.terms) for each in synthetic]


def _changes(plan: Plan, curves: Sequence[Sequence[Feedback]]) -> bool:
    """Return whether a plan changes on any of the curves."""
    for feedback in curves:
        first = None
        for values in evaluate_epochs(plan, feedback):
            [value] = values_within_epoch(values).values()
            if isinstance(value, tuple) or (first is not None and value != first):
                return True
            first = value
    return False
