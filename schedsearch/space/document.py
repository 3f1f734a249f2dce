"""The fixed part of a space file, checked by pydantic: all but the families' parameters."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    StrictInt,
    StrictStr,
)

from schedsearch.scheduler import Direction
from schedsearch.schedules.parameters import parse_share


def _check_argument(value: Any) -> Any:
    if not isinstance(value, str | int | float):
        raise ValueError("must be text, a number, true or false")
    return value


def _check_duration(value: int | str) -> int | str:
    if (value < 0) if isinstance(value, int) else parse_share(value) is None:
        raise ValueError('must be a number of epochs, or a share of the horizon such as "20%"')
    return value


Real = Annotated[FiniteFloat, Field(strict=True)]
#: Names of studies stand in commands; those of hyperparameters and groups in parameter names.
StudyName = Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9_.@+-]+$", max_length=128)]
Name = Annotated[StrictStr, Field(pattern=r"^[^\s,]+$", max_length=128)]
Duration = Annotated[StrictInt | StrictStr, AfterValidator(_check_duration)]
Argument = Annotated[Any, AfterValidator(_check_argument)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Objective(_Table):
    """What the search optimises: a validation metric, out of the schedules' reach."""

    #: A validation metric of the task, for instance `val_error`.
    metric: StrictStr
    #: Whether less or more of it is better.
    direction: Direction = "minimize"
    #: "last": the last epoch's value counts. "best": the best epoch's, and `train` keeps its model.
    value: Literal["last", "best"] = "last"

    def lower_is_better(self, value: float) -> float:
        """Return the value with its sign turned so that lower is better; the turn undoes itself."""
        return value if self.direction == "minimize" else -value


class SamplerOptions(_Table):
    """What proposes trials."""

    #: What proposes: `tpe` and `grid` over the tree of families, `pbt` (population-based training)
    #: over `piecewise` alone, or one of Optuna's others.
    name: Literal["tpe", "random", "grid", "pbt", "gp", "cmaes", "qmc"] = "tpe"
    #: tpe, gp, cmaes: proposals drawn at random before the sampler's own begin.
    startup_trials: Annotated[StrictInt, Field(ge=0)] | None = None
    #: grid: how many values stand for a continuous range.
    points: Annotated[StrictInt, Field(ge=2)] = 5
    #: pbt: plans, constant ones drawn at random, before the first that branches off from another.
    population: Annotated[StrictInt, Field(ge=2)] = 20
    #: pbt: the best share, at the epoch where a plan branches off, that it may branch off from.
    truncation: Annotated[Real, Field(gt=0, le=1)] = 0.2
    #: pbt: how often a value is drawn anew where a plan branches off, instead of perturbed.
    resample: Annotated[Real, Field(ge=0, le=1)] = 0.25
    #: The share of trials, spread over the study, whose families are all `constant`.
    constants: Annotated[Real, Field(ge=0, le=1)] = 0.15


class PrunerOptions(_Table):
    """What ends a trial early, asked after each epoch."""

    #: The rule; `none` trains every trial in full.
    name: Literal["asha", "hyperband", "median", "patient", "none"] = "asha"
    #: No trial is pruned before so many epochs.
    min_epochs: Annotated[StrictInt, Field(ge=1)] = 5
    #: asha, hyperband: one trial in so many survives a rung.
    reduction_factor: Annotated[StrictInt, Field(ge=2)] = 3
    #: median, patient: no trial is pruned before so many are complete.
    startup_trials: Annotated[StrictInt, Field(ge=0)] = 5
    #: patient: epochs without improvement before the median rule may prune.
    patience: Annotated[StrictInt, Field(ge=0)] = 5
    #: The share of the schedules that is trained to the end whatever the pruner says, to learn what
    #: it would have missed: see `status`.
    audit: Annotated[Real, Field(ge=0, le=1)] = 0.1
    #: An opening without pruning: a number of epochs, or a share of the horizon ("20%").
    protected: Duration = 0


class Search(_Table):
    """How the study searches; flags of `start` override it."""

    #: Trials of the study in all, trial 0 (the defaults) included.
    trials: Annotated[StrictInt, Field(ge=1)] = 100
    #: Epochs that the study's trials report in all, at most; if left out, as many as they need.
    epochs: Annotated[StrictInt, Field(ge=1)] | None = None
    #: Seconds that an epoch may take; a trial that takes longer fails. If left out, no limit.
    epoch_timeout: Annotated[Real, Field(gt=0)] | None = None
    #: Runs per trial, side by side; their mean is reported.
    seeds: Annotated[StrictInt, Field(ge=1)] = 1
    #: The first seed of every training; the samplers also draw by it, and by the worker.
    seed: Annotated[StrictInt, Field(ge=0, lt=2**31)] = 0
    #: See [search.sampler].
    sampler: SamplerOptions = SamplerOptions()
    #: See [search.pruner].
    pruner: PrunerOptions = PrunerOptions()


class HyperparameterTable(_Table):
    """One hyperparameter: where it stands unless a family moves it, and how far it may go."""

    #: Its value in trial 0, and wherever no family moves it; if left out, the task's.
    default: Real | None = None
    #: Lowest and highest value: they clamp whatever a family says, and go with an exported plan.
    bounds: tuple[Real, Real] | None = None
    #: The families to choose from, each with its parameters; see docs/families.md.
    families: dict[str, Any] = {}


class GroupTable(_Table):
    """Weights of loss terms that one family moves together."""

    #: The hyperparameters that it moves, each named weights.TERM.
    members: Annotated[list[StrictStr], Field(min_length=2)]
    #: Families of groups, or `constant`, which draws a value for each member.
    families: dict[str, Any]


class Document(_Table):
    """A space file, or a config: the same grammar."""

    #: The study's name; if left out, the file's without its suffix.
    name: StudyName
    #: MODULE:ATTRIBUTE of a task, or of a function `train(run)`; the current folder is importable.
    task: StrictStr
    #: Arguments of the task's class: text, numbers, true or false.
    arguments: dict[str, Argument] = {}
    #: Epochs of a full training.
    horizon: Annotated[StrictInt, Field(ge=1, le=1_000_000)]
    #: See [objective].
    objective: Objective
    #: See [search].
    search: Search = Search()
    #: What moves, by name; see [hyperparameters.NAME].
    hyperparameters: dict[Name, HyperparameterTable] = {}
    #: Weights that one family moves together; see [groups.NAME].
    groups: dict[Name, GroupTable] = {}
    #: In a config: where the plan comes from (study, trial, metric, seeds, versions, confirmation).
    source: dict[str, Any] = {}
    #: In a config: what changes bits without changing meaning, as it was when the plan was found.
    numerics: dict[str, Any] = {}
