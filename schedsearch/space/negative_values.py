"""Warnings where a value falls below 0 that a negative value never makes sense for."""

from __future__ import annotations

import math
from collections.abc import Iterator

from schedsearch.epoch_values import evaluate_epochs
from schedsearch.errors import InputError
from schedsearch.space.space import Space
from schedsearch.space.suggesters import RandomSuggester
from schedsearch.space.synthetic_feedback import synthetic_feedback

#: Keys of parameter groups, and other settings, that are at least 0.
_NEVER_NEGATIVE = frozenset(
    {"lr", "learning_rate", "weight_decay", "momentum", "dampening", "eps", "dropout"}
)
_SAMPLES = 20
#: Epochs that are evaluated, and steps of each.
_MAX_EPOCHS, _STEPS = 1000, 4


def negative_value_warnings(space: Space) -> Iterator[str]:
    """Yield a line for each such hyperparameter that falls below 0 in random samples."""
    names = [name for name in space.hyperparameters if _is_never_negative(name)]
    if not names:
        return
    lowest = [dict.fromkeys(names, math.inf) | found for found in _lowest_values(space)]
    for name in names:
        below = [sample[name] for sample in lowest if sample[name] < 0]
        if below:
            where = "" if space.is_config else f" in {len(below)} of {len(lowest)} random samples"
            yield (
                f"{name} falls to {min(below):.4g}{where}, but must be at least 0: change the "
                f"values of its schedules, or give it bounds"
            )


def _is_never_negative(name: str) -> bool:
    return not name.startswith("weights.") and name.rpartition(".")[2] in _NEVER_NEGATIVE


def _lowest_values(space: Space) -> Iterator[dict[str, float]]:
    """Yield the lowest value of each hyperparameter in each sample."""
    feedback = synthetic_feedback(space, 0)[:_MAX_EPOCHS]
    for seed in range(1 if space.is_config else _SAMPLES):
        try:
            plan = space.suggest(RandomSuggester(seed)).resolve(space.horizon, seed)
        except InputError:
            continue
        lowest: dict[str, float] = {}
        for values in evaluate_epochs(plan, feedback):
            for name, value in values.by_step(_STEPS).items():
                least = min(value) if isinstance(value, tuple) else value
                lowest[name] = min(lowest.get(name, math.inf), least)
        yield lowest
