"""The audit of a pruner: which trials are audited, no effect on the search, the result."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from itertools import pairwise

import optuna
import pytest
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from schedsearch.cli import main
from schedsearch.errors import InputError
from schedsearch.pruners import AshaPruner, decide_pruning, make_pruner, summarize_audit
from schedsearch.samplers import is_audited, make_sampler
from schedsearch.samplers.constant_share import in_share
from schedsearch.samplers.observations import Observations
from schedsearch.space import Objective, Space
from schedsearch.storage.pruned_view import PrunedView
from tests.samplers.test_pbt import content as of_population
from tests.searches import begin, document, make_study, url_of, work

NOON = datetime(2026, 1, 1, 12)
LESS, MORE = Objective(metric="val_loss"), Objective(metric="val_loss", direction="maximize")


def space_of(**pruner) -> Space:
    return Space.from_document(document(pruner=pruner), "small.toml")


def ended(minute: int, value: float | None, **attributes):
    """Return a trial that ended at a minute past noon, pruned if it has no value."""
    trial = create_trial(
        state=TrialState.PRUNED if value is None else TrialState.COMPLETE,
        value=value,
        user_attrs=attributes,
    )
    trial.number, trial.datetime_complete = minute, NOON + timedelta(minutes=minute)
    return trial


# --- which trials are audited --------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 1.0])
def test_the_audited_share_is_spread_evenly_over_the_trials_outside_the_constant_share(share):
    space = space_of(audit=share)
    competing = [i for i in range(400) if not in_share(i, space.search.sampler.constants)]
    audited = [is_audited(space, index) for index in competing]
    for count in (50, 100, len(competing)):
        assert abs(sum(audited[:count]) - share * count) <= 1


def test_without_pruning_no_trial_is_audited():
    assert not any(is_audited(space_of(name="none", audit=1.0), index) for index in range(20))


@pytest.mark.parametrize("name", ["asha", "hyperband", "median", "patient"])
def test_audited_trials_are_trained_in_full_and_record_when_they_would_be_pruned(tmp_path, name):
    options = {"name": name, "min_epochs": 1, "startup_trials": 3, "patience": 1, "audit": 0.5}
    study = make_study(tmp_path, document(trials=30, pruner=options, sampler={"name": "random"}))
    assert not work(study).wrong
    audited = [trial for trial in study.trials() if "audited" in trial.user_attrs]
    assert {trial.state for trial in audited} == {TrialState.COMPLETE}
    would_prune = [trial for trial in audited if "would_prune" in trial.user_attrs]
    assert bool(would_prune) == (name != "patient")  # all curves fall, so patience never prunes
    assert all(1 <= trial.user_attrs["would_prune"] < 9 for trial in would_prune)
    assert not any("would_prune" in t.user_attrs for t in study.trials() if t not in audited)


@pytest.mark.long
def test_two_workers_together_audit_the_share(tmp_path):
    study = make_study(tmp_path, document(trials=60, pruner={"min_epochs": 1, "audit": 0.3}))
    command = ("worker", "small", "--storage", url_of(tmp_path))
    for process in [begin(*command, folder=tmp_path) for _ in range(2)]:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    audited = [trial for trial in study.trials() if "audited" in trial.user_attrs]
    assert 0.3 * 51 - 3 <= len(audited) <= 0.3 * 51 + 3
    assert {trial.state for trial in audited} == {TrialState.COMPLETE}


# --- the audit does not change the search --------------------------------------------------------


def as_searched(study: optuna.Study) -> optuna.Study:
    """Return a study as the sampler and the pruner of a worker see it."""
    view = PrunedView(study._storage)
    return optuna.load_study(study_name=study.study_name, storage=view, pruner=study.pruner)


def test_asha_decides_as_if_trials_that_would_be_pruned_were_pruned():
    curves = {"kept": {1: 0.9, 2: 0.9, 4: 0.1}, "ended": {1: 0.9, 2: 0.9}}
    for curve in curves.values():
        study = optuna.create_study()
        study.add_trial(create_trial(value=0.2, intermediate_values={1: 0.1, 2: 0.1, 4: 0.2}))
        study.add_trial(
            create_trial(
                value=0.1,
                user_attrs={"audited": True, "would_prune": 2},
                intermediate_values=curve,
            )
        )
        study.add_trial(
            create_trial(state=TrialState.RUNNING, intermediate_values={1: 0.1, 2: 0.1, 4: 0.2})
        )
        # At the rung of 4 epochs, it ties with the best trial.
        assert not AshaPruner((1, 2, 4, 8), 2).prune(as_searched(study), study.trials[-1])


def test_the_pruner_is_not_asked_about_exempt_trials_and_those_it_would_have_pruned():
    asked = []

    class Recording(AshaPruner):
        def prune(self, study, trial):
            asked.append(trial.last_step)
            return True

    study, pruner, space = optuna.create_study(), Recording((1, 2), 2), space_of()
    for attributes in (
        {"audited": True},
        {"audited": True, "would_prune": 1},
        {},
        {"unpruned": True},
    ):
        study.add_trial(
            create_trial(
                state=TrialState.RUNNING, user_attrs=attributes, intermediate_values={1: 0.5}
            )
        )
    found = [decide_pruning(pruner, space, study, trial) for trial in study.trials]
    assert [one.would_prune for one in found] == [True, False, False, False]
    assert [one.prune for one in found] == [False, False, True, False]
    assert len(asked) == 2


@pytest.mark.parametrize("name", ["median", "patient", "hyperband"])
def test_optuna_pruners_decide_as_if_trials_that_would_be_pruned_were_pruned(name):
    decisions = set()
    for audited in (False, True):
        options = {"name": name, "min_epochs": 1, "startup_trials": 3, "patience": 1}
        space = Space.from_document(document(pruner=options) | {"horizon": 4}, "small.toml")
        pruner = make_pruner(space)
        study = optuna.create_study(study_name="same", pruner=pruner)
        for value in (1.0, 2.0, 3.0):
            study.add_trial(complete(value))
        for _ in range(3):
            if audited:
                study.add_trial(complete(9.0, audited=True, would_prune=2))
            else:
                curve = {1: 9.0, 2: 9.0}
                study.add_trial(create_trial(state=TrialState.PRUNED, intermediate_values=curve))
        decisions.add(decision(study, pruner))
    # If three values of 9 counted as complete, a value of 4 would not be pruned.
    assert decisions == {name != "hyperband"}


def decision(study, pruner) -> bool:
    """Return whether a pruner prunes a new trial whose metric rises from 4."""
    trial = study.ask()
    ends = False
    for epoch in (1, 2, 3):
        trial.report(4.0 + 0.1 * epoch, epoch)
        ends = pruner.prune(as_searched(study), study.trials[-1])
    return ends


def complete(value: float, **attributes):
    curve = dict.fromkeys((1, 2, 3, 4), value)
    return create_trial(value=value, intermediate_values=curve, user_attrs=attributes)


@pytest.mark.parametrize("name", ["cmaes", "gp", "pbt"])
def test_samplers_propose_as_if_trials_that_would_be_pruned_were_pruned(name):
    content = document(sampler={"name": name, "startup_trials": 2, "constants": 0.0})
    if name == "pbt":
        content = of_population(population=4)
    space = Space.from_document(content, "small.toml")
    proposals = {proposal(space, audited=audited) for audited in (False, True)}
    assert len(proposals) == 1


def proposal(space: Space, *, audited: bool) -> str:
    """Return the proposal after eight trials, of which every second one is or would be pruned."""
    study = optuna.create_study(
        storage=PrunedView(InMemoryStorage()),
        study_name="audited",
        sampler=make_sampler(space, "worker"),
    )
    for number in range(8):
        trial = study.ask()
        space.suggest(trial)
        for epoch in (1, 2):
            trial.report(1.0 + number, epoch)
        if number % 2 and not audited:
            study.tell(trial, state=TrialState.PRUNED)
            continue
        if number % 2:
            trial.set_user_attr("would_prune", 2)
        for epoch in (3, 4):
            trial.report(0.1 / (1 + number), epoch)
        study.tell(trial, 0.1 / (1 + number))
    trial = study.ask()
    space.suggest(trial)
    return str(trial.params)


def test_trials_that_would_be_pruned_rank_as_pruned_at_that_epoch():
    study, observations = optuna.create_study(), Observations(StudyDirection.MINIMIZE)
    curve = {1: 0.9, 2: 0.8}
    study.add_trial(create_trial(value=0.5, intermediate_values={1: 0.6, 2: 0.5}))
    study.add_trial(
        create_trial(value=0.4, user_attrs={"would_prune": 1}, intermediate_values={1: 0.9, 2: 0.4})
    )
    study.add_trial(create_trial(state=TrialState.PRUNED, intermediate_values=curve))
    study.add_trial(create_trial(state=TrialState.PRUNED, intermediate_values={1: 0.7}))
    observations.update(as_searched(study).trials)
    assert observations.best_rows() == [0, 2, 3, 1]


# --- protected epochs ----------------------------------------------------------------------------


@pytest.mark.parametrize(("protected", "epochs"), [(0, 0), (4, 4), ("50%", 5)])
def test_no_trial_is_pruned_in_the_protected_epochs(tmp_path, protected, epochs):
    options = {"name": "median", "min_epochs": 1, "startup_trials": 1, "protected": protected}
    study = make_study(tmp_path, document(trials=30, pruner=options, sampler={"name": "random"}))
    work(study)
    pruned = [trial for trial in study.trials() if trial.state is TrialState.PRUNED]
    assert pruned
    last = [trial.last_step for trial in pruned]
    assert min(last) == max(epochs, 1)


@pytest.mark.parametrize("given", [-1, "half", "20"])
def test_protected_must_be_a_duration(given):
    with pytest.raises(InputError, match=r"search.pruner.protected .*must be a number of epochs"):
        space_of(protected=given)


# --- the result ----------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", [LESS, MORE])
def test_the_audit_counts_trials_that_would_be_pruned_and_those_better_than_all_survivors(
    objective,
):
    sign = objective.to_minimize
    trials = [
        ended(0, sign(0.1), unpruned=True),  # exempt
        ended(1, sign(0.5)),
        ended(2, sign(0.4), audited=True, would_prune=3),  # better than 0.5
        ended(3, sign(0.45), audited=True, would_prune=6),  # trial 2 is no survivor
        ended(4, sign(0.6), audited=True, would_prune=3),
        ended(5, sign(0.3), audited=True),  # the best survivor from here on
        ended(6, sign(0.35), audited=True, would_prune=3),
        ended(7, None, audited=True, would_prune=3, diverged=8),  # not complete
        ended(8, sign(0.2)),
    ]
    audit = summarize_audit(trials, objective)
    assert audit is not None
    assert (audit.complete, [one.number for one in audit.would_prune]) == (5, [2, 3, 4, 6])
    assert [one.number for one in audit.would_prune if one.is_better] == [2, 3]
    assert [one.best_survivor for one in audit.would_prune] == [
        sign(v) for v in (0.5, 0.5, 0.5, 0.3)
    ]
    content = audit.to_json()
    assert (content["would_have_been_pruned"], content["better_than_best_survivor"]) == (4, 2)
    assert content["trials"][0]["epoch"] == 3


def test_the_best_survivor_may_end_at_the_same_moment_and_an_equal_value_is_not_better():
    trials = [
        ended(1, 0.5),
        ended(1, 0.4, audited=True, would_prune=3),
        ended(2, 0.5, audited=True, would_prune=3),
    ]
    audit = summarize_audit(trials, LESS)
    assert audit is not None
    found = [(trial.best_survivor, trial.is_better) for trial in audit.would_prune]
    assert found == [(0.5, True), (0.5, False)]


def test_without_an_audited_trial_there_is_no_audit():
    assert summarize_audit([ended(0, 0.1)], LESS) is None


def test_status_shows_the_audit_as_text_and_as_json(tmp_path, monkeypatch, capsys):
    options = {"name": "asha", "min_epochs": 1, "audit": 0.5}
    study = make_study(tmp_path, document(trials=30, pruner=options, sampler={"name": "random"}))
    work(study)
    audit = summarize_audit(study.trials(), study.space.objective)

    def status(*flags: str) -> str:
        monkeypatch.setattr("sys.argv", ["schedsearch", "status", *flags])
        monkeypatch.setenv("SCHEDSEARCH_STORAGE", url_of(tmp_path))
        with pytest.raises(SystemExit):
            main()
        return capsys.readouterr().out

    assert audit is not None
    assert json.loads(status("--json"))["audit"] == audit.to_json()
    lines = status().splitlines()
    [(line, stopped)] = [pair for pair in pairwise(lines) if pair[0].startswith("audit ")]
    expected = f"audit     {audit.complete} trials ran to the end; the pruner would have stopped"
    assert line.startswith(f"{expected} {len(audit.would_prune)} of them; ")
    assert (
        f"trial {audit.would_prune[0].number} after epoch {audit.would_prune[0].epoch}" in stopped
    )
