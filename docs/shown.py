"""How the page of families shows each of them: when to use it, and an example to draw."""

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
    Geco,
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
    OneCycle,
    Pi,
    Piecewise,
    PlateauOver,
    Polynomial,
    ReduceOnPlateau,
    Relobralo,
    Scale,
    Schedule,
    Softadapt,
    Step,
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
class Shown:
    """A family's example, and in which situation to try it."""

    schedule: Schedule
    when: str


_SHOWN = [
    Shown(Constant(0.5), "the question is whether moving pays at all: every search needs it."),
    Shown(Linear(0.0, 1.0, "50%"), "something should come in, or go out, over a known time."),
    Shown(Polynomial(1.0, 0.0, 2.0), "a linear decay is right, but the end wants more time."),
    Shown(
        Exponential(1.0, 0.95), "a penalty or a learning rate should shrink by a share each epoch."
    ),
    Shown(Step(1.0, 0.5, "20%"), "a recipe drops the learning rate at regular intervals."),
    Shown(Multistep(1.0, 0.3, ("40%", "80%")), "a recipe drops it at a few known epochs."),
    Shown(InverseTime(1.0, 0.1), "theory or noise asks for 1/t, slower than any exponential."),
    Shown(Cosine(1.0, 0.0), "there is no better idea for a learning rate with a known horizon."),
    Shown(
        WarmRestarts(1.0, 0.0, "20%"), "training gets stuck, or snapshots at the lows are wanted."
    ),
    Shown(Cyclical(0.0, 1.0), "a KL weight should return to zero: cyclical annealing."),
    Shown(
        Triangular(0.1, 1.0, cycle_decay=0.7), "the best learning rate is known only as a range."
    ),
    Shown(OneCycle(0.1, 1.0, 0.0), "training is short, and a large learning rate regularises."),
    Shown(WarmupStableDecay(0.0, 1.0, 0.0), "the horizon may still grow: only the decay moves."),
    Shown(LogisticRamp(0.0, 1.0), "a term should switch on softly, in the middle of the run."),
    Shown(
        GaussianRamp(0.0, 1.0, duration="60%"), "a consistency weight ramps up, as in Mean Teacher."
    ),
    Shown(Knots((0.1, 0.9, 0.4)), "the shape is unknown, and a few corners can be searched."),
    Shown(Piecewise((0.2, 0.8, 0.5)), "the same in steps: prefixes are shared, and pbt needs it."),
    Shown(
        ReduceOnPlateau(1.0, factor=0.5, patience=4),
        "the learning rate should wait until progress stalls.",
    ),
    Shown(
        IncrementOnPlateau(0.1, 0.2, patience=4),
        "something should be added each time progress stalls.",
    ),
    Shown(
        IncrementOnImprovement(0.1, 0.02),
        "the model's own success should pay for more: bootstrapping.",
    ),
    Shown(
        Greedy(0.5, 0.01, 1.0, factor=0.8, patience=3),
        "a learning rate may rise again while all goes well.",
    ),
    Shown(
        PlateauOver(Cosine(1.0, 0.0), factor=0.5, patience=4),
        "a decay is right, but should yield to a plateau.",
    ),
    Shown(Dwa(_PAIR), "tasks learn at different speeds; cheap, and needs the terms' values alone."),
    Shown(
        Softadapt(_PAIR, 1.0), "the term that rises, or falls slowest, should count more at once."
    ),
    Shown(
        Relobralo(_PAIR), "terms of a physics-informed loss should fall together, from their start."
    ),
    Shown(
        TargetContribution(_PAIR, (0.3, 0.7)), "each term should make up a known share of the loss."
    ),
    Shown(
        Geco("a", 0.3, 0.5),
        "a term must only become good enough: reconstruction within a tolerance.",
    ),
    Shown(
        Pi("a", 0.3, 0.3, 0.01), "a term should be held at a set point, such as a KL in ControlVAE."
    ),
    Shown(Warmup(Exponential(1.0, 0.97), 10), "the first steps of a schedule are too large."),
    Shown(
        Join((Linear(0.0, 1.0, 15), Exponential(1.0, 0.93)), (20,)),
        "two phases follow different rules.",
    ),
    Shown(Scale(Cosine(1.0, 0.0), 0.5), "a known shape is right, and its size is searched."),
    Shown(
        Clamp(Exponential(1.0, 0.93), 0.2, 1.0),
        "one schedule, not the whole hyperparameter, has limits.",
    ),
    Shown(Coupled(Constant(0.6), "lr"), "a value should move with another, as beta = 10 lr."),
]
SHOWN = {shown.schedule.family: shown for shown in _SHOWN}


def picture(schedule: Schedule) -> bytes:
    """Return a schedule's course as SVG, the same bytes from the same matplotlib."""
    names = schedule.members if isinstance(schedule, GroupSchedule) else ("value",)
    schedules: dict[tuple[str, ...], Schedule] = {tuple(names): schedule}
    if isinstance(schedule, Coupled):
        schedules["lr",] = Cosine(1.0, 0.1)
    follows = schedule.family in _FOLLOWING
    courses, metric = _courses(Plan(schedules))
    with rc_context({"svg.hashsalt": "schedsearch", "svg.fonttype": "none", "font.size": 8}):
        figure = Figure(figsize=(3.6, 1.5), layout="constrained")
        axes = figure.add_subplot(xlabel="epoch")
        for (name, course), style in zip(courses.items(), ("-", "--"), strict=False):
            axes.step(range(_HORIZON), course, style, where="post", color="black", label=name)
        if follows:
            axes.plot(metric, ":", color="0.45", label="validation")
        if follows or len(courses) > 1:
            axes.legend(fontsize=6, frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
        content = io.BytesIO()
        figure.savefig(content, format="svg", metadata={"Date": None})
    return content.getvalue()


_FOLLOWING = {
    "reduce_on_plateau",
    "increment_on_plateau",
    "increment_on_improvement",
    "greedy",
    "plateau_over",
}


def _courses(plan: Plan) -> tuple[dict[str, list[float]], list[float]]:
    """Return the values in each epoch of a made-up training, and its validation metric."""
    scheduler = Scheduler(plan, horizon=_HORIZON)
    courses: dict[str, list[float]] = {}
    metric: list[float] = []
    for t in range(_HORIZON):
        for name, value in scheduler.values.items():
            courses.setdefault(name, []).append(value)
        stalled = min(t, 18) + max(t - 34, 0)
        metric.append(0.2 + 0.8 * math.exp(-stalled / 9) + 0.01 * math.sin(2.3 * t))
        terms = {"a": 0.1 + 0.9 * math.exp(-t / 8), "b": 0.2 + 0.8 * math.exp(-t / 30)}
        scheduler.step(metric[-1], terms=terms)
    return courses, metric
