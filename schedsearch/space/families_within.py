"""All families of a hyperparameter, also those within combinators."""

from __future__ import annotations

from collections.abc import Iterator

from schedsearch.space.domains import Domain, Families, FamilyParameters, ListDomain


def families_within(families: Families, key: str) -> Iterator[tuple[str, str, FamilyParameters]]:
    """Yield each family with its key, name and parameters, also those within combinators.

    Args:
        families: of one hyperparameter or group.
        key: of their table.
    """
    for family, option in families.options.items():
        yield f"{key}.{family}", family, option
        for name, domain in option.domains.items():
            yield from _within(domain, f"{key}.{family}.{name}")


def _within(domain: Domain, key: str) -> Iterator[tuple[str, str, FamilyParameters]]:
    if isinstance(domain, Families):
        yield from families_within(domain, key)
    elif isinstance(domain, ListDomain):
        for i, item in enumerate(domain.items):
            yield from _within(item, f"{key}.{i}")
