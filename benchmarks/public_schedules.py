"""Record the values of public schedules: `python -m benchmarks.public_schedules [LIBRARY ...]`.

The values of every installed library are written to docs/public_schedules.json, with its
version; those of libraries that are not installed stay as they are. docs/equivalents.py says how
each schedule is written here, and the tests compare the values. Formulas of papers are written out.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import torch

FILE = Path(__file__).parents[1] / "docs" / "public_schedules.json"
#: The number of values that are recorded of each schedule.
EPOCHS = 40
#: What a schedule begins with or peaks at.
PEAK = 0.1

#: The values of a schedule; of the weights of several loss terms, a list at each epoch.
Values: TypeAlias = list[float] | list[list[float]]
Recorder: TypeAlias = Callable[[], Values]
_RECORDERS: dict[str, dict[str, Recorder]] = {}
#: How each schedule is made in its library; those of formulas have none.
_CALLS: dict[Recorder, str] = {}


def _recorded(library: str, name: str, call: str) -> Callable[[Recorder], Recorder]:
    def register(recorder: Recorder) -> Recorder:
        _RECORDERS.setdefault(library, {})[name] = recorder
        _CALLS[recorder] = call
        return recorder

    return register


def _with_call(recorder: Recorder, name: str, options: Mapping[str, Any]) -> Recorder:
    """Return a recorder, after its call is noted for the table; an optimizer is left out."""
    shown = [f"{key}={value!r}" for key, value in options.items()]
    _CALLS[recorder] = f"{name}({', '.join(shown)})"
    return recorder


def _stepped(make: Callable[[Any], Any], metrics: Sequence[float] = ()) -> list[float]:
    """Return the learning rates of a scheduler of torch or transformers."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    scheduler, values = make(optimizer), []
    for epoch in range(EPOCHS):
        values.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step(*metrics[epoch : epoch + 1])
    return values


# --- torch ---------------------------------------------------------------------------------------

_LR = torch.optim.lr_scheduler


def _torch(name: str, **options: Any) -> Recorder:
    def record() -> Values:
        return _stepped(lambda optimizer: getattr(_LR, name)(optimizer, **options))

    return _with_call(record, name, options)


_CYCLE: dict[str, Any] = {
    "base_lr": 0.01,
    "max_lr": 0.1,
    "step_size_up": 5,
    "cycle_momentum": False,
}
_ONE_CYCLE: dict[str, Any] = {"max_lr": 0.1, "total_steps": 41, "pct_start": 13 / 41}
_RECORDERS["torch"] = {
    "LinearLR": _torch("LinearLR", start_factor=0.5, end_factor=0.1, total_iters=30),
    "PolynomialLR": _torch("PolynomialLR", total_iters=40, power=2.0),
    "ExponentialLR": _torch("ExponentialLR", gamma=0.9),
    "StepLR": _torch("StepLR", step_size=10, gamma=0.5),
    "MultiStepLR": _torch("MultiStepLR", milestones=[20, 30], gamma=0.1),
    "CosineAnnealingLR": _torch("CosineAnnealingLR", T_max=40, eta_min=0.001),
    "CosineAnnealingWarmRestarts": _torch(
        "CosineAnnealingWarmRestarts", T_0=10, T_mult=2, eta_min=0.001
    ),
    "CyclicLR(triangular)": _torch("CyclicLR", **_CYCLE),
    "CyclicLR(triangular2)": _torch("CyclicLR", **_CYCLE, mode="triangular2"),
    "CyclicLR(exp_range)": _torch("CyclicLR", **_CYCLE, mode="exp_range", gamma=0.97),
    "OneCycleLR": _torch("OneCycleLR", **_ONE_CYCLE, cycle_momentum=False),
}


@_recorded(
    "torch",
    "SequentialLR(LinearLR, CosineAnnealingLR)",
    "SequentialLR([LinearLR(start_factor=0.1, total_iters=5), CosineAnnealingLR(T_max=35)], "
    "milestones=[5])",
)
def _sequential() -> Values:
    return _stepped(
        lambda o: _LR.SequentialLR(
            o,
            [_LR.LinearLR(o, start_factor=0.1, total_iters=5), _LR.CosineAnnealingLR(o, 35)],
            milestones=[5],
        )
    )


#: A validation metric with plateaus, for ReduceLROnPlateau.
METRICS = [1.0, 0.9, 0.8, *[0.8] * 12, 0.7, *[0.75] * 12, 0.6, *[0.6] * 11]


@_recorded("torch", "ReduceLROnPlateau", "ReduceLROnPlateau(factor=0.5, patience=4)")
def _reduce_on_plateau() -> Values:
    return _stepped(lambda o: _LR.ReduceLROnPlateau(o, factor=0.5, patience=4), METRICS)


@_recorded(
    "torch", "OneCycleLR, momentum", f"OneCycleLR(max_lr=0.1, total_steps=41, pct_start={13 / 41})"
)
def _one_cycle_momentum() -> Values:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK, momentum=0.9)
    scheduler = _LR.OneCycleLR(optimizer, **_ONE_CYCLE)
    values = []
    for _ in range(EPOCHS):
        values.append(float(optimizer.param_groups[0]["momentum"]))
        optimizer.step()
        scheduler.step()
    return values


# --- transformers --------------------------------------------------------------------------------


def _transformers(name: str, **options: Any) -> Recorder:
    # Not all of them are names of the package itself.
    def record() -> Values:
        make = getattr(import_module("transformers.optimization"), name)
        return _stepped(lambda optimizer: make(optimizer, **options))

    return _with_call(record, name, options)


_TRANSFORMERS: dict[str, Recorder] = {
    "constant_with_warmup": _transformers("get_constant_schedule_with_warmup", num_warmup_steps=8),
    "linear": _transformers(
        "get_linear_schedule_with_warmup", num_warmup_steps=8, num_training_steps=40
    ),
    "cosine": _transformers(
        "get_cosine_schedule_with_warmup", num_warmup_steps=8, num_training_steps=40
    ),
    "cosine_with_min_lr": _transformers(
        "get_cosine_with_min_lr_schedule_with_warmup",
        num_warmup_steps=8,
        num_training_steps=40,
        min_lr=0.001,
    ),
    "cosine_warmup_with_min_lr": _transformers(
        "get_cosine_with_min_lr_schedule_with_warmup_lr_rate",
        num_warmup_steps=8,
        num_training_steps=40,
        min_lr=0.001,
    ),
    "cosine_with_restarts": _transformers(
        "get_cosine_with_hard_restarts_schedule_with_warmup",
        num_warmup_steps=8,
        num_training_steps=40,
        num_cycles=2,
    ),
    "polynomial": _transformers(
        "get_polynomial_decay_schedule_with_warmup",
        num_warmup_steps=8,
        num_training_steps=40,
        lr_end=0.001,
        power=2.0,
    ),
    "inverse_sqrt": _transformers("get_inverse_sqrt_schedule", num_warmup_steps=8),
    **{
        f"warmup_stable_decay({shape})": _transformers(
            "get_wsd_schedule",
            num_warmup_steps=8,
            num_stable_steps=20,
            num_decay_steps=12,
            min_lr_ratio=0.01,
            decay_type=shape,
        )
        for shape in ("linear", "cosine", "1-sqrt")
    },
}
_RECORDERS["transformers"] = _TRANSFORMERS


# --- timm ----------------------------------------------------------------------------------------


def _timm(name: str, **options: Any) -> Recorder:
    def record() -> Values:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
        scheduler = getattr(import_module("timm.scheduler"), name)(optimizer, **options)
        values = []
        for epoch in range(EPOCHS):
            scheduler.step(epoch)
            values.append(float(optimizer.param_groups[0]["lr"]))
        return values

    return _with_call(record, name, options)


_RECORDERS["timm"] = {
    "CosineLRScheduler": _timm("CosineLRScheduler", t_initial=40, lr_min=0.001),
    "CosineLRScheduler(warmup_t)": _timm(
        "CosineLRScheduler", t_initial=40, lr_min=0.001, warmup_t=5, warmup_lr_init=0.001
    ),
    "CosineLRScheduler(warmup_t, warmup_prefix)": _timm(
        "CosineLRScheduler",
        t_initial=35,
        lr_min=0.001,
        warmup_t=5,
        warmup_lr_init=0.001,
        warmup_prefix=True,
    ),
    "CosineLRScheduler(k_decay)": _timm(
        "CosineLRScheduler", t_initial=40, lr_min=0.001, k_decay=1.5
    ),
    "CosineLRScheduler(cycle_mul, cycle_decay)": _timm(
        "CosineLRScheduler",
        t_initial=8,
        lr_min=0.001,
        cycle_mul=1.5,
        cycle_decay=0.5,
        cycle_limit=9,
    ),
    "PolyLRScheduler(k_decay)": _timm(
        "PolyLRScheduler", t_initial=40, lr_min=0.001, power=0.9, k_decay=1.5
    ),
    "TanhLRScheduler": _timm("TanhLRScheduler", t_initial=40, lr_min=0.001),
    "StepLRScheduler": _timm("StepLRScheduler", decay_t=10, decay_rate=0.5),
}


@_recorded(
    "timm",
    "ModelEmaV3(use_warmup), decay",
    "ModelEmaV3(model, decay=1.0, use_warmup=True, warmup_gamma=5.0, warmup_power=0.75)",
)
def _ema_decay() -> Values:
    ema = import_module("timm.utils.model_ema").ModelEmaV3(
        torch.nn.Linear(1, 1), decay=1.0, use_warmup=True, warmup_gamma=5.0, warmup_power=0.75
    )
    # The decay of step t + 1 is 1 - (1 + t / gamma) ** -power, and 0 before.
    return [float(ema.get_decay(step + 1)) for step in range(EPOCHS)]


# --- optax and keras -----------------------------------------------------------------------------


def _optax(name: str, **options: Any) -> Recorder:
    def record() -> Values:
        import_module("jax").config.update("jax_enable_x64", True)
        schedule = getattr(import_module("optax"), name)(**options)
        return [float(schedule(epoch)) for epoch in range(EPOCHS)]

    return _with_call(record, name, options)


_RECORDERS["optax"] = {
    "cosine_decay_schedule(exponent)": _optax(
        "cosine_decay_schedule", init_value=0.1, decay_steps=40, alpha=0.01, exponent=1.5
    ),
    "polynomial_schedule": _optax(
        "polynomial_schedule", init_value=0.1, end_value=0.01, power=2.0, transition_steps=30
    ),
    "exponential_decay": _optax(
        "exponential_decay", init_value=0.1, transition_steps=10, decay_rate=0.5
    ),
    "warmup_cosine_decay_schedule": _optax(
        "warmup_cosine_decay_schedule",
        init_value=0.0,
        peak_value=0.1,
        warmup_steps=8,
        decay_steps=40,
        end_value=0.001,
    ),
    "piecewise_constant_schedule": _optax(
        "piecewise_constant_schedule",
        init_value=0.1,
        boundaries_and_scales={20: 0.1, 30: 0.1},
    ),
}


def _keras(name: str, **options: Any) -> Recorder:
    def record() -> Values:
        # Another backend rounds otherwise, and may begin a restart one epoch apart.
        os.environ["KERAS_BACKEND"] = "jax"
        import_module("jax").config.update("jax_enable_x64", True)
        schedules = import_module("keras").optimizers.schedules
        schedule = getattr(schedules, name)(**options)
        return [float(schedule(epoch)) for epoch in range(EPOCHS)]

    return _with_call(record, name, options)


_RECORDERS["keras"] = {
    "InverseTimeDecay": _keras(
        "InverseTimeDecay", initial_learning_rate=0.1, decay_steps=1, decay_rate=0.5
    ),
    "ExponentialDecay": _keras(
        "ExponentialDecay", initial_learning_rate=0.1, decay_steps=10, decay_rate=0.5
    ),
    "PolynomialDecay": _keras(
        "PolynomialDecay",
        initial_learning_rate=0.1,
        decay_steps=30,
        end_learning_rate=0.01,
        power=2.0,
    ),
    "CosineDecay": _keras("CosineDecay", initial_learning_rate=0.1, decay_steps=40, alpha=0.01),
    "CosineDecayRestarts": _keras(
        "CosineDecayRestarts",
        initial_learning_rate=0.1,
        first_decay_steps=8,
        t_mul=1.5,
        m_mul=0.5,
    ),
    "PiecewiseConstantDecay": _keras(
        "PiecewiseConstantDecay", boundaries=[19, 29], values=[0.1, 0.01, 0.001]
    ),
}


# --- fastai and papers, by their formulas --------------------------------------------------------


def _formula(value: Callable[[int], float]) -> Recorder:
    return lambda: [float(value(epoch)) for epoch in range(EPOCHS)]


def _kl_cycle(shape: Callable[[float], float]) -> Recorder:
    """frange_cycle_* of github.com/haofuml/cyclical_annealing: 4 cycles, half of each rising."""

    def record() -> Values:
        values, period = [1.0] * EPOCHS, EPOCHS / 4
        step = 1.0 / (period * 0.5)
        for cycle in range(4):
            value, since = 0.0, 0
            while value <= 1.0 and int(since + cycle * period) < EPOCHS:
                values[int(since + cycle * period)] = shape(value)
                value += step
                since += 1
        return values

    return record


_RECORDERS["papers"] = {
    "Vaswani 2017": _formula(lambda t: 0.1 * min((t + 1) / 8, ((t + 1) / 8) ** -0.5)),
    "Hägele 2024, exponential": _formula(
        lambda t: 0.1 if t <= 28 else 0.1 * 0.01 ** ((t - 28) / 12)
    ),
    "Shen 2024, power scheduler": _formula(lambda t: min(0.1, 0.1 * 8**0.51 * max(t, 1) ** -0.51)),
    "Zhang 2020, k-decay": _formula(
        lambda t: 0.001 + 0.099 * (1 + math.cos(math.pi * t**1.5 / 40**1.5)) / 2
    ),
    "Chen 2022, REX": _formula(lambda t: 0.1 * (1 - t / 40) / (0.5 + 0.5 * (1 - t / 40))),
    "Fu 2019, linear": _kl_cycle(lambda v: v),
    "Fu 2019, cosine": _kl_cycle(lambda v: 0.5 - 0.5 * math.cos(v * math.pi)),
    "Fu 2019, sigmoid": _kl_cycle(lambda v: 1 / (1 + math.exp(-(v * 12 - 6)))),
    "Laine 2017, ramp-up": _formula(lambda t: math.exp(-5 * (1 - min(t / 16, 1)) ** 2)),
    "Laine 2017, ramp-down": _formula(lambda t: math.exp(-12.5 * (max(t - 30, 0) / 10) ** 2)),
}


def _cosine(start: float, end: float, elapsed: float) -> float:
    """SchedCos of fastai."""
    return start + (1 + math.cos(math.pi * (1 - elapsed))) * (end - start) / 2


_RECORDERS["fastai"] = {
    "fit_one_cycle": _formula(
        lambda t: _cosine(0.004, 0.1, t / 10) if t < 10 else _cosine(0.1, 1e-6, (t - 10) / 30)
    ),
    "fit_flat_cos": _formula(lambda t: 0.1 if t < 30 else _cosine(0.1, 1e-6, (t - 30) / 10)),
    "lr_find": _formula(lambda t: 1e-7 * (10 / 1e-7) ** (t / 40)),
}


# --- families that react to loss terms -----------------------------------------------------------

#: The means of two loss terms over each epoch: both fall, at rates that differ.
TERMS = {
    "reconstruction": [2 * 0.93**t + 0.3 for t in range(EPOCHS)],
    "kl": [1 / (1 + 0.2 * t) + 0.1 for t in range(EPOCHS)],
}
_ROWS = [list(row) for row in zip(*TERMS.values(), strict=True)]


def _geco(speedup: float) -> Recorder:
    """The rule of github.com/applied-ai-lab/genesis, utils/geco.py, commit 9abf202."""

    def record() -> Values:
        goal, step_size, alpha, beta, values = 0.9, 0.1, 0.5, 1.0, []
        average = TERMS["reconstruction"][0]
        for error in TERMS["reconstruction"]:
            values.append(beta)
            average = (1 - alpha) * error + alpha * average
            constraint = goal - average
            factor = speedup if constraint > 0 else 1.0
            beta = min(max(beta * math.exp(factor * step_size * constraint), 1e-10), 1e10)
        return values

    return record


_RECORDERS["genesis"] = {"GECO": _geco(1.0), "GECO(speedup)": _geco(10.0)}


def _softmax_of_ratios(temperature: float) -> Recorder:
    """The weights after each epoch: n * softmax(L(t) / L(t - 1) / temperature)."""

    def record() -> Values:
        weights = [[1.0, 1.0], [1.0, 1.0]]
        for before, now in list(pairwise(_ROWS))[:-1]:
            powers = [math.exp(b / a / temperature) for a, b in zip(before, now, strict=True)]
            weights.append([2 * power / sum(powers) for power in powers])
        return weights

    return record


# `DWA` of LibMTL, LibMTL/weighting/DWA.py, and `SoftAdapt` of NVIDIA PhysicsNeMo Sym, whose weights
# are those of the step itself and not of the next one.
_RECORDERS["LibMTL"] = {"DWA": _softmax_of_ratios(2.0)}
_RECORDERS["PhysicsNeMo Sym"] = {"SoftAdapt, one epoch later": _softmax_of_ratios(1.0)}


@_recorded(
    "softadapt",
    "NormalizedSoftAdapt, of terms that fall",
    "NormalizedSoftAdapt(beta=0.1, accuracy_order=1)",
)
def _normalized_softadapt() -> Values:
    algorithm = import_module("softadapt").NormalizedSoftAdapt(beta=0.1, accuracy_order=1)
    weights = [[1.0, 1.0], [1.0, 1.0]]
    for pair in list(pairwise(_ROWS))[:-1]:
        points = [list(values) for values in zip(*pair, strict=True)]
        weights.append([2 * float(w) for w in algorithm.get_component_weights(*points)])
    return weights


#: The libraries whose rules are written out here as formulas.
_FORMULAS = ("fastai", "papers", "genesis", "LibMTL", "PhysicsNeMo Sym")


def main(libraries: Sequence[str]) -> None:
    """Record the values of some libraries, or of all that are installed, and all calls."""
    found: dict[str, Any] = json.loads(FILE.read_text()) if FILE.exists() else {}
    found["calls"] = {
        library: {name: _CALLS[each] for name, each in recorders.items() if each in _CALLS}
        for library, recorders in _RECORDERS.items()
    }
    for library, recorders in _RECORDERS.items():
        if libraries and library not in libraries:
            continue
        try:
            number = "" if library in _FORMULAS else version(library)
            values = {name: record() for name, record in recorders.items()}
        except ImportError as error:
            print(f"{library}: kept, since {error}")
            continue
        found[library] = {"version": number, "values": values}
        print(f"{library} {number}: {len(values)} schedules")
    found |= {"metrics": METRICS, "terms": TERMS}
    FILE.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
