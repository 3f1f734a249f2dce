"""A synthetic training curve, for closed-loop schedules that are evaluated without a training.

Closed-loop schedules react to the validation metric or the loss terms. The synthetic curves fall
fast, then slowly, with noise and a plateau, as many training curves do.
"""

from __future__ import annotations

import math
import random

from schedsearch.schedules import Feedback
from schedsearch.space.domains import referenced_names
from schedsearch.space.space import Space


def synthetic_feedback(space: Space, seed: int) -> list[Feedback]:
    """Return one feedback per epoch, in which the metric and all loss terms fall with noise."""
    names = [*space.document.hyperparameters]
    names.extend(m for group in space.document.groups.values() for m in group.members)
    terms = {name.removeprefix("weights.") for name in names if name.startswith("weights.")}
    for families in space.families.values():
        terms.update(referenced_names(families, "term"))
    metric = _curve(space.horizon, random.Random(f"{seed} metric"))
    by_term = {term: _term_curve(space.horizon, random.Random(f"{seed} {term}")) for term in terms}
    return [
        Feedback(
            metric[epoch],
            {space.objective.metric: space.objective.to_minimize(metric[epoch])},
            {term: values[epoch] for term, values in by_term.items()},
        )
        for epoch in range(space.horizon)
    ]


def _term_curve(horizon: int, rng: random.Random) -> list[float]:
    """Return a curve with a random scale and speed, since loss terms differ in both."""
    scale, power = 10 ** rng.uniform(-1, 1), 2 ** rng.uniform(-1, 1)
    return [scale * value**power for value in _curve(horizon, rng)]


def _curve(horizon: int, rng: random.Random) -> list[float]:
    """Return a noisy curve from about 1 to about 0.2: a fast fall, a plateau, a slower fall."""
    fast, slow = horizon * rng.uniform(0.05, 0.12), horizon * rng.uniform(0.3, 0.6)
    start, duration = horizon * rng.uniform(0.25, 0.4), horizon * rng.uniform(0.15, 0.25)
    curve = []
    for epoch in range(horizon):
        time = epoch - min(max(epoch - start, 0.0), duration)  # stands still in the plateau
        level = 0.2 + 0.5 * math.exp(-time / fast) + 0.3 * math.exp(-time / slow)
        curve.append(level * (1 + 0.02 * rng.gauss(0, 1)))
    return curve
