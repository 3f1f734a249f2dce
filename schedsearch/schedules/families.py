"""All families by name, grouped by their input: the epoch, the metric, loss terms, schedules."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from schedsearch.schedules.arithmetic import Noise, Offset, Product, Sum
from schedsearch.schedules.base import Schedule
from schedsearch.schedules.combinators import Clamp, Coupled, Join, Scale, Warmup
from schedsearch.schedules.controllers import Geco, Pi
from schedsearch.schedules.cycles import Cyclical, OneCycle, Triangular, WarmRestarts
from schedsearch.schedules.decay import (
    Constant,
    Cosine,
    Exponential,
    Geometric,
    InverseTime,
    Linear,
    Multistep,
    Polynomial,
    Rex,
    Step,
)
from schedsearch.schedules.improvement import Greedy, IncrementOnImprovement
from schedsearch.schedules.loss_balancing import Dwa, Relobralo, Softadapt, TargetContribution
from schedsearch.schedules.piecewise import Knots, Piecewise
from schedsearch.schedules.plateau import IncrementOnPlateau, PlateauOver, ReduceOnPlateau
from schedsearch.schedules.ramps import (
    GaussianRamp,
    GaussianRampDown,
    LogisticRamp,
    WarmupStableDecay,
)

OPEN_LOOP_FAMILIES: tuple[type[Schedule], ...] = (
    Constant,
    Linear,
    Polynomial,
    Exponential,
    Geometric,
    Rex,
    Step,
    Multistep,
    InverseTime,
    Cosine,
    WarmRestarts,
    Cyclical,
    Triangular,
    OneCycle,
    WarmupStableDecay,
    LogisticRamp,
    GaussianRamp,
    GaussianRampDown,
    Knots,
    Piecewise,
)
METRIC_FAMILIES: tuple[type[Schedule], ...] = (
    ReduceOnPlateau,
    IncrementOnPlateau,
    IncrementOnImprovement,
    Greedy,
)
LOSS_TERM_FAMILIES: tuple[type[Schedule], ...] = (
    Dwa,
    Softadapt,
    Relobralo,
    TargetContribution,
    Geco,
    Pi,
)
COMBINATORS: tuple[type[Schedule], ...] = (
    Warmup,
    Join,
    Product,
    Sum,
    Scale,
    Offset,
    Clamp,
    Coupled,
    Noise,
    PlateauOver,
)

FAMILIES: Mapping[str, type[Schedule]] = MappingProxyType(
    {
        cls.family: cls
        for cls in (*OPEN_LOOP_FAMILIES, *METRIC_FAMILIES, *LOSS_TERM_FAMILIES, *COMBINATORS)
    }
)
