"""A made-up training, for what must be known of a space's plans before anything is trained.

Schedules that follow the validation metric or the loss terms need some to follow. The training made
up here falls fast, then slowly, with noise and a plateau, as many do; it says nothing about the
user's own.
"""

from __future__ import annotations

import math
import random

from schedsearch.schedules import Feedback
from schedsearch.space.space import Space
from schedsearch.space.templates import texts_of


def synthetic_feedback(space: Space, seed: int) -> list[Feedback]:
    """Return the feedback of a plausible training: every quantity falls to a floor, with noise."""
    names = [*space.document.hyperparameters]
    names.extend(m for group in space.document.groups.values() for m in group.members)
    terms = {name.removeprefix("weights.") for name in names if name.startswith("weights.")}
    for families in space.families.values():
        terms.update(texts_of(families, "term"))
    metric = _falling(space.horizon, random.Random(f"{seed} metric"))
    by_term = {
        term: _falling_term(space.horizon, random.Random(f"{seed} {term}")) for term in terms
    }
    return [
        Feedback(
            metric[epoch],
            {space.objective.metric: space.objective.lower_is_better(metric[epoch])},
            {term: values[epoch] for term, values in by_term.items()},
        )
        for epoch in range(space.horizon)
    ]


def _falling_term(horizon: int, draw: random.Random) -> list[float]:
    """Return a curve of its own size and speed: loss terms differ in both."""
    size, power = 10 ** draw.uniform(-1, 1), 2 ** draw.uniform(-1, 1)
    return [size * value**power for value in _falling(horizon, draw)]


def _falling(horizon: int, draw: random.Random) -> list[float]:
    """Return a curve from about 1 to about 0.2: a fast fall, a plateau, a slower fall, noise."""
    fast, slow = horizon * draw.uniform(0.05, 0.12), horizon * draw.uniform(0.3, 0.6)
    begins, lasts = horizon * draw.uniform(0.25, 0.4), horizon * draw.uniform(0.15, 0.25)
    curve = []
    for epoch in range(horizon):
        # The plateau is time that stands still.
        time = epoch - min(max(epoch - begins, 0.0), lasts)
        level = 0.2 + 0.5 * math.exp(-time / fast) + 0.3 * math.exp(-time / slow)
        curve.append(level * (1 + 0.02 * draw.gauss(0, 1)))
    return curve
