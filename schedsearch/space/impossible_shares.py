"""Shares of the horizon that can never be meant: phases of more than 100 %, an end at 100 %."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal

from schedsearch.errors import Problem
from schedsearch.schedules import FAMILIES
from schedsearch.schedules.durations import REST, exact_size
from schedsearch.schedules.parameters import parameters_of
from schedsearch.space.domains import Domain, Families, Fixed, ListDomain
from schedsearch.space.families_within import families_within


def impossible_share_problems(families: Mapping[str, Families]) -> Iterator[tuple[str, Problem]]:
    """Yield the shares of a file that can never be meant, each with the name of its table.

    Args:
        families: those of the hyperparameters, by name.
    """
    for name, each in families.items():
        for key, family, option in families_within(each, f"hyperparameters.{name}.families"):
            cls = FAMILIES[family]
            domains: dict[str, Domain] = {
                p.name: option.domains.get(p.name, Fixed(p.default)) for p in parameters_of(cls)
            }
            shares = [_fixed_share(domains[phase]) for phase in cls.phases]
            total = sum((share for share in shares if share is not None), Decimal(0))
            if not cls.repeats and None not in shares and total > 100:
                given = ", ".join(cls.phases)
                rule = (
                    f"{given} come to {total.normalize():f}% of the horizon, but must come to at "
                    "most 100%: the end of the schedule would lie after the horizon"
                )
                yield name, Problem(key, rule, hint=f'one of them may be "{REST}"')
            last = cls.beginnings
            for part, domain in _items(last, domains[last]) if last else ():
                share = _fixed_share(domain)
                if share is not None and share >= 100:
                    rule = "must be less than 100%: the schedule after it would never begin"
                    assert isinstance(domain, Fixed)
                    yield name, Problem(f"{key}.{part}", rule, domain.value)


def _items(name: str, domain: Domain) -> Iterator[tuple[str, Domain]]:
    if isinstance(domain, ListDomain):
        yield from ((f"{name}.{i}", item) for i, item in enumerate(domain.items))
    else:
        yield name, domain


def _fixed_share(domain: Domain) -> Decimal | None:
    """Return a fixed share in percent, 0 for "rest"; None of another domain."""
    if not isinstance(domain, Fixed) or not isinstance(domain.value, str):
        return None
    if domain.value == REST:
        return Decimal(0)
    return exact_size(domain.value, 100)
