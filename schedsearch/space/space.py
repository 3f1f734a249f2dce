"""A space: a task, an objective, and for each hyperparameter the families and ranges to search."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from schedsearch.errors import FileError, InputError
from schedsearch.files import read_document, write_document
from schedsearch.plan import Plan, Scheduler
from schedsearch.schedules import Constant
from schedsearch.space.choosers import FixedChooser
from schedsearch.space.document import Document, Objective, Search
from schedsearch.space.reading import Reading, read
from schedsearch.space.templates import Chooser, Families, Range, product


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
        reading: Reading = read(content)
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
    def is_fixed(self) -> bool:
        """Whether nothing is left to choose: the file is a config."""
        return all(families.is_fixed for families in self.searched(all_of_them=True).values())

    def plan(self) -> Plan:
        """Return the plan of a config; raise InputError if something is left to choose."""
        loose = [name for name, families in self.searched().items()]
        if loose:
            raise InputError(
                f"{self.name}: {', '.join(loose)} still has something to choose; "
                "a config gives one family and one value for each parameter"
            )
        return self.suggest(FixedChooser({}))

    def scheduler(self, seed: int = 0) -> Scheduler:
        """Return a config's plan in motion, for a training loop of your own."""
        return Scheduler(
            self.plan(), horizon=self.horizon, seed=seed, direction=self.objective.direction
        )

    # --- what is searched ----------------------------------------------------------------------

    def searched(self, *, all_of_them: bool = False) -> dict[str, Families]:
        """Return what has something to choose, by the name of the hyperparameter or the group."""
        everything = {**self.hyperparameters, **self.groups}
        return {n: f for n, f in everything.items() if all_of_them or not f.is_fixed}

    def size(self) -> float:
        """Return the number of distinct plans: inf if anything is continuous."""
        size = 1.0
        for families in self.searched().values():
            size *= families.size()
        return size

    def draws(self, points: int) -> Iterator[Mapping[str, Any]]:
        """Yield every distinct draw as parameters by name; `points` values stand for a continuum."""
        return product([f.draws(name, points) for name, f in self.searched().items()])

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
            table = tables.get(name) or type(next(iter(tables.values())))()
            if table.default is None and name in defaults:
                tables[name] = table.model_copy(update={"default": float(defaults[name])})
        return replace(self, document=self.document.model_copy(update={"hyperparameters": tables}))

    def baseline(self) -> Plan:
        """Return the plan of constants at the defaults: trial 0."""
        tables = self.document.hyperparameters
        return Plan(
            {(n,): Constant(t.default) for n, t in tables.items() if t.default is not None},
            {n: t.bounds for n, t in tables.items() if t.bounds is not None},
        )

    def baseline_parameters(self) -> dict[str, Any]:
        """Return the baseline as parameters of the study, as far as its ranges hold the defaults."""
        parameters: dict[str, Any] = {}
        for name, families in self.searched().items():
            constant = families.options.get("constant")
            table = self.document.hyperparameters.get(name)
            if constant is None or table is None or table.default is None:
                continue
            value = constant.of["value"]
            if isinstance(value, Range) and value.low <= table.default <= value.high:
                if len(families.options) > 1:
                    parameters[f"{name}.family"] = "constant"
                parameters[f"{name}.constant.value"] = table.default
        return parameters
