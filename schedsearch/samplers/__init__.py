"""Samplers: a fast TPE, a grid, population-based training, Optuna's; a stratum of constants."""

from __future__ import annotations

import hashlib
import importlib.util
import warnings

import optuna
from optuna.samplers import BaseSampler

from schedsearch.errors import InputError
from schedsearch.samplers.constant_share import ConstantShareSampler, is_audited, is_trained_in_full
from schedsearch.samplers.grid import FamilyGridSampler
from schedsearch.samplers.joint import (
    ComparableTrialsSampler,
    OneFamilySampler,
    moving_families,
)
from schedsearch.samplers.pbt import PopulationSampler
from schedsearch.samplers.tpe import TreeParzenSampler
from schedsearch.space import Space

__all__ = ["FamilyGridSampler", "is_audited", "is_trained_in_full", "make_sampler", "trials_of"]


def make_sampler(space: Space, worker: str) -> BaseSampler:
    """Return the sampler that a space asks for, seeded by the study's seed and the worker's name.

    Two workers with one seed would propose the same trials.

    Raises:
        InputError: the sampler needs another kind of space, or a package that is missing.
    """
    options = space.search.sampler
    if options.name == "grid":
        return FamilyGridSampler(space, options.points, space.search.seed)
    digest = hashlib.sha256(f"{space.search.seed} {worker}".encode()).digest()
    # Two seeds: with one, schedules and constants would draw the same at random.
    seed, apart = (int.from_bytes(part, "big") for part in (digest[:4], digest[4:8]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        # All workers of a quasi-random search walk through one scrambled sequence.
        own = space.search.seed if options.name == "qmc" else seed
        schedules = (
            PopulationSampler(space, seed)
            if options.name == "pbt"
            else _sampler(options.name, options.startup_trials, own)
        )
    name = "random" if options.name == "random" else "tpe"
    only_constants = dict.fromkeys(space.family_choices(), "constant")
    constants = OneFamilySampler(
        _sampler(name, options.startup_trials, apart), space, only_constants, apart
    )
    if options.name in ("gp", "cmaes", "qmc"):
        schedules = OneFamilySampler(schedules, space, moving_families(space), seed)
    return ConstantShareSampler(schedules, constants, options.constants)


def trials_of(space: Space, trials: int) -> int:
    """Return how many trials a study can have: a grid ends when every point was tried."""
    if space.search.sampler.name != "grid":
        return trials
    grid = FamilyGridSampler(space, space.search.sampler.points, space.search.seed)
    return min(trials, 1 + grid.size)


#: What Optuna imports behind a sampler, and does not bring by itself.
_NEEDS = {"cmaes": "cmaes", "gp": "scipy", "qmc": "scipy"}


def _sampler(name: str, startup_trials: int | None, seed: int) -> BaseSampler:
    if name in _NEEDS and importlib.util.find_spec(_NEEDS[name]) is None:
        raise InputError(
            f"sampler {name} needs the package {_NEEDS[name]}: pip install 'schedsearch[samplers]'"
        )
    startup = 10 if startup_trials is None else startup_trials
    match name:
        case "random":
            return optuna.samplers.RandomSampler(seed)
        case "tpe":
            return TreeParzenSampler(seed, startup)
        case "gp":
            return ComparableTrialsSampler(
                optuna.samplers.GPSampler(seed=seed, n_startup_trials=startup)
            )
        case "cmaes":
            return optuna.samplers.CmaEsSampler(
                seed=seed, n_startup_trials=startup, warn_independent_sampling=False
            )
    return optuna.samplers.QMCSampler(
        seed=seed, scramble=True, warn_asynchronous_seeding=False, warn_independent_sampling=False
    )
