"""Rules for the file of a study that the record of an earlier one may break."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from schedsearch.errors import Problem
from schedsearch.schedules.durations import parse_share
from schedsearch.space.default_rules import sign_rules
from schedsearch.space.document import Document
from schedsearch.space.impossible_shares import impossible_share_problems
from schedsearch.space.validation import ValidationResult

if TYPE_CHECKING:
    from schedsearch.space.space import Space


def with_settings_of(stored: Space | None, content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the content of a file with what it leaves to the study that it continues.

    A new study gets the present default of a race.
    """
    return _with_race(_with_names_of(stored, content), stored)


def study_problems(result: ValidationResult, stored: Space | None) -> list[Problem]:
    """Return what only the record of a study may contain.

    Args:
        result: of the file.
        stored: the space of the study that the file continues; None: the study is new.
    """
    return [
        *_protected_problems(result.document, stored),
        *_default_problems(result, stored),
        *_race_problems(result.document),
    ]


def share_problems(result: ValidationResult, stored: Space | None) -> list[Problem]:
    """Return the shares that can never be meant, unless the study has always had them.

    A file with a `schedule_version` may be a plan that was drawn from ranges.
    """
    known = {} if stored is None else stored.hyperparameters
    return [
        problem
        for name, problem in impossible_share_problems(result.hyperparameters)
        if known.get(name) != result.hyperparameters[name]
    ]


def _protected_problems(document: Document | None, stored: Space | None) -> list[Problem]:
    """Return a problem if a study protects more than a whole training, unless it always did."""
    key, value = "search.pruner.protected", document and document.search.pruner.protected
    if stored is not None and stored.search.pruner.protected == value:
        return []
    share = parse_share(value) if isinstance(value, str) else None
    return [] if share is None or share <= 1 else [Problem(key, "must be at most 100%", value)]


def _default_problems(result: ValidationResult, stored: Space | None) -> list[Problem]:
    """Return the defaults with a wrong sign, unless the study has always had them."""
    if result.document is None:
        return []
    families = {**result.hyperparameters, **result.groups}
    known = {} if stored is None else stored.document.hyperparameters
    return [
        Problem(f"hyperparameters.{name}.default", rule, default)
        for name, default, rule in sign_rules(result.document, families)
        if name not in known or known[name].default != default
    ]


def _with_names_of(stored: Space | None, content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the content of a file with the sampler and the pruner of the study that it continues.

    The defaults were other ones when the study was created.
    """
    search = content.get("search", {})
    if stored is None or not isinstance(search, Mapping):
        return content
    kept = {"sampler": stored.search.sampler.name, "pruner": stored.search.pruner.name}
    tables = {key: search.get(key, {}) for key in kept}
    named = {
        key: {"name": kept[key], **table}
        for key, table in tables.items()
        if isinstance(table, Mapping)
    }
    return {**content, "search": {**search, **named}}


def _with_race(content: Mapping[str, Any], stored: Space | None) -> Mapping[str, Any]:
    """Return the content of a file with a table [search.race], if its study has a race.

    Several seeds of each trial leave nothing to a race, and a grid tries every point.
    """
    search = content.get("search", {})
    if content.get("source") or not isinstance(search, Mapping) or "race" in search:
        return content
    if stored is not None:
        race = None if stored.search.race is None else stored.search.race.model_dump()
    else:
        sampler = search.get("sampler", {})
        is_grid = isinstance(sampler, Mapping) and sampler.get("name") == "grid"
        race = {} if search.get("seeds", 1) == 1 and not is_grid else None
    return content if race is None else {**content, "search": {**search, "race": race}}


def _race_problems(document: Document | None) -> list[Problem]:
    """Return a problem if a grid has a race: it would leave out points of the grid."""
    search = document and document.search
    if not search or search.race is None or not search.race.top or search.sampler.name != "grid":
        return []
    rule = "must be 0 with the sampler `grid`, which tries every point"
    return [Problem("search.race.top", rule, search.race.top)]
