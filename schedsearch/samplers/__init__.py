"""Samplers: TPE, grid search, population-based training, Optuna's, and the constant share."""

from __future__ import annotations

import hashlib
import importlib.util
import warnings
from collections.abc import Sequence

import optuna
from optuna.samplers import BaseSampler

from schedsearch.errors import InputError
from schedsearch.samplers.constant_share import (
    ConstantShareSampler,
    is_audited,
    is_exempt_from_pruning,
)
from schedsearch.samplers.fixed_family import (
    CompleteCaseSampler,
    FixedFamilySampler,
    schedule_families,
)
from schedsearch.samplers.grid import FamilyGridSampler
from schedsearch.samplers.pbt import PbtSampler
from schedsearch.samplers.piecewise_space import to_piecewise_space
from schedsearch.samplers.tpe import TreeParzenSampler
from schedsearch.space import Space
from schedsearch.storage import EarlierStudy

__all__ = [
    "compared_epochs",
    "is_audited",
    "is_exempt_from_pruning",
    "limit_trials",
    "make_sampler",
]


def make_sampler(space: Space, worker: str, earlier: Sequence[EarlierStudy] = ()) -> BaseSampler:
    """Return the sampler of a space, seeded by the study's seed and the worker's name.

    Two workers with the same seed would propose the same trials. Only the forecast learns from the
    studies that the study began from; the others see those of their plans that it trains.

    Raises:
        InputError: the sampler needs another kind of space, or a package that is missing.
    """
    options = space.search.sampler
    if options.name == "grid":
        return FamilyGridSampler(space, options.points, space.search.seed)
    digest = hashlib.sha256(f"{space.search.seed} {worker}".encode()).digest()
    # Two seeds: with one, schedules and constants would sample the same random numbers.
    seed, constant_seed = (int.from_bytes(part, "big") for part in (digest[:4], digest[4:8]))
    if options.name == "forecast":
        # scipy takes a while to load, and most commands do not need it.
        from schedsearch.samplers.forecast import ForecastSampler

        startup = 10 if options.startup_trials is None else options.startup_trials
        return ConstantShareSampler(
            ForecastSampler(space, seed, startup_trials=startup, earlier=earlier),
            ForecastSampler(
                space, constant_seed, startup_trials=startup, constants=True, earlier=earlier
            ),
            options.constants,
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        # All workers of a quasi-random search share one scrambled sequence.
        schedule_seed = space.search.seed if options.name == "qmc" else seed
        schedules = (
            PbtSampler(space, seed)
            if options.name == "pbt"
            else _make_base_sampler(options.name, options.startup_trials, schedule_seed)
        )
    if options.name in ("gp", "cmaes", "qmc"):
        schedules = FixedFamilySampler(schedules, space, schedule_families(space), seed)
    name = "random" if options.name == "random" else "tpe"
    constants = FixedFamilySampler(
        _make_base_sampler(name, options.startup_trials, constant_seed),
        space,
        dict.fromkeys(space.family_parameters(), "constant"),
        constant_seed,
    )
    return ConstantShareSampler(schedules, constants, options.constants)


def compared_epochs(space: Space) -> frozenset[int]:
    """Return the epochs whose reports a sampler reads, beside the last one of each trial."""
    if space.search.sampler.name != "pbt":
        return frozenset()
    return frozenset(to_piecewise_space(space).branch_epochs.values())


def limit_trials(space: Space, trials: int) -> int:
    """Return the number of trials of a study: at most the baseline and every point of a grid."""
    if space.search.sampler.name != "grid":
        return trials
    grid = FamilyGridSampler(space, space.search.sampler.points, space.search.seed)
    return min(trials, 1 + grid.size)


#: Packages that Optuna's samplers need, but that Optuna does not install.
_REQUIRED_PACKAGES = {"cmaes": "cmaes"}


def _make_base_sampler(name: str, startup_trials: int | None, seed: int) -> BaseSampler:
    package = _REQUIRED_PACKAGES.get(name)
    if package is not None and importlib.util.find_spec(package) is None:
        raise InputError(
            f"sampler {name} needs the package {package}: pip install 'schedsearch[samplers]'"
        )
    startup = 10 if startup_trials is None else startup_trials
    match name:
        case "random":
            return optuna.samplers.RandomSampler(seed)
        case "tpe":
            return TreeParzenSampler(seed, startup)
        case "gp":
            return CompleteCaseSampler(
                optuna.samplers.GPSampler(seed=seed, n_startup_trials=startup)
            )
        case "cmaes":
            return optuna.samplers.CmaEsSampler(
                seed=seed, n_startup_trials=startup, warn_independent_sampling=False
            )
    return optuna.samplers.QMCSampler(
        seed=seed, scramble=True, warn_asynchronous_seeding=False, warn_independent_sampling=False
    )
