"""What a forecast of plans learns: their final values, made comparable."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from schedsearch.forecast.gaussian_process import Array, clip_worse
from schedsearch.forecast.objective_scale import ObjectiveScale

#: Values worse than the median by more than so many times the best's lead are clipped.
_CLIP = 3.0
#: A plan, and the further seed with which a race trained it; None: the seeds of the study.
RunName: TypeAlias = tuple[str, int | None]


def plan_targets(
    scale: ObjectiveScale, finals: Array, runs: Sequence[RunName] | None = None
) -> Array:
    """Return final values on a scale, as if all had the seeds of the study.

    A seed may be easier than another one for all plans. So from the values with a further seed the
    mean difference to the same plans' values with the seeds of the study is subtracted. Those far
    worse than the median are clipped, see `clip_worse`; a run that diverged is as bad as these.

    Args:
        scale: of the objective.
        finals: lower is better; infinite if a run diverged.
        runs: the plan and the seed of each value; None: all have the seeds of the study.
    """
    finite = np.isfinite(finals)
    targets = np.full(len(finals), np.inf)
    targets[finite] = scale.apply(finals[finite])
    if runs is not None:
        targets -= _seed_offsets(targets, runs)
    known = targets[finite]
    median, best = float(np.median(known)), float(known.min())
    targets[finite] = clip_worse(known, _CLIP)
    # Where all others are equal, it is worse by one unit of the scale.
    worst = max(median + _CLIP * (median - best), float(known.max()))
    targets[~finite] = worst if worst > best else best + 1.0
    return targets


def _seed_offsets(targets: Array, runs: Sequence[RunName]) -> Array:
    """Return by how much the seed of each run is harder than those of the study."""
    first = {
        plan: target
        for (plan, seed), target in zip(runs, targets.tolist(), strict=True)
        if seed is None and np.isfinite(target)
    }
    differences: dict[int, list[float]] = defaultdict(list)
    for (plan, seed), target in zip(runs, targets.tolist(), strict=True):
        if seed is not None and plan in first and np.isfinite(target):
            differences[seed].append(target - first[plan])
    offsets = {seed: float(np.mean(found)) for seed, found in differences.items()}
    return np.array([0.0 if seed is None else offsets.get(seed, 0.0) for _, seed in runs])
