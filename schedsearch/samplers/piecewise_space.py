"""Spaces in which all hyperparameters are piecewise constant over the same segments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution

from schedsearch.errors import InputError
from schedsearch.samplers.distributions import DistributionCollector
from schedsearch.schedules.durations import to_time
from schedsearch.schedules.piecewise import Piecewise, segment_epochs
from schedsearch.space import Space
from schedsearch.space.domains import Domain, Families, Fixed, Levels, ListDomain

#: A plan: for each segment, the value of each hyperparameter.
SegmentValues = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class PiecewiseSpace:
    """The Optuna parameters of a space's piecewise plans.

    Attributes:
        names: for each segment, the parameter of each hyperparameter.
        constants: the parameters of the constants; empty if these have other ranges.
        distributions: the distribution of each hyperparameter's values.
        branch_epochs: the epoch in which each segment but the first begins, by segment. Plans that
            agree before a segment have the same values until the beginning of this epoch.
    """

    names: tuple[tuple[str, ...], ...]
    constants: tuple[str, ...]
    distributions: tuple[BaseDistribution, ...]
    branch_epochs: Mapping[int, int]

    def segment_values(self, parameters: Mapping[str, Any]) -> SegmentValues | None:
        """Return the plan with these parameters; None if it has other families."""
        if self.constants and all(name in parameters for name in self.constants):
            return (tuple(parameters[name] for name in self.constants),) * len(self.names)
        if all(name in parameters for names in self.names for name in names):
            return tuple(tuple(parameters[name] for name in names) for names in self.names)
        return None


def to_piecewise_space(space: Space) -> PiecewiseSpace:
    """Return the parameters of a space whose hyperparameters share their segments.

    Raises:
        InputError: a hyperparameter has a family besides `constant` and `piecewise`, other
            segments than the first hyperparameter, or segments with different ranges.
    """
    searched = space.searched()
    for name in searched:
        if problem := _incompatibility(space, name, next(iter(searched))):
            raise InputError(
                "the sampler pbt needs the families constant and piecewise for each searched "
                "hyperparameter, with the same segments for all and one range for all segments, "
                f"but {name} {problem}: change it, or use tpe, random or grid"
            )
    if not searched:
        raise InputError(
            f"{space.name} searches nothing, and the sampler pbt needs a hyperparameter with "
            "families constant and piecewise"
        )
    values = {name: _segment_domains(families)[0] for name, families in searched.items()}
    constants = {
        name: families.options["constant"].domains["value"] for name, families in searched.items()
    }
    collector = DistributionCollector({})
    for name, domain in values.items():
        domain.suggest(collector, name)
    layouts = [_layout(space, name) for name in searched]
    count = layouts[0][0]
    # Of equal durations, those by the step are floats: their segments may begin within an epoch.
    duration = next((each for _, each in layouts if isinstance(each, float)), layouts[0][1])
    return PiecewiseSpace(
        names=tuple(
            tuple(_parameter(f"{name}.piecewise.values.{s}", values[name]) for name in searched)
            for s in range(count)
        ),
        constants=tuple(_parameter(f"{name}.constant.value", values[name]) for name in searched)
        if constants == values
        else (),
        distributions=tuple(collector.distributions.values()),
        branch_epochs=_branch_epochs(count, duration, space.horizon),
    )


def _incompatibility(space: Space, name: str, first: str) -> str | None:
    """Return what differs from the segments of the first hyperparameter."""
    families = space.families[name]
    if set(families.options) != {"constant", "piecewise"}:
        return "has " + ", ".join(families.options)
    values = _segment_domains(families)
    if len(set(values)) > 1 or isinstance(values[0], Fixed):
        return "has segments with different or fixed values"
    if not isinstance(_duration(families), Fixed):
        return "searches its duration"
    count, duration = _layout(space, name)
    if not _branch_epochs(count, duration, space.horizon):
        return "has no second segment before the horizon that begins after the first epoch"
    if (count, duration) != _layout(space, first):
        return f"has {count} segments in {duration:.12g} epochs"
    return None


def _segment_domains(families: Families) -> Sequence[Domain]:
    values = families.options["piecewise"].domains["values"]
    assert isinstance(values, ListDomain)
    return values.items


def _duration(families: Families) -> Domain:
    return families.options["piecewise"].domains.get("duration", Fixed(Piecewise.duration))


def _layout(space: Space, name: str) -> tuple[int, float]:
    """Return the number of segments and the number of epochs that they divide."""
    duration = _duration(space.families[name])
    assert isinstance(duration, Fixed)
    version = space.schedule_version
    time = to_time(duration.value, space.horizon, space.interval(name), version)
    return len(_segment_domains(space.families[name])), time


def _branch_epochs(count: int, duration: float, horizon: int) -> dict[int, int]:
    starts = enumerate(segment_epochs(count, duration), start=1)
    # No plan has a result at epoch 0, so none can be copied until then.
    return {segment: epoch for segment, epoch in starts if 0 < epoch < horizon}


def _parameter(name: str, domain: Domain) -> str:
    return f"{name}.level" if isinstance(domain, Levels) else name
