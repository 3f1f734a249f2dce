"""How the schedules of other libraries and of papers are written here, and how far they differ.

The values of the others were recorded by `python -m benchmarks.public_schedules`.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schedsearch.plan import Plan
from schedsearch.schedules import (
    FAMILIES,
    Constant,
    Cosine,
    Cyclical,
    Dwa,
    Exponential,
    Feedback,
    GaussianRamp,
    GaussianRampDown,
    Geco,
    Geometric,
    InverseTime,
    Join,
    Linear,
    LogisticRamp,
    Multistep,
    Offset,
    OneCycle,
    Polynomial,
    ReduceOnPlateau,
    Rex,
    Schedule,
    Softadapt,
    Step,
    Sum,
    Triangular,
    WarmRestarts,
    Warmup,
    WarmupStableDecay,
    from_table,
    to_table,
)
from schedsearch.schedules.parameters import parameters_of

_FILE = Path(__file__).with_name("public_schedules.json")
_RECORDED: dict[str, Any] = json.loads(_FILE.read_text(encoding="utf-8"))
#: The horizon of the recorded schedules.
_HORIZON = 40
#: The validation metric of the recorded ReduceLROnPlateau, and the loss terms of the others.
_METRICS: list[float] = _RECORDED["metrics"]
_TERMS: dict[str, list[float]] = _RECORDED["terms"]
_MEMBERS = tuple(f"weights.{term}" for term in _TERMS)


@dataclass(frozen=True)
class Equivalent:
    """A public schedule, and the same schedule here.

    Attributes:
        package: the key of the library in the recorded values.
        name: of the schedule there.
        schedule: here.
    """

    package: str
    name: str
    schedule: Schedule

    @property
    def known_as(self) -> str:
        """The library, its version and the schedule."""
        version = _RECORDED[self.package]["version"].partition("+")[0]
        prefix = "" if self.package == "papers" else f"{self.package} {version}".strip() + ": "
        return prefix + self.name

    @property
    def call(self) -> str:
        """How the schedule is made in its library, as code; empty if it was recorded by a formula.

        An optimizer is left out; its learning rate is 0.1.
        """
        call = _RECORDED["calls"].get(self.package, {}).get(self.name)
        return f"`{call}`" if call else ""

    @property
    def written_here(self) -> str:
        """The schedule as in a space file, without parameters at their defaults."""
        return _in_toml(to_table(self.schedule))

    def as_written(self) -> Schedule:
        """Return the schedule that a space file with this text has."""
        return from_table(tomllib.loads(self.written_here), getattr(self.schedule, "members", None))

    def recorded_values(self) -> list[float]:
        """Return the values of the public schedule."""
        values: list[float] | list[list[float]] = _RECORDED[self.package]["values"][self.name]
        return [number for row in values for number in (row if isinstance(row, list) else [row])]

    def values(self) -> list[float]:
        """Return the values here; of a group, the weights of each epoch in the order of terms."""
        names = getattr(self.schedule, "members", ("value",))
        plan = Plan({names: self.as_written()}).resolve(_HORIZON, seed=0)
        state, values = plan.start(), list[float]()
        for epoch, metric in enumerate(_METRICS):
            current = plan.values(state)
            values += [current[name] for name in names]
            terms = {term: means[epoch] for term, means in _TERMS.items()}
            state = plan.update(state, Feedback(metric, terms=terms))
        return values

    def greatest_difference(self) -> float:
        """Return the greatest difference of two values, as a fraction of the largest value."""
        recorded = self.recorded_values()
        pairs = zip(self.values(), recorded, strict=True)
        return max(abs(ours - theirs) for ours, theirs in pairs) / max(map(abs, recorded))


def _of(package: str, schedules: dict[str, Schedule]) -> Iterator[Equivalent]:
    return (Equivalent(package, name, schedule) for name, schedule in schedules.items())


_TORCH: dict[str, Schedule] = {
    "LinearLR": Linear(0.05, 0.01, 30),
    "PolynomialLR": Polynomial(0.1, 0.0, 2.0),
    "ExponentialLR": Exponential(0.1, 0.9),
    "StepLR": Step(0.1, 0.5, 10),
    "MultiStepLR": Multistep(0.1, 0.1, (20, 30)),
    "CosineAnnealingLR": Cosine(0.1, 0.001),
    "CosineAnnealingWarmRestarts": WarmRestarts(0.1, 0.001, 10, 2),
    "CyclicLR(triangular)": Triangular(0.01, 0.1, 5, 5),
    "CyclicLR(triangular2)": Triangular(0.01, 0.1, 5, 5, cycle_decay=0.5),
    "CyclicLR(exp_range)": Triangular(0.01, 0.1, 5, 5, decay_rate=0.97),
    "OneCycleLR": OneCycle(0.004, 0.1, 4e-7, 12, 28),
    "OneCycleLR, momentum": OneCycle(0.95, 0.85, 0.95, 12, 28),
    "SequentialLR(LinearLR, CosineAnnealingLR)": Warmup(Cosine(0.1, 0.0), 5),
    "ReduceLROnPlateau": ReduceOnPlateau(0.1, patience=4, factor=0.5),
}
_TRANSFORMERS: dict[str, Schedule] = {
    "constant_with_warmup": Warmup(Constant(0.1), 8, 0.0),
    "linear": Warmup(Linear(0.1, 0.0), 8, 0.0),
    "cosine": Warmup(Cosine(0.1, 0.0), 8, 0.0),
    "cosine_with_min_lr": Warmup(Cosine(0.1, 0.001), 8, 0.0),
    "cosine_warmup_with_min_lr": Warmup(Cosine(0.1, 0.001, 32), 7, 0.125),
    "cosine_with_restarts": Warmup(WarmRestarts(0.1, 0.0, "50%"), 8, 0.0),
    "polynomial": Warmup(Polynomial(0.1, 0.001, 2.0), 8, 0.0),
    "inverse_sqrt": Warmup(InverseTime(0.1, 1 / 8, power=0.5), 8, 0.0),
    "warmup_stable_decay(linear)": WarmupStableDecay(0.001, 0.1, 0.001, 8, "rest", 12),
    "warmup_stable_decay(cosine)": WarmupStableDecay(
        0.001, 0.1, 0.001, 8, "rest", 12, cooldown="cosine"
    ),
    "warmup_stable_decay(1-sqrt)": WarmupStableDecay(
        0.001, 0.1, 0.001, 8, "rest", 12, cooldown="1-sqrt"
    ),
}
_TIMM: dict[str, Schedule] = {
    "CosineLRScheduler": Cosine(0.1, 0.001),
    "CosineLRScheduler(warmup_t)": Sum(
        (
            Cosine(0.1, 0.001),
            # Until the warm-up ends, in place of the cosine.
            Join((Sum((Linear(0.001, 0.1, 5), Cosine(-0.1, -0.001, 40))), Constant(0.0)), (5,)),
        )
    ),
    "CosineLRScheduler(warmup_t, warmup_prefix)": Warmup(Cosine(0.1, 0.001), 5, 0.01),
    "CosineLRScheduler(k_decay)": Cosine(0.1, 0.001, k_decay=1.5),
    "CosineLRScheduler(cycle_mul, cycle_decay)": WarmRestarts(0.1, 0.001, 8, 1.5, cycle_decay=0.5),
    "PolyLRScheduler(k_decay)": Polynomial(0.1, 0.001, 0.9, k_decay=1.5),
    "TanhLRScheduler": LogisticRamp(0.1, 0.001, "70%", "5%"),
    "StepLRScheduler": Step(0.1, 0.5, 10),
    "ModelEmaV3(use_warmup), decay": Offset(InverseTime(-1.0, 0.2, power=0.75), 1.0),
}
_OPTAX: dict[str, Schedule] = {
    "cosine_decay_schedule(exponent)": Cosine(0.1, 0.001, exponent=1.5),
    "polynomial_schedule": Polynomial(0.1, 0.01, 2.0, 30),
    "exponential_decay": Exponential(0.1, 0.5**0.1),
    "warmup_cosine_decay_schedule": Warmup(Cosine(0.1, 0.001), 8, 0.0),
    "piecewise_constant_schedule": Multistep(0.1, 0.1, (20, 30)),
}
_KERAS: dict[str, Schedule] = {
    "InverseTimeDecay": InverseTime(0.1, 0.5),
    "ExponentialDecay": Exponential(0.1, 0.5**0.1),
    "PolynomialDecay": Polynomial(0.1, 0.01, 2.0, 30),
    "CosineDecay": Cosine(0.1, 0.001),
    "CosineDecayRestarts": WarmRestarts(0.1, 0.0, 8, 1.5, cycle_decay=0.5),
    "PiecewiseConstantDecay": Multistep(0.1, 0.1, (20, 30)),
}
_FASTAI: dict[str, Schedule] = {
    "fit_one_cycle": OneCycle(0.004, 0.1, 1e-6, "25%", "75%"),
    "fit_flat_cos": Join((Constant(0.1), Cosine(0.1, 1e-6)), ("75%",)),
    "lr_find": Geometric(1e-7, 10.0),
}
_PAPERS: dict[str, Schedule] = {
    "Vaswani 2017": Warmup(InverseTime(0.1, 1 / 8, power=0.5), 7, 1 / 8),
    "Hägele 2024, exponential": WarmupStableDecay(
        0.1, 0.1, 0.001, 0, "rest", 12, cooldown="exponential"
    ),
    "Shen 2024, power scheduler": Join((Constant(0.1), InverseTime(0.1, 1 / 8, power=0.51)), (8,)),
    "Zhang 2020, k-decay": Cosine(0.1, 0.001, k_decay=1.5),
    "Chen 2022, REX": Rex(0.1, 0.0),
    "Fu 2019, linear": Cyclical(0.0, 1.0),
    "Fu 2019, cosine": Cyclical(0.0, 1.0, shape="cosine"),
    "Fu 2019, sigmoid": Cyclical(0.0, 1.0, shape="sigmoid"),
    "Laine 2017, ramp-up": GaussianRamp(0.0, 1.0, duration=16),
    "Laine 2017, ramp-down": Join((Constant(1.0), GaussianRampDown(1.0, 0.0)), (30,)),
}
_SOFTADAPT: dict[str, Schedule] = {
    "NormalizedSoftAdapt, of terms that fall": Softadapt(_MEMBERS, beta=-0.1)
}
_GENESIS: dict[str, Schedule] = {
    "GECO": Geco("reconstruction", tolerance=0.9, rate=-0.1),
    "GECO(speedup)": Geco("reconstruction", tolerance=0.9, rate=-0.1, speedup=10.0),
}

EQUIVALENTS = (
    *_of("torch", _TORCH),
    *_of("transformers", _TRANSFORMERS),
    *_of("timm", _TIMM),
    *_of("optax", _OPTAX),
    *_of("keras", _KERAS),
    *_of("fastai", _FASTAI),
    *_of("papers", _PAPERS),
    *_of("genesis", _GENESIS),
    *_of("LibMTL", {"DWA": Dwa(_MEMBERS)}),
    *_of("PhysicsNeMo Sym", {"SoftAdapt, one epoch later": Dwa(_MEMBERS, temperature=1.0)}),
    *_of("softadapt", _SOFTADAPT),
)


def _in_toml(table: Mapping[str, Any]) -> str:
    """Return a schedule as `family = { ... }`, without parameters at their defaults."""
    [(family, parameters)] = table.items()
    known = parameters_of(FAMILIES[family])
    defaults = {p.name: p.default for p in known if not p.required}
    given = [
        f"{name} = {_toml_value(value)}"
        for name, value in parameters.items()
        if name not in defaults or defaults[name] != value
    ]
    return f"{family} = {{ {', '.join(given)} }}" if given else f"{family} = {{}}"


def _toml_value(value: Any) -> str:
    match value:
        case bool() | str():
            return json.dumps(value)
        case dict():
            return f"{{ {_in_toml(value)} }}"
        case list() | tuple():
            return f"[{', '.join(map(_toml_value, value))}]"
    return repr(value)


def rows() -> Sequence[Sequence[str]]:
    """Return the table: what you know, its call, what is written here, the greatest difference."""
    head = ("what you know", "as it was called", "written here", "greatest difference")
    return [head, *([e.known_as, e.call, f"`{e.written_here}`", _shown(e)] for e in EQUIVALENTS)]


def _shown(equivalent: Equivalent) -> str:
    """Return the difference as text that is the same on every processor."""
    difference = equivalent.greatest_difference()
    limit = next((text for text in ("1e-12", "1e-6") if difference < float(text)), None)
    return f"below {limit}" if limit else f"{difference:.1g}"
