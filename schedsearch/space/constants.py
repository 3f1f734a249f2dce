"""Whether the constants of a space are a fair rival to its schedules."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from schedsearch.plan import Plan
from schedsearch.schedules import Constant, Feedback
from schedsearch.space.sharing import drawn_plans
from schedsearch.space.space import Space
from schedsearch.space.synthetic_feedback import synthetic_feedback
from schedsearch.space.templates import Fixed, Levels, Range, Several, Template

#: With fewer different values, a schedule may win because it passes between two of them.
_FEWEST_VALUES = 10
#: Plans that are drawn, and the epochs for which each is followed at most.
_DRAWN, _FOLLOWED = 60, 1000
#: If more of the drawn schedules have their mean beyond the constants, that is said.
_BEYOND = 0.2


def coarse_constants(space: Space) -> list[str]:
    """Return a line for each hyperparameter whose constants a schedule could beat too easily.

    Where only the mean of a schedule matters, the constant at that mean does as well. So the
    constants should be many, and reach as far as the means of the schedules over the run:
    schedules that follow the training follow a made-up one.
    """
    found: list[str] = []
    means: dict[str, list[float]] | None = None
    for name, template in _against_schedules(space):
        if (count := template.size()) < _FEWEST_VALUES:
            values = "one value" if count == 1 else f"{count:.0f} values"
            found.append(
                f"{name}: its constants have {values} only, and a schedule may win by one that no "
                "constant has: give them a range"
            )
            continue
        means = means if means is not None else _means(space)
        found.extend(_too_narrow(name, template, means.get(name, [])))
    return found


def _against_schedules(space: Space) -> Iterator[tuple[str, Template]]:
    """Yield the hyperparameters that a schedule may move, with what their constants may be."""
    for name, families in space.searched().items():
        constant = families.options.get("constant")
        if constant is None or len(families.options) == 1:
            continue
        value = constant.of["value"]
        group = space.document.groups.get(name)
        if group is None:
            yield name, value
        elif isinstance(value, Several):
            yield from zip(group.members, value.items, strict=True)


def _too_narrow(name: str, template: Template, means: Sequence[float]) -> Iterator[str]:
    low, high = _ends(template)
    beyond = [mean for mean in means if not low <= mean <= high]
    if len(beyond) > _BEYOND * len(means):
        yield (
            f"{name}: its constants go from {low:.4g} to {high:.4g}, but the means of its "
            f"schedules over the run from {min(means):.3g} to {max(means):.3g}, "
            f"{100 * len(beyond) / len(means):.0f} % of them beyond: a schedule may win for want "
            "of such a constant"
        )


def _ends(template: Template) -> tuple[float, float]:
    match template:
        case Range(low, high):
            return low, high
        case Levels(values):
            return min(values), max(values)
        case Fixed(value):
            return value, value
    raise TypeError(f"no constant is drawn from {template}")


def _means(space: Space) -> dict[str, list[float]]:
    """Return the mean over the run of every drawn schedule that is no constant, by what it moves.

    A shorter run is followed whole, a longer one in its opening.
    """
    feedback = synthetic_feedback(space, 0)[:_FOLLOWED]
    means: dict[str, list[float]] = {}
    for plan in drawn_plans(space, _DRAWN, 0):
        values = _values(plan, feedback)
        for names, schedule in plan.schedules.items():
            for name in () if isinstance(schedule, Constant) else names:
                means.setdefault(name, []).append(statistics.fmean(v[name] for v in values))
    return means


def _values(plan: Plan, feedback: Sequence[Feedback]) -> list[dict[str, float]]:
    state, values = plan.start(), []
    for epoch in feedback:
        values.append(dict(plan.values(state)))
        state = plan.update(state, epoch)
    return values
