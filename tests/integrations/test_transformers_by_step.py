"""Values at the interval "step" are those of the schedulers of transformers."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import get_scheduler

from schedsearch.schedules import (
    Constant,
    Cosine,
    Join,
    Linear,
    Polynomial,
    Schedule,
    WarmRestarts,
    Warmup,
    WarmupStableDecay,
)
from tests.schedules.test_torch_by_step import by_step, same

PEAK = 0.3
MIN = 0.02


def cosine_decay(warmup: float, stable: float, decay: float) -> Schedule:
    ramp, end = Linear(MIN, PEAK, warmup), warmup + stable
    return Join((ramp, Constant(PEAK), Cosine(PEAK, MIN, decay)), (warmup, end))


#: By name: the name in transformers, its options, and our schedule of warmup, stable and decay, in
#: epochs. The decay of all but the last two begins after the warmup.
CASES: dict[str, tuple[str, dict[str, Any], Any]] = {
    "linear": ("linear", {}, lambda w, s, d: Warmup(Linear(PEAK, 0.0, s + d), w, 0.0)),
    "cosine": ("cosine", {}, lambda w, s, d: Warmup(Cosine(PEAK, 0.0, s + d), w, 0.0)),
    "restarts": (
        "cosine_with_restarts",
        {"num_cycles": 3},
        lambda w, s, d: Warmup(
            Join((WarmRestarts(PEAK, 0.0, (s + d) / 3), Constant(0.0)), (s + d,)), w, 0.0
        ),
    ),
    "polynomial": (
        "polynomial",
        {"lr_end": MIN, "power": 2.0},
        lambda w, s, d: Warmup(Polynomial(PEAK, MIN, 2.0, s + d), w, 0.0),
    ),
    "constant": ("constant_with_warmup", {}, lambda w, s, d: Warmup(Constant(PEAK), w, 0.0)),
    "min_lr": (
        "cosine_with_min_lr",
        {"min_lr": MIN},
        lambda w, s, d: Warmup(Cosine(PEAK, MIN, s + d), w, 0.0),
    ),
    "wsd linear": (
        "warmup_stable_decay",
        {"decay_type": "linear", "min_lr_ratio": MIN / PEAK},
        lambda w, s, d: WarmupStableDecay(MIN, PEAK, MIN, w, s, d),
    ),
    "wsd cosine": (
        "warmup_stable_decay",
        {"decay_type": "cosine", "min_lr_ratio": MIN / PEAK},
        cosine_decay,
    ),
}


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(st.integers(1, 50), st.integers(1, 60), st.integers(1, 60), st.integers(1, 40))
def test_the_values_of_a_scheduler_of_transformers(
    name: str, warmup: int, stable: int, decay: int, steps: int
) -> None:
    theirs, options, ours = CASES[name]
    total = warmup + stable + decay
    if theirs == "warmup_stable_decay":
        options = {**options, "num_decay_steps": decay, "num_stable_steps": stable}
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=PEAK)
    scheduler = get_scheduler(
        theirs,
        optimizer,
        num_warmup_steps=warmup,
        num_training_steps=None if "num_stable_steps" in options else total,
        scheduler_specific_kwargs=options,
    )
    expected = []
    for _ in range(total + 5):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    if name in ("cosine", "min_lr"):
        del expected[total + 1 :]  # theirs rises again after the last step
    schedule = ours(warmup / steps, stable / steps, decay / steps)
    assert same(by_step(schedule, steps, len(expected)), expected)
