"""The fixed part of a space file, checked by pydantic: all but the families' parameters."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StrictFloat, StrictInt, StrictStr

from schedsearch.plan import Direction

Real = Annotated[FiniteFloat, Field(strict=True)]
Name = Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9_.@+-]+$", max_length=128)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Objective(_Table):
    """What the search optimises: a validation metric, out of the schedules' reach."""

    metric: StrictStr
    direction: Direction = "minimize"
    #: "last": the last epoch's value counts. "best": the best epoch's, and `train` keeps its model.
    value: Literal["last", "best"] = "last"

    def lower_is_better(self, value: float) -> float:
        """Return the value with its sign turned so that lower is better; the turn undoes itself."""
        return value if self.direction == "minimize" else -value


class SamplerOptions(_Table):
    """What proposes trials."""

    name: Literal["tpe", "random", "grid", "gp", "cmaes", "qmc"] = "tpe"
    #: tpe, gp, cmaes: proposals drawn at random before the sampler's own begin.
    startup_trials: Annotated[StrictInt, Field(ge=0)] | None = None
    #: grid: how many values stand for a continuous range.
    points: Annotated[StrictInt, Field(ge=2)] = 5
    #: The share of trials, spread over the study, whose families are all `constant`.
    constants: Annotated[Real, Field(ge=0, le=1)] = 0.15


class PrunerOptions(_Table):
    """What ends a trial early, asked after each epoch."""

    name: Literal["asha", "hyperband", "median", "patient", "none"] = "asha"
    #: No trial is pruned before so many epochs.
    min_epochs: Annotated[StrictInt, Field(ge=1)] = 5
    #: asha, hyperband: one trial in so many survives a rung.
    reduction_factor: Annotated[StrictInt, Field(ge=2)] = 3
    #: median, patient: no trial is pruned before so many are complete.
    startup_trials: Annotated[StrictInt, Field(ge=0)] = 5
    #: patient: epochs without improvement before the median rule may prune.
    patience: Annotated[StrictInt, Field(ge=0)] = 5


class Search(_Table):
    """How the study searches; flags of `start` override it."""

    trials: Annotated[StrictInt, Field(ge=1)] = 100
    seeds: Annotated[StrictInt, Field(ge=1)] = 1
    seed: Annotated[StrictInt, Field(ge=0, lt=2**32)] = 0
    sampler: SamplerOptions = SamplerOptions()
    pruner: PrunerOptions = PrunerOptions()


class HyperparameterTable(_Table):
    """One hyperparameter: where it stands unless a family moves it, and how far it may go."""

    default: Real | None = None
    bounds: tuple[Real, Real] | None = None
    families: dict[str, Any] = {}


class GroupTable(_Table):
    """Weights of loss terms that one family moves together."""

    members: Annotated[list[StrictStr], Field(min_length=2)]
    families: dict[str, Any]


class Document(_Table):
    """A space file, or a config: the same grammar."""

    name: Name
    task: StrictStr
    arguments: dict[str, StrictStr | StrictInt | StrictFloat | bool] = {}
    horizon: Annotated[StrictInt, Field(ge=1, le=1_000_000)]
    objective: Objective
    search: Search = Search()
    hyperparameters: dict[str, HyperparameterTable] = {}
    groups: dict[Name, GroupTable] = {}
    #: In a config: where the plan comes from (study, trial, metric, seeds, versions, confirmation).
    source: dict[str, Any] = {}
    #: In a config: what changes bits without changing meaning, as it was when the plan was found.
    numerics: dict[str, Any] = {}
