"""A forecast of a plan's objective at the horizon, from the plans that were trained before."""

from schedsearch.forecast.forecast import PlanForecast, RunForecast
from schedsearch.forecast.history import TrainedPlan, TrainedPlans, representative
from schedsearch.forecast.paths import coarse, part, path_of, values_key
from schedsearch.forecast.prior import EarlierResults

__all__ = [
    "EarlierResults",
    "PlanForecast",
    "RunForecast",
    "TrainedPlan",
    "TrainedPlans",
    "coarse",
    "part",
    "path_of",
    "representative",
    "values_key",
]
