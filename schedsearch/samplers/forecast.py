"""Proposals by the forecast: of some candidates, the plan that may well become the best."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from schedsearch.errors import InputError
from schedsearch.forecast import (
    EarlierResults,
    PlanForecast,
    TrainedPlan,
    TrainedPlans,
    coarse,
    values_key,
)
from schedsearch.forecast.gaussian_process import Array
from schedsearch.plan import Plan
from schedsearch.samplers.independent import IndependentSampler
from schedsearch.samplers.variants import VariantSuggester
from schedsearch.space import Space
from schedsearch.space.suggesters import RandomSuggester
from schedsearch.storage import PATH_POINTS, EarlierStudy
from schedsearch.storage.pruned_view import whole_trials

#: The share of proposals that are random, so that the model keeps learning everywhere.
_RANDOM_SHARE = 0.15
#: The share of proposals by earlier studies before there are enough trials for the model.
_EARLIER_SHARE = 0.5
#: Candidates of a proposal beside new variants, and how many of them are random and new; the others
#: are the best candidates of the proposal before.
_CANDIDATES, _NEW = 24, 2
#: Standard deviations that a proposal allows for, drawn at random: with 1 alone, choices whose
#: first trials were bad for other reasons were never tried again.
DEVIATIONS = (1.0, 2.0)
#: Candidates that are variants of the best plans, and how many plans these are.
_VARIANTS, _PARENTS = 6, 5
#: Trained plans that the model is fitted to, at most.
_MAX_PLANS = 250
#: Plans of ended trials that are not proposed again, at most.
_MAX_ENDED = 1000
#: Random draws until one keeps the rules between parameters and is not all constant.
_MAX_DRAWS = 50


class ForecastSampler(IndependentSampler):
    """Proposes the candidate with the best optimistic forecast.

    argmin of mean(x) - b sd(x) over candidates x: 24 plans, and 6 new variants of the best plans

    where b is 1 or 2 at random. The 24 are the best candidates of the proposal before, and at
    least 2 random plans. A candidate with the values of a plan that is in training, complete or
    was stopped early is left out if there are others: only a race needs another run of it. Mean and
    sd are those of `PlanForecast`, a Gaussian process on the values of a plan over the run, fitted
    to complete trials and to those that diverged. Plans in training count as if they had the value
    that is forecast for them, so that plans that are proposed together differ. A share of 15 % of
    the proposals is random. Use one sampler per study.

    Earlier studies are a prior of the mean, see `EarlierResults`. They also propose half of the
    first trials, once 3 results of this study are known, unless these contradict them.

    Args:
        space: of the study.
        seed: of the random numbers.
        startup_trials: the number of complete trials before the model is used, beside those with
            plans of earlier studies.
        constants: whether all proposals use the `constant` families; otherwise none is all
            constant, where the space has other families.
        earlier: the studies that the study began from.
    """

    def __init__(
        self,
        space: Space,
        seed: int,
        *,
        startup_trials: int = 10,
        constants: bool = False,
        earlier: Sequence[EarlierStudy] = (),
    ) -> None:
        self._space, self._startup_trials = space, max(2, startup_trials)
        self._rng = np.random.default_rng(seed)
        self._random = RandomSampler(seed)
        self._trained = TrainedPlans(space)
        families = space.family_parameters()
        fixed = dict.fromkeys(families, "constant") if constants else {}
        self._suggester = VariantSuggester(RandomSuggester(f"forecast {seed}"), fixed)
        #: The parameters of which one is not "constant" in each proposal; none: all plans may be.
        self._varied = frozenset() if constants else families
        self._given = tuple(earlier)
        self._model: PlanForecast | None = None
        self._fitted = self._conditioned = 0
        self._candidates: list[_Candidate] = []
        #: The trained plans that the model is fitted to, the best ones included.
        self._kept: Sequence[TrainedPlan] = ()
        #: The plans of the trials that ended last, also if they were pruned.
        self._ended: deque[_Candidate] = deque(maxlen=_MAX_ENDED)
        #: The plans of trials that have not finished, by number.
        self._in_training: dict[int, _Candidate] = {}
        self._lock = threading.Lock()

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Return the parameter of the plan that is proposed for the trial."""
        with self._lock:
            if trial.number not in self._in_training:
                self._in_training[trial.number] = self._propose(study)
            parameters = self._in_training[trial.number].parameters
        if param_name in parameters:
            value = parameters[param_name]
            if param_distribution._contains(param_distribution.to_internal_repr(value)):
                return value
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def reseed_rng(self) -> None:
        """Reseed the random generators, so that a copy of this sampler proposes other plans."""
        self._rng = np.random.default_rng()
        self._random.reseed_rng()
        self._suggester.random = RandomSuggester(str(self._rng.random()))

    def _propose(self, study: Study) -> _Candidate:
        trials = whole_trials(study)
        self._trained.update(trials)
        # If an earlier study misleads, a model of its best plans alone knows no good region.
        own = (plan for plan in self._trained.plans if plan.is_own)
        if len([*islice(own, self._startup_trials)]) < self._startup_trials:
            return self._propose_by_earlier(trials) or self._draw()
        if self._rng.random() < _RANDOM_SHARE:
            return self._draw()
        if (model := self._fit()) is None:
            return self._draw()
        if running := self._running_paths(trials):
            model = model.assuming(np.array(running))
        deviations = float(self._rng.choice(DEVIATIONS))
        return self._best_by(partial(model.optimistic, deviations=deviations))

    @cached_property
    def _prior(self) -> EarlierResults | None:
        """The results of earlier studies; they are fitted with the first proposal."""
        results = EarlierResults(self._given, self._trained.names) if self._given else None
        return results or None

    def _propose_by_earlier(self, trials: Sequence[FrozenTrial]) -> _Candidate | None:
        """Return for a share of the proposals the best plan by the earlier studies.

        Many trials begin before the first result: half of them would follow a study that misleads.
        Where results contradict them no random number is drawn, so the proposals are those of a
        search without earlier studies.
        """
        if (prior := self._prior) is None:
            return None
        self._kept = self._trained.representative(self._startup_trials)
        finals = np.array([plan.final for plan in self._kept])
        paths = [plan.path[1::3] for plan in self._kept]
        if not prior.may_propose(np.array(paths), finals) or self._rng.random() >= _EARLIER_SHARE:
            return None
        begun = np.array(paths + self._running_paths(trials))
        return self._best_by(lambda paths: prior.optimistic(paths, begun, finals))

    def _draw_ahead(self) -> list[_Candidate]:
        """Fill up the candidates with random plans, and return them."""
        self._candidates += [self._draw() for _ in range(_CANDIDATES - len(self._candidates))]
        return self._candidates

    def _best_by(self, optimistic: Callable[[Array], Array]) -> _Candidate:
        """Return the candidate with the lowest bound, and keep the best of the others."""
        candidates = self._untried([*self._draw_ahead(), *self._variants()])
        paths = np.array([candidate.path for candidate in candidates])
        order = np.argsort(optimistic(paths), kind="stable")
        best, *others = (candidates[int(i)] for i in order)
        self._candidates = others[: _CANDIDATES - _NEW]
        return best

    def _untried(self, candidates: Sequence[_Candidate]) -> Sequence[_Candidate]:
        """Return the candidates with other values than all known plans, or all if there are none.

        At its bounds a schedule may be one of many that stay there. Constants are compared with
        constants only: a schedule that stays at a bound must not keep its value from them.
        """
        known: list[_Candidate | TrainedPlan] = [
            *self._kept,
            *self._ended,
            *self._in_training.values(),
        ]
        if not self._varied:
            known = [plan for plan in known if self._is_parent(plan.parameters)]
        shared = {plan.coarse_values for plan in known} & {one.coarse_values for one in candidates}
        tried = {plan.fixed_values for plan in known if plan.coarse_values in shared} - {None}
        return [
            one
            for one in candidates
            if one.coarse_values not in shared or one.fixed_values not in tried
        ] or candidates

    def _variants(self) -> list[_Candidate]:
        """Return variants of the best trained plans: most parameters kept, the others near."""
        distinct: dict[bytes, TrainedPlan] = {}
        for plan in sorted(self._kept, key=lambda plan: plan.final):
            if math.isfinite(plan.final) and self._is_parent(plan.parameters):
                distinct.setdefault(plan.coarse_values, plan)
        best = [*distinct.values()][:_PARENTS]
        if not best:
            return []
        parents = [best[int(self._rng.integers(len(best)))] for _ in range(_VARIANTS)]
        return [self._draw(parent.parameters) for parent in parents]

    def _fit(self) -> PlanForecast | None:
        """Return the model of the trained plans; with an eighth more it is fitted again.

        None: the plans of too many trials cannot be read.
        """
        trained = self._trained
        if self._model is not None and trained.count == self._conditioned:
            return self._model
        self._kept = trained.representative(_MAX_PLANS, diverged=True)
        if len(trained.plans) < self._startup_trials:
            return None
        paths = coarse(np.array([plan.path for plan in self._kept]))
        finals = np.array([plan.final for plan in self._kept])
        results = paths, finals, self._prior, [plan.run for plan in self._kept]
        before = self._model
        if before is None or trained.count >= 9 / 8 * self._fitted:
            before, self._fitted = None, trained.count
        self._model = PlanForecast.fit(*results, before)
        self._conditioned = trained.count
        return self._model

    def _running_paths(self, trials: Sequence[FrozenTrial]) -> list[Array]:
        """Return the paths of the plans in training."""
        for number in list(self._in_training):
            if number < len(trials) and trials[number].state.is_finished():
                self._ended.append(self._in_training.pop(number))
        for trial in trials[-_MAX_PLANS:]:
            if trial.state is not TrialState.RUNNING or trial.number in self._in_training:
                continue
            # Another worker, or this one before a restart, has proposed it.
            if (plan := self._trained.plan_of(trial)) is not None:
                self._in_training[trial.number] = _Candidate(trial.params, plan, self._trained)
        return [candidate.path for candidate in self._in_training.values()]

    def _is_parent(self, parameters: Mapping[str, Any]) -> bool:
        """Return whether variants of a plan are plans that this sampler may propose."""
        if self._varied:
            return any(parameters.get(name, "constant") != "constant" for name in self._varied)
        return bool(parameters) and self._suggester.fixed.items() <= parameters.items()

    def _draw(self, parent: Mapping[str, Any] | None = None) -> _Candidate:
        """Draw a random plan of the space, or a variant of the one with these parameters."""
        for _ in range(_MAX_DRAWS):
            self._suggester.begin(parent or {})
            try:
                tables = self._space.suggest_tables(self._suggester)
                plan = Plan.from_tables(tables)
                plan = plan.resolve(self._space.horizon, self._space.search.seed)
            except InputError:
                continue  # the parameters break a rule together
            if self._varied and self._space.is_constant_plan(tables):
                continue
            if self._suggester.parameters == parent:
                continue
            return _Candidate(self._suggester.parameters, plan, self._trained)
        # Without a plan, parameters are drawn one by one; if they break a rule, the trial ends.
        baseline = self._space.baseline().resolve(self._space.horizon, self._space.search.seed)
        return _Candidate({}, baseline, self._trained)


@dataclass(frozen=True)
class _Candidate:
    """A resolved plan, and its Optuna parameters."""

    parameters: Mapping[str, Any]
    plan: Plan
    _trained: TrainedPlans

    @cached_property
    def path(self) -> Array:
        """The values over the run, with the typical feedback of the study when it was proposed."""
        return self._trained.path_ahead(self.plan, (), points=PATH_POINTS)

    @cached_property
    def coarse_values(self) -> bytes:
        """What is equal for plans with equal coarse paths."""
        return values_key(self.path)

    @cached_property
    def fixed_values(self) -> bytes | None:
        """See `TrainedPlans.fixed_values`."""
        return self._trained.fixed_values(self.plan)
