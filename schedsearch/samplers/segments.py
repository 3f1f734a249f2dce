"""Spaces whose hyperparameters all move in the same segments, and the plans of such a space."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution

from schedsearch.errors import InputError
from schedsearch.samplers.joint import DistributionCollector
from schedsearch.schedules.parameters import to_epochs
from schedsearch.schedules.piecewise import Piecewise
from schedsearch.space import Space
from schedsearch.space.templates import Families, Fixed, Levels, Several, Template

#: A plan: for each segment the value of each hyperparameter.
Course = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Segments:
    """The parameters of a space's piecewise plans.

    Attributes:
        names: for each segment the parameter of each hyperparameter.
        constants: the parameters of the constants; none where these have other ranges.
        distributions: of each hyperparameter's values.
        branches: the epochs trained before a segment begins, for each but the first.
    """

    names: tuple[tuple[str, ...], ...]
    constants: tuple[str, ...]
    distributions: tuple[BaseDistribution, ...]
    branches: Mapping[int, int]

    def course(self, parameters: Mapping[str, Any]) -> Course | None:
        """Return the plan with these parameters; None if it is of another kind."""
        if self.constants and all(name in parameters for name in self.constants):
            return (tuple(parameters[name] for name in self.constants),) * len(self.names)
        if all(name in parameters for names in self.names for name in names):
            return tuple(tuple(parameters[name] for name in names) for names in self.names)
        return None


def segments_of(space: Space) -> Segments:
    """Return the parameters of a space whose hyperparameters all move in the same segments.

    Raises:
        InputError: a hyperparameter has another family beside `constant`, other segments than the
            first, or a range of its own for some segment.
    """
    searched = space.searched()
    for name, families in searched.items():
        if problem := _problem(families, next(iter(searched.values())), space.horizon):
            raise InputError(
                "the sampler pbt needs the families constant and piecewise for each searched "
                "hyperparameter, with one range for all segments, and the same segments for all, "
                f"but {name} {problem}: change it, or use tpe, random or grid"
            )
    if not searched:
        raise InputError("the sampler pbt needs something to search, but all is given")
    values = {name: _values(families)[0] for name, families in searched.items()}
    constants = {name: found.options["constant"].of["value"] for name, found in searched.items()}
    collector = DistributionCollector({})
    for name, template in values.items():
        template.draw(collector, name)
    count, duration = _layout(next(iter(searched.values())), space.horizon)
    return Segments(
        names=tuple(
            tuple(_parameter(f"{name}.piecewise.values.{s}", values[name]) for name in searched)
            for s in range(count)
        ),
        constants=tuple(_parameter(f"{name}.constant.value", values[name]) for name in searched)
        if constants == values
        else (),
        distributions=tuple(collector.distributions.values()),
        branches=_branches(count, duration, space.horizon),
    )


def _problem(families: Families, first: Families, horizon: int) -> str | None:
    """Say what keeps a hyperparameter's families from moving in the segments of the first one."""
    if set(families.options) != {"constant", "piecewise"}:
        return "has " + ", ".join(families.options)
    values = _values(families)
    if len(set(values)) > 1 or isinstance(values[0], Fixed):
        return "draws its segments otherwise"
    if not isinstance(_duration(families), Fixed):
        return "draws its duration"
    count, duration = _layout(families, horizon)
    if not _branches(count, duration, horizon):
        return "begins no second segment before the horizon"
    if (count, duration) != _layout(first, horizon):
        return f"has {count} segments in {duration} epochs"
    return None


def _values(families: Families) -> Sequence[Template]:
    values = families.options["piecewise"].of["values"]
    assert isinstance(values, Several)
    return values.items


def _duration(families: Families) -> Template:
    return families.options["piecewise"].of.get("duration", Fixed(Piecewise.duration))


def _layout(families: Families, horizon: int) -> tuple[int, int]:
    """Return the number of segments, and the epochs of all of them."""
    duration = _duration(families)
    assert isinstance(duration, Fixed)
    return len(_values(families)), to_epochs(duration.value, horizon)


def _branches(count: int, duration: int, horizon: int) -> dict[int, int]:
    starts = {s: math.ceil(s * duration / count) for s in range(1, count)}
    return {s: epoch for s, epoch in starts.items() if epoch < horizon}


def _parameter(name: str, template: Template) -> str:
    return f"{name}.level" if isinstance(template, Levels) else name
