"""The rules between the default of a hyperparameter and the constants of its space."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from schedsearch.space.document import Document
from schedsearch.space.domains import Domain, Families, Fixed, Levels, ListDomain, Range


def sign_rules(
    document: Document, families: Mapping[str, Families]
) -> Iterator[tuple[str, float, str]]:
    """Yield each hyperparameter whose default has a wrong sign, its default, and the rule.

    A default may lie outside the range of the constants, and many are 0 below a logarithmic range:
    a weight that is off. But it is a mistake if it is negative and no constant is, and if it is a
    learning rate of 0.

    Args:
        document: the content of the file.
        families: those of the hyperparameters and groups, by name.
    """
    for name, domain in _constants(document, families):
        table = document.hyperparameters.get(name)
        lowest = _lowest(domain)
        if table is None or table.default is None or lowest is None:
            continue
        is_rate = name.rpartition(".")[2] == "lr" and not name.startswith("weights.")
        if is_rate and table.default <= 0 < lowest:
            rule = "must be greater than 0, as all its constants are: trial 0 trains with it"
            yield name, table.default, rule
        elif table.default < 0 <= lowest:
            rule = "must be at least 0, as all its constants are: trial 0 trains with it"
            yield name, table.default, rule


def _constants(
    document: Document, families: Mapping[str, Families]
) -> Iterator[tuple[str, Domain]]:
    """Yield the constants of each hyperparameter that is searched."""
    for name, each in families.items():
        constant = each.options.get("constant")
        domain = None if constant is None or each.is_fixed else constant.domains.get("value")
        if domain is None:
            continue
        members = document.groups[name].members if name in document.groups else [name]
        items = domain.items if isinstance(domain, ListDomain) else [domain] * len(members)
        yield from zip(members, items, strict=False)


def _lowest(domain: Domain) -> float | None:
    """Return the lowest of some numbers; None if the file has no valid ones."""
    match domain:
        case Range(low):
            return low
        case Levels(values):
            return min(float(value) for value in values)
        case Fixed(int() | float() as value):
            return float(value)
    return None
