"""A space: a task, an objective, and for each hyperparameter the families and ranges to search."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from schedsearch.errors import FileError, InputError
from schedsearch.files import read_document, write_document
from schedsearch.plan import Plan
from schedsearch.scheduler import Scheduler
from schedsearch.space.choosers import FixedChooser
from schedsearch.space.document import Document, HyperparameterTable, Objective, Search
from schedsearch.space.reading import read
from schedsearch.space.templates import (
    Chooser,
    Families,
    Fixed,
    Levels,
    Range,
    Several,
    Template,
    combination,
    size_of_all,
)


@dataclass(frozen=True)
class Space:
    """A space file, read and found right. A config is a space with nothing left to choose."""

    document: Document
    hyperparameters: Mapping[str, Families]
    groups: Mapping[str, Families]

    @classmethod
    def load(cls, path: Path | str) -> Space:
        """Read a space or a config from a TOML, YAML or JSON file.

        Raises:
            FileError: all mistakes of the file at once.
            InputError: the file cannot be read.
        """
        path = Path(path)
        content = read_document(path)
        content.setdefault("name", path.stem)
        return cls.from_document(content, str(path))

    @classmethod
    def from_document(cls, content: Mapping[str, Any], file: str) -> Space:
        """Check the content of a file and make a space of it; `file` names it in messages."""
        reading = read(content)
        if reading.problems or reading.document is None:
            raise FileError(file, reading.problems)
        return cls(reading.document, reading.hyperparameters, reading.groups)

    @property
    def name(self) -> str:
        return self.document.name

    @property
    def task(self) -> str:
        return self.document.task

    @property
    def horizon(self) -> int:
        return self.document.horizon

    @property
    def objective(self) -> Objective:
        return self.document.objective

    @property
    def search(self) -> Search:
        return self.document.search

    def to_document(self) -> dict[str, Any]:
        """Return the normalised content: `from_document` makes an equal space of it."""
        return self.document.model_dump(mode="json", exclude_none=True, exclude_defaults=False)

    def save(self, path: Path) -> None:
        """Write the space to a TOML, YAML or JSON file, whole or not at all."""
        content = self.document.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
        write_document(path, content)

    # --- drawing -------------------------------------------------------------------------------

    def suggest(self, chooser: Chooser) -> Plan:
        """Return a plan drawn from the space: `chooser` is an Optuna trial, live or finished.

        Raises:
            InputError: the drawn parameters break a rule between them.
        """
        return Plan.from_tables(self.draw(chooser))

    def draw(self, chooser: Chooser) -> dict[str, Any]:
        """Return the `hyperparameters` and `groups` tables of a config drawn from the space."""
        tables: dict[str, Any] = {}
        for name, table in self.document.hyperparameters.items():
            kept = table.model_dump(mode="json", exclude_none=True, exclude={"families"})
            if name in self.hyperparameters:
                kept["families"] = self.hyperparameters[name].draw(chooser, name)
            tables[name] = kept
        groups: dict[str, Any] = {}
        for name, families in self.groups.items():
            members = self.document.groups[name].members
            drawn = families.draw(chooser, name)
            if "constant" in drawn:
                for member, value in zip(members, drawn["constant"]["value"], strict=True):
                    tables.setdefault(member, {})["families"] = {"constant": {"value": value}}
            else:
                groups[name] = {"members": members, "families": drawn}
        return {"hyperparameters": tables, "groups": groups}

    @property
    def is_config(self) -> bool:
        """Whether nothing is left to choose."""
        return not self.searched()

    def plan(self) -> Plan:
        """Return the plan of a config; raise InputError if something is left to choose."""
        if not self.is_config:
            raise InputError(
                f"{self.name}: something is left to choose in {', '.join(self.searched())}; "
                "a config gives one family and one value for each parameter"
            )
        return self.suggest(FixedChooser({}))

    def scheduler(self, seed: int = 0) -> Scheduler:
        """Return a config's plan in motion, for a training loop of your own."""
        return Scheduler(
            self.plan(), horizon=self.horizon, seed=seed, direction=self.objective.direction
        )

    # --- what is searched ----------------------------------------------------------------------

    @property
    def families(self) -> dict[str, Families]:
        """The families of each hyperparameter or group that has some, by its name."""
        return {**self.hyperparameters, **self.groups}

    def searched(self) -> dict[str, Families]:
        """Return what has something to choose, by the name of the hyperparameter or the group."""
        return {name: found for name, found in self.families.items() if not found.is_fixed}

    def size(self, points: float = math.inf) -> float:
        """Return the number of distinct plans, where a continuous range counts as `points`."""
        return size_of_all(families.size(points) for families in self.searched().values())

    def at(self, points: int, index: int) -> dict[str, Any]:
        """Return one of the `size(points)` distinct draws, as parameters by name."""
        return combination(self.searched(), points, index)

    def family_choices(self) -> frozenset[str]:
        """Return the names of the parameters that choose between `constant` and other families."""
        return frozenset(
            f"{name}.family"
            for name, families in self.searched().items()
            if "constant" in families.options and len(families.options) > 1
        )

    # --- the baseline --------------------------------------------------------------------------

    def with_defaults(self, defaults: Mapping[str, float]) -> Space:
        """Return the space with the task's defaults where the file gives none."""
        tables = dict(self.document.hyperparameters)
        members = [m for group in self.document.groups.values() for m in group.members]
        for name in [*tables, *members]:
            table = tables.get(name, HyperparameterTable())
            if table.default is None and name in defaults:
                tables[name] = table.model_copy(update={"default": float(defaults[name])})
        return replace(self, document=self.document.model_copy(update={"hyperparameters": tables}))

    def baseline(self) -> Plan:
        """Return trial 0: what is searched held at its defaults, and what is given as it is."""
        return Plan.from_tables(self.baseline_tables())

    def baseline_tables(self) -> dict[str, Any]:
        """Return trial 0 as the `hyperparameters` and `groups` tables of a config."""
        tables = self.document.hyperparameters
        kept = {
            name: table.model_dump(mode="json", exclude_none=True, exclude={"families"})
            for name, table in tables.items()
        }
        groups = {}
        for name, families in self.families.items():
            if not families.is_fixed:
                continue
            given = families.draw(FixedChooser({}), name)
            if name not in self.groups:
                kept[name]["families"] = given
            elif "constant" not in given:
                groups[name] = {"members": self.document.groups[name].members, "families": given}
        return {"hyperparameters": kept, "groups": groups}

    def holds_constant(self, tables: Mapping[str, Any]) -> bool:
        """Tell whether a plan's tables hold all constant that trial 0 does."""
        baseline = self._baseline
        hyperparameters, groups = tables.get("hyperparameters", {}), tables.get("groups", {})
        return bool(hyperparameters or groups) and (
            all(group in baseline.get("groups", {}).values() for group in groups.values())
            and all(
                table.get("families", {}).keys() <= {"constant"}
                or table["families"] == baseline["hyperparameters"].get(name, {}).get("families")
                for name, table in hyperparameters.items()
            )
        )

    @cached_property
    def _baseline(self) -> dict[str, Any]:
        return self.baseline().to_tables()

    def baseline_parameters(self) -> dict[str, Any]:
        """Return the baseline as the study's parameters, as far as its ranges hold the defaults."""
        parameters: dict[str, Any] = {}
        for name, families in self.searched().items():
            if "constant" in families.options:
                parameters |= self._constant_parameters(name, families) or {}
        return parameters

    def _constant_parameters(self, name: str, families: Families) -> dict[str, Any] | None:
        """Return the draw that gives the defaults; None if the ranges do not hold them."""
        group = self.document.groups.get(name)
        value = families.options["constant"].of["value"]
        templates = list(value.items) if isinstance(value, Several) else [value]
        chosen = {f"{name}.family": "constant"} if len(families.options) > 1 else {}
        for i, member in enumerate(group.members if group else [name]):
            table = self.document.hyperparameters.get(member)
            key = f"{name}.constant.value.{i}" if group else f"{name}.constant.value"
            found = _choice_of(templates[i], key, table.default if table else None)
            if found is None:
                return None
            chosen |= found
        return chosen


def _choice_of(template: Template, name: str, value: float | None) -> dict[str, Any] | None:
    """Return the choice by which a template gives a value; None if it cannot."""
    match template:
        case Range(low, high, step=step) if value is not None and low <= value <= high:
            steps = (value - low) / step if step else 0.0
            return {name: value} if math.isclose(steps, round(steps), abs_tol=1e-9) else None
        case Levels(values) if value in values:
            return {f"{name}.level": values.index(value)}
        case Fixed(fixed) if fixed == value:
            return {}
    return None
