"""Warnings where the pruner of a space can never stop a trial."""

from __future__ import annotations

from collections.abc import Iterator

from schedsearch.schedules.durations import to_epochs
from schedsearch.space.document import FORECAST_RANK
from schedsearch.space.rungs import rungs
from schedsearch.space.space import Space


def idle_pruner_warnings(space: Space) -> list[str]:
    """Return a warning for each setting because of which the pruner stops no trial."""
    pruner = space.search.pruner
    if space.is_config or pruner.name == "none":
        return []
    reasons = [*_reasons_in_time(space), *_reasons_in_trials(space)]
    return [f"the pruner {pruner.name} never stops a trial: {reason}" for reason in reasons]


def _reasons_in_time(space: Space) -> Iterator[str]:
    pruner, horizon = space.search.pruner, space.horizon
    protected = to_epochs(pruner.protected, horizon, space.schedule_version)
    is_late = f"is not before the horizon of {'1 epoch' if horizon == 1 else f'{horizon} epochs'}"
    if pruner.name == "asha" and pruner.rungs is not None:
        yield from _reasons_in_rungs(space, protected)
    elif pruner.min_epochs >= horizon:
        is_rung = pruner.name in ("asha", "hyperband")
        decision = "its first rung" if is_rung else "its first decision"
        yield (
            f"{decision}, after search.pruner.min_epochs = {pruner.min_epochs}, {is_late}: "
            f"{'lower min_epochs' if horizon > 1 else 'set the pruner `none`'}"
        )
    elif protected >= horizon:
        yield f"search.pruner.protected = {pruner.protected!r} covers the horizon: lower it"
    elif pruner.name == "asha" and (last := rungs(space)[-1]) < protected:
        yield (
            f"its last rung before the horizon is after {last} epochs, but "
            f"search.pruner.protected = {pruner.protected!r} protects {protected} epochs: lower it"
        )
    if pruner.name == "patient" and pruner.patience + 2 >= horizon:
        yield (
            f"its first decision, after search.pruner.patience + 2 = {pruner.patience + 2} epochs, "
            f"{is_late}: lower patience"
        )


def _reasons_in_rungs(space: Space, protected: int) -> Iterator[str]:
    given, found = space.search.pruner.rungs, rungs(space)
    if not found:
        yield f"no rung of search.pruner.rungs = {given!r} is before the horizon: lower one"
    elif found[-1] < protected:
        yield (
            f"its last rung before the horizon is after {found[-1]} epochs, but "
            f"search.pruner.protected covers {protected} epochs: lower it"
        )


def _reasons_in_trials(space: Space) -> Iterator[str]:
    search, pruner = space.search, space.search.pruner
    if pruner.name == "forecast" and pruner.complete_before_forecast >= search.trials:
        yield (
            f"{pruner.complete_before_forecast} trials must be complete first "
            f"(search.pruner.startup_trials, at least {FORECAST_RANK}), and search.trials is "
            f"{search.trials}: set the pruner `none`, or more trials"
        )
    if pruner.name in ("median", "patient") and pruner.startup_trials >= search.trials:
        yield (
            f"search.pruner.startup_trials = {pruner.startup_trials} trials must be complete "
            f"first, and search.trials is {search.trials}: lower startup_trials"
        )
    if pruner.audit == 1:
        yield "search.pruner.audit = 1 trains every schedule in full: lower it"
    if search.sampler.constants == 1:
        yield "search.sampler.constants = 1 tries constants only, which are trained in full"
