"""The durations in a space: what each may come to in epochs, also within combinators."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

from schedsearch.schedules import FAMILIES, Interval
from schedsearch.schedules.durations import (
    CURRENT_VERSION,
    REST,
    exact_size,
    to_epochs,
    to_time,
)
from schedsearch.schedules.parameters import DURATIONS, Parameter, ParameterType, parameters_of
from schedsearch.schedules.phases import resolve_boundaries, resolve_phases
from schedsearch.space.domains import (
    Domain,
    Families,
    FamilyParameters,
    Fixed,
    Levels,
    ListDomain,
    Range,
)


@dataclass(frozen=True)
class Span:
    """The shortest and the longest that a time may be, in epochs; whole epochs are ints."""

    low: float
    high: float

    def __str__(self) -> str:
        """Return the span in words.

        >>> print(Span(1, 1), Span(2, 12), Span(0.09, 0.6), sep=", ")
        1 epoch, 2 to 12 epochs, 0.09 to 0.6 epochs
        """
        low, high = f"{self.low:.4g}", f"{self.high:.4g}"
        if low == high:
            return f"{high} epoch" if self.high == 1 else f"{high} epochs"
        return f"{low} to {high} epochs"


@dataclass(frozen=True)
class DurationSetting:
    """A duration that a family has, given in the file or by default.

    Attributes:
        key: of the parameter, from the family on: `warmup.inner.linear.duration`.
        domain: its values in the file.
        is_given: whether the file has it.
        is_count: whether it counts epochs, and is whole at every interval.
        horizon: of which shares are taken: within a combinator, the epochs that it leaves.
        epochs: what it may come to.
        is_inner: whether a combinator contains the family.
    """

    key: str
    domain: Domain
    is_given: bool
    is_count: bool
    horizon: Span
    epochs: Span
    is_inner: bool


@dataclass(frozen=True)
class PhaseLengths:
    """The lengths of phases that follow each other: once all the shortest, once all the longest.

    Attributes:
        key: of the family: `warmup.inner.one_cycle`.
        family: whose phases they are.
        lengths: in epochs, not rounded; of each horizon the shortest and the longest. "rest" has 0.
        horizons: that of each of them.
    """

    key: str
    family: str
    lengths: tuple[tuple[float, ...], ...]
    horizons: tuple[float, ...]


@dataclass(frozen=True)
class Beginning:
    """When an inner schedule begins that follows a ramp or another schedule.

    Attributes:
        key: of the inner schedule: `warmup.inner`, `join.schedules.1`.
        time: in epochs.
        horizon: of the combinator.
    """

    key: str
    time: Span
    horizon: Span


def phase_lengths(families: Families, horizon: int, interval: Interval) -> Iterator[PhaseLengths]:
    """Yield the lengths of the phases of all families, and of the families within them."""
    walk = _Walk(interval, CURRENT_VERSION)
    for key, family, option, at in walk.families(families, "", Span(horizon, horizon)):
        if lengths := walk.phase_lengths(key, family, option, at):
            yield lengths


def beginnings(
    families: Families, horizon: int, interval: Interval, version: int
) -> Iterator[Beginning]:
    """Yield when each inner schedule begins that does not begin with the training."""
    walk = _Walk(interval, version)
    for key, family, option, at in walk.families(families, "", Span(horizon, horizon)):
        yield from walk.beginnings(key, family, option, at)


def duration_settings(
    families: Families, horizon: int, interval: Interval, version: int
) -> Iterator[DurationSetting]:
    """Yield the durations of all families, and of the families within them.

    Args:
        families: of one hyperparameter or group.
        horizon: in epochs.
        interval: when the hyperparameter changes.
        version: of the rules that convert shares to epochs.
    """
    walk = _Walk(interval, version)
    for key, family, option, at in walk.families(families, "", Span(horizon, horizon)):
        yield from walk.settings(key, family, option, at)


class _Walk:
    def __init__(self, interval: Interval, version: int) -> None:
        self._interval, self._version = interval, version

    def families(
        self, families: Families, prefix: str, horizon: Span
    ) -> Iterator[tuple[str, str, FamilyParameters, Span]]:
        """Yield each family with its key, its parameters and the horizon of its shares."""
        for family, option in families.options.items():
            yield f"{prefix}{family}", family, option, horizon
            for key, inner, rest in self._inner(family, option, horizon):
                yield from self.families(inner, f"{prefix}{family}.{key}.", rest)

    def settings(
        self, key: str, family: str, option: FamilyParameters, horizon: Span
    ) -> Iterator[DurationSetting]:
        """Yield the durations of a family."""
        shared = self._horizon_of_shares(option, horizon)
        spans = {name: [span] for name, span in self._phases(family, option, shared).items()}
        if name := FAMILIES[family].beginnings:
            spans[name] = self._boundaries(name, family, option, horizon)
        for parameter in parameters_of(FAMILIES[family]):
            if parameter.type in DURATIONS:
                known = spans.get(parameter.name)
                yield from self._durations(
                    parameter, option, f"{key}.{parameter.name}", shared, known
                )

    def phase_lengths(
        self, key: str, family: str, option: FamilyParameters, horizon: Span
    ) -> PhaseLengths | None:
        """Return the lengths of the phases of a family; None if it has none."""
        ends = _ends_of_phases(family, option)
        if not ends or len(ends) < len(FAMILIES[family].phases):
            return None
        shared = self._horizon_of_shares(option, horizon)
        pairs = {(horizon.low, shared.low), (horizon.high, shared.high)}
        found = [
            (
                tuple(
                    pick(0.0 if d == REST else float(exact_size(d, of)) for d in e) for e in ends
                ),
                at,
            )
            for at, of in sorted(pairs)
            for pick in (min, max)
        ]
        lengths, horizons = zip(*found, strict=True)
        return PhaseLengths(key, family, lengths, horizons)

    def beginnings(
        self, key: str, family: str, option: FamilyParameters, horizon: Span
    ) -> Iterator[Beginning]:
        """Yield when the inner schedules of a family begin, apart from the first of a `join`."""
        if not (name := FAMILIES[family].beginnings):
            return
        for i, time in enumerate(self._boundaries(name, family, option, horizon)):
            inner = "inner" if family == "warmup" else f"schedules.{i + 1}"
            yield Beginning(f"{key}.{inner}", time, horizon)

    def _durations(
        self,
        parameter: Parameter,
        option: FamilyParameters,
        key: str,
        horizon: Span,
        spans: Sequence[Span] | None,
    ) -> Iterator[DurationSetting]:
        items = _items(parameter, option)
        for i, item in enumerate(items):
            yield DurationSetting(
                key=f"{key}.{i}" if parameter.is_list else key,
                domain=item,
                is_given=parameter.name in option.domains,
                is_count=parameter.type is ParameterType.EPOCH_COUNT,
                horizon=horizon,
                epochs=spans[i] if spans else self._span(item, parameter.type, horizon),
                is_inner=key.count(".") > 1,
            )

    def _horizon_of_shares(self, option: FamilyParameters, horizon: Span) -> Span:
        """Return the epochs that shares refer to; with `endpoint` the last one is left out."""
        if option.domains.get("endpoint") != Fixed(True):
            return horizon
        return Span(*(end - 1 if end > 1 else end for end in (horizon.low, horizon.high)))

    def _phases(self, family: str, option: FamilyParameters, horizon: Span) -> dict[str, Span]:
        """Return what the phases of a family may come to, which are rounded together.

        Each is measured where every phase has its shortest or longest duration.
        """
        cls = FAMILIES[family]
        by_name = {parameter.name: parameter for parameter in parameters_of(cls)}
        ends = _ends_of_phases(family, option)
        if not ends:
            return {}
        needed = [by_name[name].violated_constraint(0) is not None for name in cls.phases]
        with suppress(ValueError):
            found = [
                resolve_phases(corner, at, self._interval, needed=needed, version=self._version)
                for corner in product(*ends)
                for at in (horizon.low, horizon.high)
            ]
            lengths = [*zip(*found, strict=True)]
            spans = [Span(min(each), max(each)) for each in lengths]
            return dict(zip(cls.phases, spans, strict=False))
        return {}

    def _inner(
        self, family: str, option: FamilyParameters, horizon: Span
    ) -> Iterator[tuple[str, Families, Span]]:
        """Yield the inner families of a family, with the epochs of which they take shares."""
        by_name = {parameter.name: parameter for parameter in parameters_of(FAMILIES[family])}
        rest = [horizon]
        if name := FAMILIES[family].beginnings:
            ends = self._boundaries(name, family, option, horizon)
            stops = [*([Span(0, 0)] if family == "join" else []), *ends, horizon]
            rest = [self._difference(stop, start) for start, stop in pairwise(stops)]
        for parameter in by_name.values():
            if parameter.type is not ParameterType.SCHEDULE:
                continue
            for i, item in enumerate(_items(parameter, option)):
                key = f"{parameter.name}.{i}" if parameter.is_list else parameter.name
                if isinstance(item, Families):
                    yield key, item, rest[i] if i < len(rest) else horizon

    def _boundaries(
        self, name: str, family: str, option: FamilyParameters, horizon: Span
    ) -> list[Span]:
        """Return what the times at which inner schedules begin may come to.

        Args:
            name: of the parameter that has them.
            family: of the combinator.
            option: its parameters.
            horizon: in epochs.
        """
        [parameter] = [p for p in parameters_of(FAMILIES[family]) if p.name == name]
        items = _items(parameter, option)
        ends = []
        for pick, at in ((min, horizon.low), (max, horizon.high)):

            def size(value: float | str, at: float = at) -> float:
                return self._epochs(value, ParameterType.DURATION, at)

            values = [pick(_ends(item), key=size) for item in items]
            ends.append(resolve_boundaries(values, at, self._interval, self._version))
        return [Span(low, high) for low, high in zip(*ends, strict=True)]

    def _difference(self, end: Span, begin: Span) -> Span:
        """Return the epochs between two times; as `resolve` does, at least 1 whole epoch."""
        least = 1 if self._interval == "epoch" else 0
        return Span(max(least, end.low - begin.high), max(least, end.high - begin.low))

    def _span(self, domain: Domain, kind: ParameterType, horizon: Span) -> Span:
        values = _ends(domain)
        return Span(
            min((self._epochs(value, kind, horizon.low) for value in values), default=0),
            max((self._epochs(value, kind, horizon.high) for value in values), default=0),
        )

    def _epochs(self, value: float | str, kind: ParameterType, horizon: float) -> float:
        if kind is ParameterType.EPOCH_COUNT:
            return to_epochs(value, horizon, self._version)
        return to_time(value, horizon, self._interval, self._version)


def _items(parameter: Parameter, option: FamilyParameters) -> Sequence[Domain]:
    """Return the items of a list, or the only value, of a parameter of a family."""
    default: Any = parameter.default
    if parameter.name not in option.domains:
        if parameter.required:
            return ()
        return [Fixed(item) for item in (default if parameter.is_list else (default,))]
    domain = option.domains[parameter.name]
    return domain.items if isinstance(domain, ListDomain) else (domain,)


def _ends_of_phases(family: str, option: FamilyParameters) -> list[tuple[float | str, ...]]:
    """Return, for each phase of a family, values with its shortest and its longest duration."""
    by_name = {parameter.name: parameter for parameter in parameters_of(FAMILIES[family])}
    phases = FAMILIES[family].phases
    return [_ends(item) for name in phases for item in _items(by_name[name], option)]


def _ends(domain: Domain) -> tuple[float | str, ...]:
    """Return values of which one is the shortest duration and one the longest."""
    match domain:
        case Fixed(value):
            return (value,)
        case Levels(values):
            return values
        case Range(low=low, high=high, percent=True):
            return f"{low!r}%", f"{high!r}%"
        case Range(low=low, high=high, whole=True):
            return int(low), int(high)
        case Range(low=low, high=high):
            return low, high
    return ()
