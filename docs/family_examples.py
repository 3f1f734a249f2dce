"""An example of each family for the page of families: when to use it, and a picture."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from schedsearch.plan import Plan
from schedsearch.scheduler import Scheduler
from schedsearch.schedules import (
    Clamp,
    Constant,
    Cosine,
    Coupled,
    Cyclical,
    Dwa,
    Exponential,
    GaussianRamp,
    GaussianRampDown,
    Geco,
    Geometric,
    Greedy,
    GroupSchedule,
    IncrementOnImprovement,
    IncrementOnPlateau,
    InverseTime,
    Join,
    Knots,
    Linear,
    LogisticRamp,
    Multistep,
    Noise,
    Offset,
    OneCycle,
    Pi,
    Piecewise,
    PlateauOver,
    Polynomial,
    Product,
    ReduceOnPlateau,
    Relobralo,
    Rex,
    Scale,
    Schedule,
    Softadapt,
    Step,
    Sum,
    TargetContribution,
    Triangular,
    WarmRestarts,
    Warmup,
    WarmupStableDecay,
)

IMAGES = Path(__file__).parent / "images" / "families"
_HORIZON = 60
_PAIR = ("weights.a", "weights.b")


@dataclass(frozen=True)
class Example:
    """An example of a family, and when to use the family."""

    schedule: Schedule
    when: str


_EXAMPLES = [
    Example(
        Constant(0.5), "you want to know whether a schedule helps at all: every search needs it."
    ),
    Example(Linear(0.0, 1.0, "50%"), "a value should rise or fall over a known time."),
    Example(
        Polynomial(1.0, 0.0, 2.0), "a linear decay is right, but needs more time at low values."
    ),
    Example(
        Exponential(1.0, 0.95),
        "a penalty or a learning rate should shrink by a fixed factor each epoch.",
    ),
    Example(
        Geometric(1.0, 0.01),
        "you know the first and the last value of an exponential decay, and not its factor.",
    ),
    Example(Rex(1.0, 0.0), "training is short: the value stays high longer than with a line."),
    Example(Step(1.0, 0.5, "20%"), "the learning rate should drop at regular intervals."),
    Example(
        Multistep(1.0, 0.3, ("40%", "80%")), "the learning rate should drop at a few known epochs."
    ),
    Example(
        InverseTime(1.0, 0.1), "theory or noise suggests a 1/t decay, slower than any exponential."
    ),
    Example(Cosine(1.0, 0.0), "you need a good default for a learning rate with a known horizon."),
    Example(
        WarmRestarts(1.0, 0.0, "20%"),
        "training gets stuck, or you want snapshots at the low values.",
    ),
    Example(
        Cyclical(0.0, 1.0), "a KL weight should return to zero periodically: cyclical annealing."
    ),
    Example(
        Triangular(0.1, 1.0, cycle_decay=0.7), "you know only a range for the best learning rate."
    ),
    Example(OneCycle(0.1, 1.0, 0.0), "training is short, and a large learning rate regularises."),
    Example(
        WarmupStableDecay(0.0, 1.0, 0.0),
        "you may extend the horizon later: only the decay is shifted.",
    ),
    Example(LogisticRamp(0.0, 1.0), "a term should switch on smoothly in the middle of the run."),
    Example(
        GaussianRamp(0.0, 1.0, duration="60%"), "a consistency weight ramps up, as in Mean Teacher."
    ),
    Example(
        GaussianRampDown(1.0, 0.0), "a value ramps down at the end, as in Temporal Ensembling."
    ),
    Example(Knots((0.1, 0.9, 0.4)), "the shape is unknown, and a few points can be searched."),
    Example(
        Piecewise((0.2, 0.8, 0.5)),
        "the shape is unknown, and trials should share prefixes; the sampler `pbt` needs it.",
    ),
    Example(
        ReduceOnPlateau(1.0, factor=0.5, patience=4),
        "the learning rate should drop only when progress stalls.",
    ),
    Example(
        IncrementOnPlateau(0.1, 0.2, patience=4),
        "a value should change by a fixed amount each time progress stalls.",
    ),
    Example(
        IncrementOnImprovement(0.1, 0.02),
        "a value should rise as the model improves, as in bootstrapping.",
    ),
    Example(
        Greedy(0.5, 0.01, 1.0, factor=0.8, patience=3),
        "a learning rate may rise again while the metric improves.",
    ),
    Example(
        PlateauOver(Cosine(1.0, 0.0), factor=0.5, patience=4),
        "a decay is right, but should also react to a plateau.",
    ),
    Example(
        Dwa(_PAIR),
        "tasks learn at different speeds; it is cheap and needs only the values of the terms.",
    ),
    Example(
        Softadapt(_PAIR, 1.0),
        "the term that rises, or falls most slowly, should get a larger weight at once.",
    ),
    Example(
        Relobralo(_PAIR),
        "the terms of a physics-informed loss should fall together, relative to their start.",
    ),
    Example(
        TargetContribution(_PAIR, (0.3, 0.7)), "each term should make up a known share of the loss."
    ),
    Example(
        Geco("a", 0.3, 0.5),
        "a term only has to reach a tolerance, such as a reconstruction error.",
    ),
    Example(
        Pi("a", 0.3, 0.3, 0.01), "a term should stay at a set point, such as the KL in ControlVAE."
    ),
    Example(Warmup(Exponential(1.0, 0.97), 10), "the first values of a schedule are too large."),
    Example(
        Join((Linear(0.0, 1.0, 15), Exponential(1.0, 0.93)), (20,)),
        "two phases need different schedules.",
    ),
    Example(
        Product((Cosine(1.0, 0.0), Step(1.0, 0.5, "25%"))),
        "two effects multiply, such as a decay and a drop on a plateau.",
    ),
    Example(
        Sum((Linear(0.5, 0.0), WarmRestarts(0.5, 0.0))),
        "a value has two parts, each with a schedule.",
    ),
    Example(Scale(Cosine(1.0, 0.0), 0.5), "you know the shape and search its size."),
    Example(
        Offset(InverseTime(-1.0, 0.1, power=0.67), 1.0),
        "a value should approach a limit, such as the decay of a moving average of the weights, "
        "or fall while another one rises: then `inner` is `coupled` with a negative factor.",
    ),
    Example(
        Clamp(Exponential(1.0, 0.93), 0.2, 1.0),
        "one schedule needs limits, but not the whole hyperparameter.",
    ),
    Example(
        Noise(Cosine(1.0, 0.1), limit=0.3),
        "training may depend on one sequence of values too closely: the noise differs by seed.",
    ),
    Example(
        Coupled(Constant(0.6), "lr"),
        "a value should be proportional to another one, such as beta = 10 lr.",
    ),
]
EXAMPLES = {example.schedule.family: example for example in _EXAMPLES}

#: How each combinator is written in a space file.
COMBINATORS_IN_TOML = {
    "warmup": """\
[hyperparameters.lr.families.warmup]
duration = { low = "2%", high = "20%" }
[hyperparameters.lr.families.warmup.inner.exponential]
initial = { low = 1e-3, high = 1e-1, log = true }
decay_rate = { low = 0.8, high = 1.0 }
""",
    "join": """\
[hyperparameters.lr.families.join]
boundaries = [{ low = "20%", high = "60%" }]
[[hyperparameters.lr.families.join.schedules]]
linear = { initial = 0.0, final = 0.1 }
[[hyperparameters.lr.families.join.schedules]]
exponential = { initial = 0.1, decay_rate = { low = 0.8, high = 1.0 } }
""",
    "product": """\
[hyperparameters.lr.families.product]
[[hyperparameters.lr.families.product.schedules]]
cosine = { initial = { low = 1e-3, high = 1e-1, log = true }, final = 0.0 }
[[hyperparameters.lr.families.product.schedules]]
reduce_on_plateau = { initial = 1.0, factor = 0.5, patience = 5 }
""",
    "sum": """\
[hyperparameters.lr.families.sum]
[[hyperparameters.lr.families.sum.schedules]]
linear = { initial = { low = 1e-3, high = 1e-1, log = true }, final = 0.0 }
[[hyperparameters.lr.families.sum.schedules]]
warm_restarts = { initial = { low = 1e-4, high = 1e-2, log = true }, final = 0.0 }
""",
    "offset": """\
[hyperparameters.momentum.families.offset]
amount = 1.0
[hyperparameters.momentum.families.offset.inner.coupled]
to = "lr"
factor = { constant = { value = { low = -5.0, high = -0.5 } } }
""",
    "scale": """\
[hyperparameters.lr.families.scale]
factor = { low = 1e-4, high = 1e-1, log = true }
[hyperparameters.lr.families.scale.inner.cosine]
initial = 1.0
final = 0.0
""",
    "clamp": """\
[hyperparameters.lr.families.clamp]
low = 1e-3
high = 1e-1
[hyperparameters.lr.families.clamp.inner.exponential]
initial = { low = 1e-2, high = 1.0, log = true }
decay_rate = { low = 0.8, high = 1.0 }
""",
    "noise": """\
[hyperparameters.lr.families.noise]
limit = { low = 0.1, high = 0.7 }
begin = "50%"
[hyperparameters.lr.families.noise.inner.cosine]
initial = { low = 1e-3, high = 1e-1, log = true }
final = 0.0
""",
    "coupled": """\
[hyperparameters.beta.families.coupled]
to = "lr"
[hyperparameters.beta.families.coupled.factor.constant]
value = { low = 1.0, high = 100.0, log = true }
""",
    "plateau_over": """\
[hyperparameters.lr.families.plateau_over]
factor = { low = 0.1, high = 0.9 }
patience = { low = 2, high = 10 }
[hyperparameters.lr.families.plateau_over.inner.cosine]
initial = { low = 1e-3, high = 1e-1, log = true }
final = 0.0
""",
}


def picture(schedule: Schedule) -> bytes:
    """Return a plot of a schedule as SVG: the same bytes with the same matplotlib."""
    names = schedule.members if isinstance(schedule, GroupSchedule) else ("value",)
    schedules: dict[tuple[str, ...], Schedule] = {tuple(names): schedule}
    if isinstance(schedule, Coupled):
        schedules["lr",] = Cosine(1.0, 0.1)
    closed_loop = schedule.family in _CLOSED_LOOP
    values, metric = _simulate(Plan(schedules))
    with rc_context({"svg.hashsalt": "schedsearch", "svg.fonttype": "none", "font.size": 8}):
        figure = Figure(figsize=(3.6, 1.5), layout="constrained")
        axes = figure.add_subplot(xlabel="epoch")
        for (name, curve), style in zip(values.items(), ("-", "--"), strict=False):
            axes.step(range(_HORIZON), curve, style, where="post", color="black", label=name)
        if closed_loop:
            axes.plot(metric, ":", color="0.45", label="validation")
        if closed_loop or len(values) > 1:
            axes.legend(fontsize=6, frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
        content = io.BytesIO()
        figure.savefig(content, format="svg", metadata={"Date": None})
    return content.getvalue()


_CLOSED_LOOP = {
    "reduce_on_plateau",
    "increment_on_plateau",
    "increment_on_improvement",
    "greedy",
    "plateau_over",
}


def _simulate(plan: Plan) -> tuple[dict[str, list[float]], list[float]]:
    """Return the values in each epoch of a synthetic training, and its validation metric."""
    scheduler = Scheduler(plan, horizon=_HORIZON)
    values: dict[str, list[float]] = {}
    metric: list[float] = []
    for t in range(_HORIZON):
        for name, value in scheduler.values.items():
            values.setdefault(name, []).append(value)
        stalled = min(t, 18) + max(t - 34, 0)
        metric.append(0.2 + 0.8 * math.exp(-stalled / 9) + 0.01 * math.sin(2.3 * t))
        terms = {"a": 0.1 + 0.9 * math.exp(-t / 8), "b": 0.2 + 0.8 * math.exp(-t / 30)}
        scheduler.step(metric[-1], terms=terms)
    return values, metric
