"""Schedule families as pure functions: no torch, no optuna, no files, no clock."""

from schedsearch.schedules.arithmetic import Noise, Offset, Product, Sum
from schedsearch.schedules.base import Feedback, GroupSchedule, Schedule, State
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
from schedsearch.schedules.durations import CURRENT_VERSION, Interval
from schedsearch.schedules.families import FAMILIES
from schedsearch.schedules.improvement import Greedy, IncrementOnImprovement
from schedsearch.schedules.loss_balancing import Dwa, Relobralo, Softadapt, TargetContribution
from schedsearch.schedules.open_loop import OpenLoop
from schedsearch.schedules.piecewise import Knots, Piecewise
from schedsearch.schedules.plateau import IncrementOnPlateau, PlateauOver, ReduceOnPlateau
from schedsearch.schedules.ramps import (
    GaussianRamp,
    GaussianRampDown,
    LogisticRamp,
    WarmupStableDecay,
)
from schedsearch.schedules.table import from_table, to_table

__all__ = [
    "CURRENT_VERSION",
    "FAMILIES",
    "Clamp",
    "Constant",
    "Cosine",
    "Coupled",
    "Cyclical",
    "Dwa",
    "Exponential",
    "Feedback",
    "GaussianRamp",
    "GaussianRampDown",
    "Geco",
    "Geometric",
    "Greedy",
    "GroupSchedule",
    "IncrementOnImprovement",
    "IncrementOnPlateau",
    "Interval",
    "InverseTime",
    "Join",
    "Knots",
    "Linear",
    "LogisticRamp",
    "Multistep",
    "Noise",
    "Offset",
    "OneCycle",
    "OpenLoop",
    "Pi",
    "Piecewise",
    "PlateauOver",
    "Polynomial",
    "Product",
    "ReduceOnPlateau",
    "Relobralo",
    "Rex",
    "Scale",
    "Schedule",
    "Softadapt",
    "State",
    "Step",
    "Sum",
    "TargetContribution",
    "Triangular",
    "WarmRestarts",
    "Warmup",
    "WarmupStableDecay",
    "from_table",
    "to_table",
]
