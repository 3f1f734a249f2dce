"""Hypothesis strategies for valid schedules of every family, for feedback, and for plans.

They are derived from the parameters of the families, so a new family needs no new strategy.
"""

from typing import Any

from hypothesis import assume, reject
from hypothesis import strategies as st

from schedsearch.errors import ParameterError
from schedsearch.plan import Plan
from schedsearch.schedules import FAMILIES, Constant, Feedback, GroupSchedule, OpenLoop, Schedule
from schedsearch.schedules.parameters import Parameter, ParameterType, parameters_of

TERMS = ("reconstruction", "kl")
MEMBERS = tuple(f"weights.{term}" for term in TERMS)
#: The current values of the hyperparameters that a family may name.
PEERS = dict.fromkeys(TERMS, 0.5)

#: Families without inner schedules: valid as an inner schedule of every combinator.
INNER_FAMILIES = tuple(
    name
    for name, cls in FAMILIES.items()
    if not issubclass(cls, GroupSchedule)
    and not any(parameter.type is ParameterType.SCHEDULE for parameter in parameters_of(cls))
)
OPEN_LOOP = tuple(name for name, cls in FAMILIES.items() if issubclass(cls, OpenLoop))

#: Parameters of one family that must be in ascending order.
ASCENDING = (("low", "high"), ("min_value", "initial", "max_value"))

numbers = st.one_of(
    st.floats(0.01, 0.99), st.floats(0.01, 10.0), st.floats(-10.0, 10.0), st.just(0.0)
)
counts = st.integers(0, 12)
shares = st.builds("{}%".format, st.one_of(st.integers(0, 150), st.floats(0.01, 150.0)))
durations = st.one_of(st.integers(0, 40), st.integers(0, 2000), shares)
horizons = st.integers(1, 1000)


def values_of(parameter: Parameter, sizes: tuple[int, int]) -> st.SearchStrategy[Any]:
    """Values that satisfy the constraints of a parameter; `sizes` are limits for lists."""
    match parameter.type:
        case ParameterType.NUMBER:
            item: st.SearchStrategy[Any] = numbers
        case ParameterType.COUNT:
            item = counts
        case ParameterType.MULTIPLE:
            item = st.one_of(st.integers(1, 4), st.floats(1.0, 4.0))
        case ParameterType.DURATION | ParameterType.EPOCH_COUNT:
            item = st.one_of(durations, st.just("rest")) if parameter.may_be_rest else durations
        case ParameterType.FLAG:
            item = st.booleans()
        case ParameterType.CHOICE:
            item = st.sampled_from(parameter.choices)
        case ParameterType.NAME:
            item = st.sampled_from(TERMS)
        case ParameterType.SCHEDULE:
            item = st.sampled_from(INNER_FAMILIES).flatmap(schedules_of)
    if parameter.is_list:
        item = st.lists(item, min_size=sizes[0], max_size=sizes[1]).map(tuple)
    return item.filter(lambda value: parameter.violated_constraint(value) is None)


@st.composite
def schedules_of(draw: st.DrawFn, family: str) -> Schedule:
    """Valid schedules of one family, with durations in epochs and in shares, as in a config."""
    cls = FAMILIES[family]
    sizes = (len(MEMBERS),) * 2 if issubclass(cls, GroupSchedule) else (1, 4)
    given: dict[str, Any] = {}
    for parameter in parameters_of(cls):
        if parameter.name == "members":
            given["members"] = MEMBERS
        elif parameter.required or draw(st.booleans()):
            given[parameter.name] = draw(values_of(parameter, sizes))
    for names in ASCENDING:
        present = [name for name in names if name in given]
        given |= zip(present, sorted(given[name] for name in present), strict=True)
    if family == "join":
        ends = sorted(draw(st.lists(st.integers(1, 40), min_size=1, max_size=3)))
        unit = draw(st.sampled_from(["", "%"]))
        given["boundaries"] = tuple(f"{end}%" if unit else end for end in ends)
        inner = st.sampled_from(INNER_FAMILIES).flatmap(schedules_of)
        given["schedules"] = tuple(draw(inner) for _ in range(len(ends) + 1))
    try:
        return cls(**given)
    except ParameterError:
        reject()


@st.composite
def resolved_of(
    draw: st.DrawFn, family: str, horizons: st.SearchStrategy[int] = horizons
) -> tuple[Schedule, int]:
    """Resolved schedules with their horizon, without schedules whose values overflow."""
    schedule, horizon = draw(schedules_of(family)), draw(horizons)
    try:
        return schedule.resolve(horizon, seed=draw(st.integers(0, 99))), horizon
    except ParameterError as refused:
        assume("overflows" not in refused.rule)
        raise


def feedbacks_of(
    metrics: st.SearchStrategy[float], terms: st.SearchStrategy[float]
) -> st.SearchStrategy[Feedback]:
    return st.builds(
        lambda metric, values: Feedback(metric, {"loss": metric}, values),
        metrics,
        st.fixed_dictionaries(dict.fromkeys(TERMS, terms)),
    )


#: Metrics with plateaus, negative values and NaN.
feedbacks = feedbacks_of(
    st.one_of(st.floats(-10.0, 10.0), st.sampled_from([1.0, 0.0, -1.0, float("nan")])),
    st.floats(1e-3, 1e3),
)
#: The feedback of a training that diverged.
wild_feedbacks = feedbacks_of(st.floats(), st.one_of(st.floats(), st.just(0.0)))


SINGLE = tuple(n for n, cls in FAMILIES.items() if not issubclass(cls, GroupSchedule))
GROUPS = tuple(n for n, cls in FAMILIES.items() if issubclass(cls, GroupSchedule))


def bounds():
    ends = st.lists(st.floats(-100, 100), min_size=2, max_size=2)
    return ends.map(lambda pair: (min(pair), max(pair)))


@st.composite
def plans(draw):
    """Plans over every family: constants to couple to, one random schedule, and often a group."""
    schedules = {(term,): Constant(0.5) for term in TERMS}
    schedules[("lr",)] = draw(st.sampled_from(SINGLE).flatmap(schedules_of))
    if draw(st.booleans()):
        schedules[MEMBERS] = draw(st.sampled_from(GROUPS).flatmap(schedules_of))
    names = st.sampled_from(["lr", *TERMS])
    return Plan(schedules, draw(st.dictionaries(names, bounds(), max_size=2)))
