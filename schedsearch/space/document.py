"""The schema of a space file, checked by pydantic; `family_parser` checks the families."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    SerializerFunctionWrapHandler,
    StrictBool,
    StrictInt,
    StrictStr,
    model_serializer,
)

from schedsearch.scheduler import Direction
from schedsearch.schedules.durations import CURRENT_VERSION, Interval, parse_share


def _check_study_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.@+-]+", value):
        raise ValueError("must consist of letters, digits and the characters _ . @ + -")
    return value


def check_new_study_name(name: str) -> str | None:
    """Return the rule that the name of a new study breaks; None if it breaks none.

    Commands would take a dash for an option. Studies with such names, and their configs, still
    work: `schedsearch status -- -name`.
    """
    if name.startswith("-"):
        return "must not begin with a dash, since commands would take it for an option"
    if name and not name.strip("."):
        return "must not consist of dots only, since they name folders"
    return None


def _check_name(value: str) -> str:
    if not re.fullmatch(r"[^\s,]+", value):
        raise ValueError("must be a name without spaces and commas")
    return _check_printable(value)


def _check_printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must not contain control characters or other characters without a shape")
    return value


def _check_argument(value: Any) -> Any:
    # `argument_parser` checks the content of a table.
    if not isinstance(value, str | int | float | dict):
        raise ValueError("must be text, a number, true or false, or a table of levels or a range")
    return value


def _check_duration(value: int | str) -> int | str:
    if (value < 0) if isinstance(value, int) else parse_share(value) is None:
        raise ValueError('must be a number of epochs, or a share of the horizon such as "20%"')
    return value


Real = Annotated[FiniteFloat, Field(strict=True)]
#: A study name is part of commands, a hyperparameter or group name part of parameter names.
StudyName = Annotated[StrictStr, Field(max_length=128), AfterValidator(_check_study_name)]
Name = Annotated[StrictStr, Field(max_length=128), AfterValidator(_check_name)]
#: A name that a task gives: of a metric, a loss term, or the task itself.
TaskName = Annotated[StrictStr, AfterValidator(_check_printable)]
Duration = Annotated[StrictInt | StrictStr, AfterValidator(_check_duration)]
Argument = Annotated[Any, AfterValidator(_check_argument)]


#: The share of a trial's epochs that is trained on average if the pruner may end it.
_TRAINED_WITH_PRUNER = 1 / 3
#: The same with the forecast, which lets a trial go on while it is uncertain.
_TRAINED_WITH_FORECAST = 1 / 2


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Objective(_Table):
    """The validation metric that the search optimises; it does not depend on any schedule."""

    #: The name of a validation metric of the task, for example `val_error`.
    metric: TaskName
    #: Whether a lower or a higher value is better.
    direction: Direction = "minimize"
    #: "last": the value of the last epoch. "best": of the best epoch, whose model `train` keeps.
    value: Literal["last", "best"] = "last"

    def to_minimize(self, value: float) -> float:
        """Return the value, negated if higher is better; applying it twice gives the value back."""
        return value if self.direction == "minimize" else -value


class SamplerOptions(_Table):
    """How new trials are proposed."""

    #: `forecast` models the values of plans over the run. `tpe` and `grid` search the tree of
    #: families, `pbt` (population-based training) needs `piecewise` families; `random`, `gp`,
    #: `cmaes` and `qmc` are Optuna's.
    name: Literal["forecast", "tpe", "random", "grid", "pbt", "gp", "cmaes", "qmc"] = "forecast"
    #: forecast, tpe, gp, cmaes: the number of random trials before the model is used; if left
    #: out, 10.
    startup_trials: Annotated[StrictInt, Field(ge=0)] | None = None
    #: grid: the number of values of a continuous range.
    points: Annotated[StrictInt, Field(ge=2)] = 5
    #: pbt: the number of random constant plans before the first plan that copies another.
    population: Annotated[StrictInt, Field(ge=2)] = 20
    #: pbt: the share of plans, best first at the epoch of branching, that may be copied.
    truncation: Annotated[Real, Field(gt=0, le=1)] = 0.2
    #: pbt: the probability that a value is resampled at the branch instead of perturbed.
    resample: Annotated[Real, Field(ge=0, le=1)] = 0.25
    #: The share of trials, spread over the study, that use `constant` families only.
    constants: Annotated[Real, Field(ge=0, le=1)] = 0.15


#: A trial that is pruned by the forecast would hardly beat the complete trial with this rank.
FORECAST_RANK = 3


class PrunerOptions(_Table):
    """When a trial is stopped early; the pruner is called after each epoch."""

    #: The pruning rule; `none` trains every trial in full.
    name: Literal["forecast", "asha", "hyperband", "median", "patient", "none"] = "forecast"
    #: The number of epochs before a trial can be pruned.
    min_epochs: Annotated[StrictInt, Field(ge=1)] = 5
    #: asha, hyperband: the best 1 / reduction_factor of the trials continue at a rung.
    reduction_factor: Annotated[StrictInt, Field(ge=2)] = 3
    #: asha: the rungs, each a number of epochs or a share of the horizon, such as ["33%"]; if left
    #: out, min_epochs * reduction_factor^k.
    rungs: Annotated[list[Duration], Field(min_length=1)] | None = None
    #: forecast: a trial whose chance to beat the third best is smaller is stopped.
    chance: Annotated[Real, Field(ge=0, lt=1)] = 0.02
    #: forecast: the epochs between decisions: a number, or a share of the horizon.
    every: Duration = "8%"
    #: forecast, median, patient: the number of complete trials before any trial is pruned.
    startup_trials: Annotated[StrictInt, Field(ge=0)] = 5
    #: patient: the number of epochs without improvement before the median rule can prune.
    patience: Annotated[StrictInt, Field(ge=0)] = 5
    #: The share of schedules that are trained in full although the pruner would stop them, to
    #: measure what pruning misses; see `status`.
    audit: Annotated[Real, Field(ge=0, le=1)] = 0.1
    #: The first epochs, without pruning: a number, or a share of the horizon ("20%").
    protected: Duration = 0

    @property
    def complete_before_forecast(self) -> int:
        """How many trials are complete before the forecast decides: it needs the third best."""
        return max(FORECAST_RANK, self.startup_trials)


class RaceOptions(_Table):
    """Further seeds for the best plans, so that the winner of a search is less a matter of luck."""

    #: How many schedules get a second seed; a quarter as many constants do, too. 0: no race.
    top: Annotated[StrictInt, Field(ge=0)] = 16
    #: In each round the remaining plans get one more seed, and then the worse half drops out.
    rounds: Annotated[StrictInt, Field(ge=1, le=20)] = 4
    #: The largest share of the trials, and of the epochs if they are limited, that the race takes.
    share: Annotated[Real, Field(gt=0, le=0.5)] = 0.25


class Search(_Table):
    """How the study searches; options of `start` override these values."""

    #: The total number of trials, including trial 0 (the defaults).
    trials: Annotated[StrictInt, Field(ge=1)] = 100
    #: The largest number of epochs that all trials together may report; if left out, no limit.
    epochs: Annotated[StrictInt, Field(ge=1)] | None = None
    #: The time limit of an epoch in seconds; a trial that exceeds it fails. If left out, no limit.
    epoch_timeout: Annotated[Real, Field(gt=0)] | None = None
    #: The number of runs per trial, one per seed; a trial reports their mean.
    seeds: Annotated[StrictInt, Field(ge=1)] = 1
    #: The first seed of each trial's runs; samplers use it too, together with the worker's name.
    seed: Annotated[StrictInt, Field(ge=0, lt=2**31)] = 0
    #: See [search.sampler].
    sampler: SamplerOptions = SamplerOptions()
    #: See [search.pruner].
    pruner: PrunerOptions = PrunerOptions()
    #: See [search.race]; if left out, a new study with one seed has a race, unless it is a grid.
    race: RaceOptions | None = None

    @property
    def expected_share(self) -> float:
        """The share of all epochs that is expected to be trained: pruned trials train less.

        Constants and audited trials are not pruned.
        """
        if self.pruner.name == "none":
            return 1.0
        constants = 0.0 if self.sampler.name == "grid" else float(self.sampler.constants)
        full = constants + (1 - constants) * float(self.pruner.audit)
        is_forecast = self.pruner.name == "forecast"
        rest = _TRAINED_WITH_FORECAST if is_forecast else _TRAINED_WITH_PRUNER
        return full + (1 - full) * rest


class HyperparameterTable(_Table):
    """One hyperparameter: its default value, its bounds, and the families to search."""

    #: The value in trial 0, and where no family applies; if left out, the task's value.
    #: If the task has one too, that of the file counts.
    default: Real | None = None
    #: The lowest and the highest value; schedules are clamped to them, also in an exported config.
    bounds: tuple[Real, Real] | None = None
    #: When the value changes: at each "epoch", with durations in whole epochs, or at each optimizer
    #: "step", with durations that may be parts of an epoch. "epoch" for members of a group.
    interval: Interval = "epoch"
    #: Whether values are rounded to whole numbers, after the bounds: for a batch size, a resolution
    #: or a sequence length. A training loop gets an int, `terms` of a task a tensor with a whole
    #: number. A half becomes the even number next to it, so that 2.5 is 2 and 3.5 is 4.
    round: StrictBool = False
    #: The families to choose from, each with the ranges of its parameters; see docs/families.md.
    families: dict[str, Any] = {}

    @model_serializer(mode="wrap")
    def _without_newer_defaults(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out defaults that came later, so that records of older studies stay as they are."""
        content: dict[str, Any] = serialize(self)
        if content.get("interval") == "epoch":
            del content["interval"]
        if content.get("round") is False:
            del content["round"]
        return content


class GroupTable(_Table):
    """Weights of loss terms that one family schedules together."""

    #: The hyperparameters of the group, each named weights.TERM.
    members: Annotated[list[TaskName], Field(min_length=2)]
    #: Families for groups, or `constant`, which has one value for each member.
    families: dict[str, Any]


class Document(_Table):
    """A space file or a config: both have the same grammar."""

    #: The study's name; if left out, the file name without its suffix.
    name: StudyName
    #: MODULE:ATTRIBUTE of a task or of a function `train(run)`, importable from the current folder.
    task: TaskName
    #: Arguments of the task's class, or of a loop: `run.arguments`. Each is text, a number, true or
    #: false; or a table, so that each trial chooses: `{ levels = [64, 128] }`, or a range,
    #: `{ low = 0.0, high = 0.5 }`. `default` in the table is the value of trial 0; if left out, the
    #: task's. A config has `{ value = 64 }`.
    arguments: dict[TaskName, Argument] = {}
    #: The number of epochs of a full training.
    horizon: Annotated[StrictInt, Field(ge=1, le=1_000_000)]
    #: The version of the rules for the durations and end points of schedules; if left out, the
    #: newest, 3. A config that an older schedsearch exported has version 1. A study keeps the
    #: version that it was created with.
    schedule_version: Annotated[StrictInt, Field(ge=1, le=CURRENT_VERSION)] | None = None
    #: See [objective].
    objective: Objective
    #: See [search].
    search: Search = Search()
    #: The hyperparameters by name; see [hyperparameters.NAME].
    hyperparameters: dict[Name, HyperparameterTable] = {}
    #: Weights that one family schedules together, by name; see [groups.NAME].
    groups: dict[Name, GroupTable] = {}
    #: In a config: the origin of the plan (study, trial, metric, seeds, versions, confirmation).
    source: dict[str, Any] = {}
    #: In a config: the numerical settings (engine, device, versions) of the search.
    numerics: dict[str, Any] = {}
