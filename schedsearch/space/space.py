"""A space: a task, an objective, and for each hyperparameter the families and ranges to search."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schedsearch.errors import FileError, InputError, Problem
from schedsearch.files import read_document, write_document
from schedsearch.plan import Plan
from schedsearch.scheduler import Scheduler
from schedsearch.schedules import CURRENT_VERSION, Interval
from schedsearch.space.document import (
    Document,
    HyperparameterTable,
    Objective,
    Search,
    check_new_study_name,
)
from schedsearch.space.domains import (
    Domain,
    Families,
    ListDomain,
    Suggester,
    product_grid_point,
    product_size,
)
from schedsearch.space.parameters import parameters_for, value_in
from schedsearch.space.study_rules import share_problems, study_problems, with_settings_of
from schedsearch.space.suggesters import FixedSuggester
from schedsearch.space.validation import validate_document

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler


@dataclass(frozen=True)
class Space:
    """A valid space file. A config is a space without choices.

    Attributes:
        document: the content of the file.
        hyperparameters: the families of each.
        groups: the families of each.
        arguments: those of the task that belong to the plan, since the file gives a table of what
            may be chosen.
    """

    document: Document
    hyperparameters: Mapping[str, Families]
    groups: Mapping[str, Families]
    arguments: Mapping[str, Domain] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path | str) -> Space:
        """Read a space or a config from a TOML, YAML or JSON file.

        Raises:
            FileError: the file is invalid; the message lists all problems.
            InputError: the file cannot be read.
        """
        path = Path(path)
        content = read_document(path)
        content.setdefault("name", path.stem)
        return cls.from_file(content, str(path))

    @classmethod
    def from_file(cls, content: Mapping[str, Any], file: str, stored: Space | None = None) -> Space:
        """Validate the content of a file for a study, or of a config, and return the space.

        Args:
            content: of the file.
            file: names it in messages.
            stored: the space of the study that the file continues; None: the study is new.

        Without a `schedule_version`, schedules follow the newest version of the rules, and phases
        must not come to more than 100 % of the horizon. A config with a [source] was exported
        before there were versions, and keeps version 1. A file that
        names no sampler or pruner leaves those of an existing study as they are. Without a
        [search.race], a new study has the default one; an existing study keeps what it has.

        Raises:
            FileError: the content is invalid; the message lists all problems.
        """
        newest = 1 if content.get("source") else CURRENT_VERSION
        is_written_by_hand = "schedule_version" not in content and newest > 1
        content = {"schedule_version": newest, **content}
        content = with_settings_of(stored, content)
        result = validate_document(content)
        problems = list(result.problems)
        domains: list[Domain] = [
            *result.hyperparameters.values(),
            *result.groups.values(),
            *result.arguments.values(),
        ]
        name = content.get("name")
        if isinstance(name, str) and not all(each.is_fixed for each in domains):
            rule = check_new_study_name(name)
            problems += [Problem("name", rule, name)] if rule else []
            problems += study_problems(result, stored)
        if is_written_by_hand:
            problems += share_problems(result, stored)
        if problems:
            raise FileError(file, problems)
        return cls.from_document(content, file)

    @classmethod
    def from_document(cls, content: Mapping[str, Any], file: str) -> Space:
        """Validate the record of a study and return the space; `file` names it in messages.

        Raises:
            FileError: the content is invalid; the message lists all problems.
        """
        result = validate_document(content)
        if result.problems or result.document is None:
            raise FileError(file, result.problems)
        return cls(result.document, result.hyperparameters, result.groups, result.arguments)

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
    def schedule_version(self) -> int:
        """The version of the rules of its schedules; a record without one has version 1."""
        return self.document.schedule_version or 1

    @property
    def objective(self) -> Objective:
        return self.document.objective

    @property
    def search(self) -> Search:
        return self.document.search

    def to_document(self) -> dict[str, Any]:
        """Return the normalised content; `from_document` turns it into an equal space."""
        return self.document.model_dump(mode="json", exclude_none=True, exclude_defaults=False)

    def save(self, path: Path) -> None:
        """Write the space to a TOML, YAML or JSON file, atomically."""
        content = self.document.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
        write_document(path, {**content, "schedule_version": self.schedule_version})

    # --- suggesting ----------------------------------------------------------------------------

    def suggest(self, suggester: Suggester) -> Plan:
        """Return a plan of the space; `suggester` is an Optuna trial, running or finished.

        Raises:
            InputError: the suggested parameters break a rule between them.
        """
        return Plan.from_tables(self.suggest_tables(suggester))

    def suggest_tables(self, suggester: Suggester) -> dict[str, Any]:
        """Return a plan of the space as the `hyperparameters` and `groups` tables of a config."""
        tables: dict[str, Any] = {}
        for name, table in self.document.hyperparameters.items():
            kept = table.model_dump(mode="json", exclude_none=True, exclude={"families"})
            if name in self.hyperparameters:
                kept["families"] = self.hyperparameters[name].suggest(suggester, name)
            tables[name] = kept
        groups: dict[str, Any] = {}
        for name, families in self.groups.items():
            members = self.document.groups[name].members
            family = families.suggest(suggester, name)
            if "constant" in family:
                for member, value in zip(members, family["constant"]["value"], strict=True):
                    tables.setdefault(member, {})["families"] = {"constant": {"value": value}}
            else:
                groups[name] = {"members": members, "families": family}
        chosen = {
            name: {"value": domain.suggest(suggester, f"arguments.{name}")}
            for name, domain in self.arguments.items()
        }
        return {
            "hyperparameters": tables,
            "groups": groups,
            "schedule_version": self.schedule_version,
            **({"arguments": chosen} if chosen else {}),
        }

    @property
    def is_config(self) -> bool:
        """Whether the space has no choices."""
        return not self.choices

    def plan(self) -> Plan:
        """Return the plan of a config; raise InputError if this is a space with choices."""
        if not self.is_config:
            raise InputError(
                f"{self.name} is a space, not a config: it searches {', '.join(self.choices)}; "
                "give one family with one value for each parameter, or `export` a trial"
            )
        return self.suggest(FixedSuggester({}))

    def scheduler(self, seed: int = 0) -> Scheduler:
        """Return a scheduler that runs the plan of a config in your training loop."""
        return Scheduler.of_checked_plan(
            self.plan(), horizon=self.horizon, seed=seed, direction=self.objective.direction
        )

    def lr_scheduler(
        self, optimizer: Optimizer, *, steps_per_epoch: int, seed: int = 0
    ) -> LRScheduler:
        """Return a scheduler of torch that sets the learning rate of a config.

        Call its `step` after each optimizer step. The parameter groups keep the ratios of their
        initial learning rates, as with `Scheduler.apply`. Steps after the horizon keep the last
        value. Other hyperparameters are not set.

        Args:
            optimizer: its learning rates are overwritten.
            steps_per_epoch: the number of calls of `step` in an epoch, a whole number.
            seed: the seed of the run, for families that draw random numbers.

        Raises:
            InputError: this is a space with choices, the config sets no learning rate of this
                optimizer, the learning rate depends on the results of epochs (use `scheduler()`),
                or `steps_per_epoch` is not a whole number of at least 1.
        """
        # Here, so that spaces do not load torch.
        from schedsearch.lr_scheduler import PlanLR

        return PlanLR(
            optimizer,
            self.plan(),
            horizon=self.horizon,
            steps_per_epoch=steps_per_epoch,
            seed=seed,
        )

    # --- what is searched ----------------------------------------------------------------------

    @property
    def families(self) -> dict[str, Families]:
        """The families by the name of the hyperparameter or group."""
        return {**self.hyperparameters, **self.groups}

    def interval(self, name: str) -> Interval:
        """Return when a hyperparameter changes; a group changes at epochs."""
        table = self.document.hyperparameters.get(name)
        return "epoch" if table is None else table.interval

    def searched(self) -> dict[str, Families]:
        """Return the families with choices, by the name of the hyperparameter or group."""
        return {name: each for name, each in self.families.items() if not each.is_fixed}

    def searched_arguments(self) -> dict[str, Domain]:
        """Return the arguments with choices, by the name of their Optuna parameters."""
        return {
            f"arguments.{name}": domain
            for name, domain in self.arguments.items()
            if not domain.is_fixed
        }

    def argument_combinations(self) -> float:
        """Return how many combinations of arguments plans may have; infinite with a range."""
        return product_size(domain.size() for domain in self.searched_arguments().values())

    @property
    def choices(self) -> dict[str, Domain]:
        """What is searched: the families by name, and each argument as `arguments.NAME`."""
        return {**self.searched(), **self.searched_arguments()}

    def size(self, points: float = math.inf) -> float:
        """Return the number of distinct plans, where a continuous range counts as `points`."""
        return product_size(domain.size(points) for domain in self.choices.values())

    def grid_point(self, points: int, index: int) -> dict[str, Any]:
        """Return grid point `index` of `size(points)`, as Optuna parameters by name."""
        return product_grid_point(self.choices, points, index)

    def family_parameters(self) -> frozenset[str]:
        """Return the Optuna parameters that choose between `constant` and other families."""
        return frozenset(
            f"{name}.family"
            for name, families in self.searched().items()
            if "constant" in families.options and len(families.options) > 1
        )

    # --- arguments -----------------------------------------------------------------------------

    @property
    def default_arguments(self) -> dict[str, Any]:
        """The arguments of the task in trial 0, without those for which the task's default counts.

        The fingerprint of the task has these; the others belong to a plan.
        """
        given = self.document.arguments
        defaults = {n: given[n]["default"] for n in self.arguments if "default" in given[n]}
        return {n: v for n, v in given.items() if n not in self.arguments} | defaults

    def arguments_of(self, plan: Plan) -> dict[str, Any]:
        """Return the arguments of the task with which a plan is trained."""
        return {**self.default_arguments, **plan.arguments}

    def with_argument_defaults(self, defaults: Mapping[str, Any]) -> Space:
        """Return the space with the task's defaults of arguments where the file has none."""
        given = dict(self.document.arguments)
        for name in self.arguments:
            if name in defaults and "default" not in given[name]:
                given[name] = {**given[name], "default": defaults[name]}
        return replace(self, document=self.document.model_copy(update={"arguments": given}))

    def argument_parameters(self, name: str, value: Any) -> dict[str, Any] | None:
        """Return the Optuna parameters that give an argument a value; None if it cannot have it."""
        return parameters_for(self.arguments[name], f"arguments.{name}", value)

    # --- the baseline --------------------------------------------------------------------------

    def with_defaults(self, defaults: Mapping[str, float]) -> Space:
        """Return the space with the task's defaults where the file has none."""
        tables = dict(self.document.hyperparameters)
        members = [m for group in self.document.groups.values() for m in group.members]
        for name in [*tables, *members]:
            table = tables.get(name, HyperparameterTable())
            if table.default is None and name in defaults:
                tables[name] = table.model_copy(update={"default": float(defaults[name])})
        return replace(self, document=self.document.model_copy(update={"hyperparameters": tables}))

    def baseline(self) -> Plan:
        """Return the plan of trial 0: constant defaults for all that is searched, else as given."""
        return Plan.from_tables(self.baseline_tables())

    def baseline_tables(self) -> dict[str, Any]:
        """Return the plan of trial 0 as the `hyperparameters` and `groups` tables of a config."""
        tables = self.document.hyperparameters
        kept = {
            name: table.model_dump(mode="json", exclude_none=True, exclude={"families"})
            for name, table in tables.items()
        }
        groups = {}
        for name, families in self.families.items():
            if not families.is_fixed:
                continue
            given = families.suggest(FixedSuggester({}), name)
            if name not in self.groups:
                kept[name]["families"] = given
            elif "constant" not in given:
                groups[name] = {"members": self.document.groups[name].members, "families": given}
        arguments = {name: {"value": value} for name, value in self._baseline_values().items()}
        return {
            "hyperparameters": kept,
            "groups": groups,
            "schedule_version": self.schedule_version,
            **({"arguments": arguments} if arguments else {}),
        }

    def _baseline_values(self) -> dict[str, Any]:
        """Return the arguments of trial 0 that belong to its plan."""
        values: dict[str, Any] = {}
        for name, domain in self.arguments.items():
            if domain.is_fixed:
                values[name] = domain.suggest(FixedSuggester({}), name)
            elif name in self.default_arguments:
                default = self.default_arguments[name]
                found = value_in(domain, default)
                values[name] = default if found is None else found
        return values

    def is_constant_plan(self, tables: Mapping[str, Any]) -> bool:
        """Return whether a plan holds constant all that is searched, given its tables."""
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
        """Return the Optuna parameters of the baseline, where the ranges contain the defaults."""
        parameters: dict[str, Any] = {}
        for name, families in self.searched().items():
            if "constant" in families.options:
                parameters |= self._constant_parameters(name, families) or {}
        return parameters | self.baseline_arguments()

    def baseline_arguments(self) -> dict[str, Any]:
        """Return the Optuna parameters of the arguments of the baseline, where there are such."""
        parameters: dict[str, Any] = {}
        for name, domain in self.arguments.items():
            default = self.default_arguments.get(name)
            parameters |= parameters_for(domain, f"arguments.{name}", default) or {}
        return parameters

    def _constant_parameters(self, name: str, families: Families) -> dict[str, Any] | None:
        """Return the parameters that give the defaults; None if the ranges do not contain them."""
        group = self.document.groups.get(name)
        value = families.options["constant"].domains["value"]
        domains = list(value.items) if isinstance(value, ListDomain) else [value]
        parameters = {f"{name}.family": "constant"} if len(families.options) > 1 else {}
        for i, member in enumerate(group.members if group else [name]):
            table = self.document.hyperparameters.get(member)
            key = f"{name}.constant.value.{i}" if group else f"{name}.constant.value"
            part = parameters_for(domains[i], key, table.default if table else None)
            if part is None:
                return None
            parameters |= part
        return parameters
