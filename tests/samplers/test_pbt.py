"""Population-based training: which plans are copied, up to which epoch, and what changes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import FixedTrial, FrozenTrial, Trial, TrialState

from schedsearch.errors import InputError
from schedsearch.samplers import make_sampler
from schedsearch.samplers.parzen import axis_of
from schedsearch.samplers.pbt import PbtSampler, perturb
from schedsearch.schedules import Feedback
from schedsearch.space import Space
from tests.searches import make_study, work
from tests.test_reuse import search, trained

LR = {"low": 1e-3, "high": 1e-1, "log": True}
REG = {"low": 0.0, "high": 1.0}


def content(
    *, lr: dict[str, Any] = LR, reg: dict[str, Any] = REG, segments: int = 4, **sampler: Any
) -> dict[str, Any]:
    """Return a space of two hyperparameters with segments of two epochs."""

    def families(values: dict[str, Any]) -> dict[str, Any]:
        return {
            "constant": {"value": values},
            "piecewise": {"segments": segments, "values": values},
        }

    return {
        "name": "population",
        "task": "tests.searches:train",
        "horizon": 2 * segments,
        "objective": {"metric": "val_loss"},
        "search": {
            "trials": 30,
            "sampler": {"name": "pbt", "population": 6, **sampler},
            "pruner": {"name": "none"},
        },
        "hyperparameters": {"lr": {"families": families(lr)}, "reg": {"families": families(reg)}},
    }


def space_of(**changes: Any) -> Space:
    return Space.from_document(content(**changes), "pbt.toml")


class PbtStudy:
    """A study in memory, without training: tests report the metrics."""

    def __init__(self, seed: int = 0, direction: str = "minimize", **changes: Any) -> None:
        self.space = space_of(**changes)
        sampler = PbtSampler(self.space, seed)
        self.study = optuna.create_study(sampler=sampler, direction=direction)

    def ask(self) -> Trial:
        trial = self.study.ask()
        trial.set_user_attr("plan", self.space.suggest(trial).to_tables())
        return trial

    def report(self, trial: Trial, *metrics: float) -> Trial:
        for epoch, metric in enumerate(metrics, 1):
            trial.report(metric, epoch)
        return trial

    def lineage(self, trial: Trial) -> tuple[int | None, int | None]:
        """Return the parent of a trial, and the epoch at which it branches off."""
        attributes = self.study.get_trials()[trial.number].user_attrs
        return attributes.get("parent"), attributes.get("from_epoch")

    def parents(self, count: int) -> set[int | None]:
        """Return the parents of the next `count` trials."""
        return {self.lineage(self.ask())[0] for _ in range(count)}

    def values(self, trial: FrozenTrial) -> list[dict[str, float]]:
        """Return the values of a trial by epoch."""
        plan = self.space.suggest(FixedTrial(trial.params)).resolve(self.space.horizon, 0)
        state, found = plan.start(), []
        for _ in range(self.space.horizon):
            found.append(dict(plan.values(state)))
            state = plan.update(state, Feedback(1.0))
        return found


def complete_study(trials: int = 40, **changes: Any) -> tuple[PbtStudy, list[FrozenTrial]]:
    """Return a study whose trials were complete before the next was proposed."""
    pbt = PbtStudy(**changes)
    for number in range(trials):
        trial = pbt.report(pbt.ask(), *([1 / (1 + number)] * pbt.space.horizon))
        pbt.study.tell(trial, 1.0)
    return pbt, pbt.study.get_trials()


def test_the_first_plans_are_constant_and_later_ones_branch_off():
    _, trials = complete_study()
    for trial in trials[:6]:
        assert "parent" not in trial.user_attrs
        names = [f"lr.piecewise.values.{s}" for s in range(4)]
        assert len({trial.params[name] for name in names}) == 1
    assert len({trial.params["lr.piecewise.values.0"] for trial in trials[:6]}) == 6
    assert all(trial.user_attrs["from_epoch"] in (2, 4, 6) for trial in trials[6:])


def test_a_plan_equals_its_parent_exactly_up_to_the_branch_and_is_then_constant():
    pbt, trials = complete_study()
    depths = set()
    for trial in trials[6:]:
        own = pbt.values(trial)
        parents = pbt.values(trials[trial.user_attrs["parent"]])
        epoch = trial.user_attrs["from_epoch"]
        assert own[:epoch] == parents[:epoch]
        assert own[epoch:] == [own[epoch]] * (8 - epoch)
        assert all(own[epoch][name] != own[epoch - 1][name] for name in ("lr", "reg"))
        depths.add(len({tuple(values.items()) for values in own}))
    assert depths == {2, 3, 4}


@pytest.mark.parametrize(("direction", "best"), [("minimize", {0, 1, 2}), ("maximize", {7, 8, 9})])
def test_parents_are_among_the_best_share_at_the_branch_epoch(direction, best):
    pbt = PbtStudy(direction=direction, population=10, truncation=0.3)
    started = [pbt.ask() for _ in range(10)]
    for number, trial in enumerate(started):
        pbt.report(trial, 0.5, float(number))
    assert pbt.parents(60) == best


def test_the_number_of_parents_is_rounded_up():
    pbt = PbtStudy(population=3, truncation=0.34)
    for metric, trial in enumerate([pbt.ask() for _ in range(3)]):
        pbt.report(trial, 0.0, float(metric))
    assert pbt.parents(30) == {0, 1}


@pytest.mark.parametrize("resample", [0.0, 1.0])
def test_values_are_perturbed_from_the_last_copied_segment_or_resampled(resample):
    pbt = PbtStudy(population=2, resample=resample)
    values = {f"reg.piecewise.values.{s}": value for s, value in enumerate([0.1, 0.9, 0.5, 0.5])}
    lr = {f"lr.piecewise.values.{s}": 0.01 for s in range(4)}
    pbt.study.enqueue_trial({"lr.family": "piecewise", "reg.family": "piecewise", **lr, **values})
    pbt.report(pbt.ask(), 1.0, 1.0, 1.0, 1.0)
    pbt.ask()
    last = {2: 0.1, 4: 0.9}
    changes = []
    for _ in range(60):
        child = pbt.ask()
        _, epoch = pbt.lineage(child)
        changes.append(abs(child.params["reg.piecewise.values.3"] - last[epoch]))
    # A perturbation has a standard deviation of 0.1; a resampled value is uniform in [0, 1].
    assert (max(changes) < 0.5) == (resample == 0.0)


def test_parents_are_ranked_by_their_metric_at_the_branch_epoch():
    pbt = PbtStudy(population=2, truncation=0.5)
    early, late = pbt.ask(), pbt.ask()
    pbt.report(early, 9, 1, 9, 9, 9, 9, 9, 9)
    pbt.report(late, 1, 9, 1, 1, 1, 1, 1, 1)
    found = {pbt.lineage(pbt.ask()) for _ in range(40)}
    assert found == {(early.number, 2), (late.number, 4), (late.number, 6)}


def test_trials_with_the_same_prefix_are_one_parent():
    pbt = PbtStudy(population=4, truncation=0.5)
    for metric, trial in enumerate([pbt.ask() for _ in range(4)]):
        pbt.report(trial, 0.0, float(metric))
    for _ in range(30):  # each copies the first or the second, with the same metric at epoch 2
        trial = pbt.ask()
        parent, _ = pbt.lineage(trial)
        pbt.report(trial, 0.0, float(parent))
    assert pbt.parents(30) == {0, 1}


def test_running_and_pruned_trials_are_parents_and_diverged_ones_are_not():
    pbt = PbtStudy(population=4, truncation=1.0)
    running, pruned, diverged, infinite = (pbt.ask() for _ in range(4))
    pbt.report(running, 1.0, 1.0)
    pbt.study.tell(pbt.report(pruned, 1.0, 1.0), state=TrialState.PRUNED)
    pbt.study.tell(pbt.report(diverged, 1.0, math.nan), state=TrialState.PRUNED)
    pbt.report(infinite, 1.0, -math.inf)
    assert pbt.parents(40) == {running.number, pruned.number}


def test_plans_are_constant_until_a_trial_has_reached_the_end_of_a_segment():
    pbt = PbtStudy(population=2)
    for trial in [pbt.ask() for _ in range(2)]:
        pbt.report(trial, 1.0)
    assert pbt.parents(10) == {None}


@pytest.mark.parametrize(("low", "lineage"), [(1e-3, (0, 2)), (2e-3, (None, None))])
def test_constants_are_parents_if_they_have_the_range_of_the_segments(low, lineage):
    pbt = PbtStudy(population=2)
    made = content(population=2)
    made["hyperparameters"]["lr"]["families"]["constant"]["value"] = LR | {"low": low}
    pbt.space = Space.from_document(made, "pbt.toml")
    pbt.study.sampler = PbtSampler(pbt.space, 0)
    constant = {"lr.family": "constant", "lr.constant.value": 0.01}
    constant |= {"reg.family": "constant", "reg.constant.value": 0.5}
    pbt.study.enqueue_trial(constant)
    pbt.report(pbt.ask(), 1.0, 1.0)
    pbt.ask()
    child = pbt.ask()
    assert pbt.lineage(child) == lineage
    assert (child.params["lr.piecewise.values.0"] == 0.01) == (lineage[0] is not None)


def test_proposals_depend_on_the_seed():
    first, again, other = (
        [trial.params for trial in complete_study(seed=seed, trials=20)[1]] for seed in (1, 1, 2)
    )
    assert first == again != other


RANGES = st.one_of(
    st.tuples(st.floats(1e-6, 1.0), st.floats(1.1, 1e4)).map(
        lambda ends: FloatDistribution(ends[0], ends[1], log=True)
    ),
    st.tuples(st.floats(-10, 10), st.floats(0.01, 10)).map(
        lambda ends: FloatDistribution(ends[0], ends[0] + ends[1])
    ),
    st.tuples(st.integers(-3, 3), st.integers(1, 20), st.sampled_from([0.05, 0.25])).map(
        lambda n: FloatDistribution(n[0], round(n[0] + n[1] * n[2], 9), step=n[2])
    ),
    st.integers(1, 12).map(lambda count: IntDistribution(0, count)),
    st.integers(2, 500).map(lambda high: IntDistribution(1, high, log=True)),
)


@given(RANGES, st.floats(0, 1), st.integers(0, 2**32))
@settings(max_examples=300, deadline=None)
def test_a_perturbed_value_is_a_different_valid_value(distribution, place, seed):
    rng = np.random.default_rng(seed)
    value = float(axis_of(distribution).from_unit(np.array([place]))[0])
    found = distribution.to_external_repr(perturb(rng, distribution, value))
    assert found != value
    assert distribution._contains(distribution.to_internal_repr(found))
    if isinstance(distribution, FloatDistribution) and distribution.step:
        assert abs((found - distribution.low) / distribution.step % 1.0 - 0.5) > 0.49


@given(
    st.sampled_from(
        [
            ({"levels": [0.1, 0.3, 0.01]}, [0.1, 0.3, 0.01]),
            ({"low": 0.1, "high": 0.5, "step": 0.2}, [0.1, 0.3, 0.5]),
        ]
    ),
    st.integers(0, 1000),
)
@settings(max_examples=20, deadline=None)
def test_perturbed_values_stay_on_levels_and_steps(values, seed):
    lr, allowed = values
    pbt, trials = complete_study(seed=seed, trials=20, lr=lr)
    used = {in_force["lr"] for trial in trials for in_force in pbt.values(trial)}
    assert len(used) == 3
    assert sorted(used) == pytest.approx(sorted(allowed), rel=1e-15)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"linear": {"initial": LR, "final": 0.0}}, "lr has constant, piecewise, linear"),
        ({"piecewise": {"segments": 3, "values": REG}}, "reg has 4 segments in 8 epochs"),
        ({"piecewise": {"segments": 1, "values": REG}}, "lr has no second segment before"),
        (
            {"piecewise": {"segments": 2, "values": REG, "duration": 16}},
            "lr has no second segment before",
        ),
        ({"piecewise": {"values": [0.1, REG]}}, "lr has segments with different or fixed values"),
        (
            {"piecewise": {"segments": 4, "values": REG, "duration": {"low": 2, "high": 8}}},
            "lr searches its duration",
        ),
    ],
)
def test_a_space_without_common_segments_is_refused(change, problem):
    given = content()
    given["hyperparameters"]["lr"]["families"] |= change
    with pytest.raises(InputError, match=problem):
        make_sampler(Space.from_document(given, "pbt.toml"), "ann")


def test_segments_divide_the_duration_of_the_schedule():
    given = content(segments=3)
    for table in given["hyperparameters"].values():
        table["families"]["piecewise"]["duration"] = 4
    sampler = PbtSampler(Space.from_document(given, "pbt.toml"), 0)
    assert sampler._space.branch_epochs == {1: 2, 2: 3}


def by_the_step(
    duration: Any, *, segments: int = 3, names: tuple[str, ...] = ("lr", "reg")
) -> Space:
    """Return the space with both learning rate and penalty in segments of any length."""
    given = content(segments=segments)
    for name, table in given["hyperparameters"].items():
        table["families"]["piecewise"]["duration"] = duration
        if name in names:
            table["interval"] = "step"
    return Space.from_document(given, "pbt.toml")


@pytest.mark.parametrize("names", [("lr", "reg"), ("lr",)])
def test_plans_are_copied_up_to_the_epoch_in_which_a_segment_begins(names):
    """Segments begin at the epochs 4/3 and 8/3; of the interval "epoch" they begin later."""
    space = by_the_step(4, names=names)
    branch_epochs = PbtSampler(space, 0)._space.branch_epochs
    assert branch_epochs == {1: 1, 2: 2}
    values = [
        {"lr.family": "piecewise", "reg.family": "piecewise"}
        | {f"{name}.piecewise.values.{s}": 0.05 for name in ("lr", "reg") for s in range(3)}
        for _ in range(2)
    ]
    for segment, epoch in branch_epochs.items():
        changed = values[1] | {f"lr.piecewise.values.{s}": 0.07 for s in range(segment, 3)}
        plans = [space.suggest(FixedTrial(each)).resolve(6, 0) for each in (values[0], changed)]
        states = [plan.start() for plan in plans]
        equal = []
        for _ in range(6):
            one, other = (
                plan.evaluate_steps(state, (0.0, 0.5, 0.9))[0] or plan.values(state)
                for plan, state in zip(plans, states, strict=True)
            )
            equal.append(one == other)
            states = [
                plan.update(state, Feedback(1.0)) for plan, state in zip(plans, states, strict=True)
            ]
        assert equal == [True] * epoch + [False] * (6 - epoch)


def test_a_segment_that_begins_within_the_first_epoch_is_no_branch():
    assert PbtSampler(by_the_step(2), 0)._space.branch_epochs == {2: 1}
    with pytest.raises(InputError, match="that begins after the first epoch"):
        PbtSampler(by_the_step(0.9), 0)


def reusing(**changes: Any) -> dict[str, Any]:
    """Return the space of one learning rate, for a task whose epochs are cached."""
    given = content(**changes)
    given["hyperparameters"] = {"lr": given["hyperparameters"]["lr"] | {"default": 0.01}}
    return given | {"task": "tests.engines.toys:Toy"}


@pytest.mark.parametrize("table", [{}, {"interval": "step"}], ids=["epoch", "step"])
def test_a_search_trains_only_the_epochs_after_the_branch(tmp_path: Path, table: dict[str, Any]):
    given = reusing()
    given["hyperparameters"]["lr"] |= table
    if table:
        # Segments begin at the epochs 1.75, 3.5 and 5.25.
        given["hyperparameters"]["lr"]["families"]["piecewise"]["duration"] = 7
    study = search(tmp_path, given)
    trials, horizon = study.complete_trials(), study.space.horizon
    assert len(trials) == 30
    children = [trial for trial in trials if "parent" in trial.user_attrs]
    assert len(children) > 15
    by_number = {trial.number: trial for trial in trials}
    for child in children:
        epoch = child.user_attrs["from_epoch"]
        assert child.user_attrs["trained"] == horizon - epoch
        parent = by_number[child.user_attrs["parent"]].intermediate_values
        own = child.intermediate_values
        assert [own[e] for e in range(1, epoch + 1)] == [parent[e] for e in range(1, epoch + 1)]
    tails = sum(child.user_attrs["from_epoch"] for child in children)
    assert trained(study) == len(trials) * horizon - tails


def test_successive_halving_prunes_no_trial_within_its_copied_prefix(tmp_path: Path):
    given = content()
    given["search"]["pruner"] = {"name": "asha", "min_epochs": 1, "reduction_factor": 2}
    study = make_study(tmp_path, given)
    ears = work(study)
    assert not ears.wrong
    trials = study.trials()
    assert any(trial.state is TrialState.PRUNED for trial in trials)
    branched = [trial for trial in trials if "from_epoch" in trial.user_attrs]
    assert branched
    assert all(trial.last_step > trial.user_attrs["from_epoch"] for trial in branched)
