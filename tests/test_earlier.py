"""`start --from`: a study that begins from the results of earlier ones."""

from __future__ import annotations

import json
from dataclasses import replace

import optuna
import pytest
from optuna.samplers import RandomSampler
from optuna.trial import TrialState, create_trial

import schedsearch
from schedsearch.earlier import begin_from, read_beginning, read_from
from schedsearch.earlier.source import Source
from schedsearch.errors import DamagedStudyError, InputError, StudyError
from schedsearch.export import trial_to_config
from schedsearch.report.optimization_history import by_family
from schedsearch.space import Space
from schedsearch.storage import delete_study, open_database, open_study, plan_of
from schedsearch.storage.attributes import PLAN, RUNS, TAKEN_FROM, UNPRUNED
from tests.cli.command import Command
from tests.searches import document, make_study, make_study_at, url_of, work, write_space


def content_of(name: str = "later", trials: int = 60, **changes):
    content = {**document(trials=trials, sampler={"name": "forecast"}), **changes}
    return {**content, "name": name}


def with_lr(name: str = "later", **changes):
    content = content_of(name)
    content["hyperparameters"]["lr"] |= changes
    return content


def fill(folder, name: str = "earlier", count: int = 40, content=None):
    """Return a study with complete trials of random plans; none is trained."""
    study = make_study_at(url_of(folder), {**(content or document()), "name": name})
    space, random = study.space, optuna.create_study(sampler=RandomSampler(len(name)))
    for i in range(count):
        trial = random.ask()
        plan = space.suggest(trial)
        resolved = plan.resolve(space.horizon, 0)
        value = 2.0 - resolved.values(resolved.start())["lr"] + 1e-6 * i
        study.database.optuna.create_new_trial(
            study.study_id,
            create_trial(
                params=trial.params,
                distributions=trial.distributions,
                value=value,
                intermediate_values={space.horizon: value},
                user_attrs={PLAN: plan.to_tables(), RUNS: [{"seed": 0, "value": value}]},
            ),
        )
    return study


def fill_in(trial):
    """Return a queued trial as if it were complete."""
    trial.state, trial.value = TrialState.COMPLETE, 1.0
    return trial


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    return fill(tmp_path_factory.mktemp("earlier"))


def begin(folder, earlier, content=None):
    study = make_study(folder, content or content_of())
    said: list[str] = []
    return begin_from(study, read_beginning(study.space, [earlier]), said.append), said


def taken(study):
    return [trial for trial in study.trials() if TAKEN_FROM in trial.user_attrs]


def test_two_schedules_and_the_best_constant_are_queued_after_trial_0(tmp_path, earlier):
    study, said = begin(tmp_path, earlier)
    trials = taken(study)
    assert [trial.number for trial in trials] == [1, 2, 3]
    constants = [study.space.is_constant_plan(trial.user_attrs[PLAN]) for trial in trials]
    assert constants == [False, False, True]
    for first, constant in ((trials[0], False), (trials[2], True)):
        best = earlier.ranked_plans(constant=constant)[0].trial
        assert plan_of(first) == plan_of(best)
        assert first.user_attrs[TAKEN_FROM] == {"study": "earlier", "trial": best.number}
        assert first.user_attrs.get(UNPRUNED, False) == constant
    assert len({json.dumps(trial.user_attrs[PLAN]) for trial in trials}) == 3
    assert study.total() == 60
    [line] = said
    assert line == (
        "study later begins from earlier: 3 of its plans are tried first, and the forecast starts "
        "from 40 of its results"
    )


def test_plans_that_lie_in_the_space_keep_their_parameters_for_every_sampler(tmp_path, earlier):
    study, _ = begin(tmp_path, earlier)
    for trial in taken(study):
        assert trial.params == earlier.trial(trial.user_attrs[TAKEN_FROM]["trial"]).params


def test_plans_outside_of_the_ranges_are_tried_without_parameters(tmp_path, earlier):
    content = content_of()
    tiny = {"low": 1e-6, "high": 1e-5}
    content["hyperparameters"]["lr"]["families"]["exponential"]["initial"] = tiny
    content["hyperparameters"]["lr"]["families"]["constant"]["value"] = tiny
    study, _ = begin(tmp_path, earlier, content)
    assert taken(study)
    assert all(trial.params == {} for trial in taken(study))


def test_families_that_are_not_searched_count_to_none_in_a_picture(tmp_path, earlier):
    content = content_of()
    families = content["hyperparameters"]["lr"]["families"]
    families["linear"] = {**families.pop("exponential"), "final": 0.0}
    del families["linear"]["decay_rate"]
    study, _ = begin(tmp_path, earlier, content)
    trials = [fill_in(trial) for trial in taken(study)]
    found = by_family(study.space, trials)["lr"]
    assert {family: len(values) for family, values in found.items()} == {"constant": 1, "linear": 0}


def test_the_plans_differ_in_their_values(earlier):
    source = Source(earlier, Space.from_document(content_of(), "later.toml"))
    starts = {
        round(taken.plan.values(taken.plan.start())["lr"], 2)
        for taken in source.take([], 3, constant=True)
    }
    assert len(starts) == 3


def test_a_small_study_takes_few_plans(tmp_path, earlier):
    study, _ = begin(tmp_path, earlier, content_of(trials=20))
    assert len(taken(study)) == 2


def test_two_studies_take_turns(tmp_path, earlier):
    other = fill(tmp_path, "other")
    study = make_study(tmp_path, content_of())
    study = begin_from(study, read_beginning(study.space, [earlier, other]), print)
    names = [trial.user_attrs[TAKEN_FROM]["study"] for trial in taken(study)]
    assert names == ["earlier", "other", "earlier"]
    assert [one.name for one in study.record.earlier] == ["earlier", "other"]


def test_durations_that_are_shares_are_those_of_the_new_horizon(tmp_path):
    content = document()
    linear = {"initial": 0.5, "final": {"low": 0.01, "high": 0.1}, "duration": "50%"}
    content["hyperparameters"]["lr"]["families"]["linear"] = linear
    del content["hyperparameters"]["lr"]["families"]["exponential"]
    shares = fill(tmp_path, "shares", 12, content)
    study, _ = begin(tmp_path, shares, content_of(horizon=40))
    plan = plan_of(taken(study)[0]).resolve(40, 0)
    values = [plan.values(plan.start(epoch))["lr"] for epoch in (0, 10, 20, 39)]
    assert values[0] == 0.5
    assert values[0] > values[1] > values[2] == values[3]


def test_values_are_limited_to_the_bounds_of_the_new_space(tmp_path, earlier):
    study, said = begin(tmp_path, earlier, with_lr(bounds=[0.0, 0.12]))
    for trial in taken(study):
        plan = plan_of(trial).resolve(9, 0)
        assert plan.values(plan.start())["lr"] <= 0.12
    limited = [line for line in said if line.endswith("lr is limited to [0, 0.12]")]
    assert 0 < int(limited[0].split()[0]) <= len(taken(study))


def test_plans_that_are_not_queued_are_not_counted_as_limited(tmp_path, earlier):
    study = make_study(tmp_path, with_lr(bounds=[0.0, 0.12]))
    beginning = read_beginning(study.space, [earlier])
    [one] = beginning.studies
    twin = replace(beginning, studies=(replace(one, name="twin"),))
    said: list[str] = []
    begin_from(study, twin, said.append)
    assert "0 of its plans are tried first" in said[0]
    assert not [line for line in said if "limited" in line]


def test_a_hyperparameter_that_may_only_be_constant_takes_no_schedule(tmp_path, earlier):
    content = content_of()
    del content["hyperparameters"]["lr"]["families"]["exponential"]
    study, _ = begin(tmp_path, earlier, content)
    assert len(taken(study)) == 1
    assert all(study.space.is_constant_plan(trial.user_attrs[PLAN]) for trial in taken(study))


def test_a_plan_that_follows_a_loss_term_of_another_task_is_left_out(tmp_path):
    content = document()
    gain = {"low": 0.01, "high": 0.1}
    pi = {"term": "fit", "set_point": 1.0, "proportional_gain": gain, "integral_gain": 0.001}
    content["hyperparameters"]["lr"]["families"] = {
        "constant": content["hyperparameters"]["lr"]["families"]["constant"],
        "pi": pi,
    }
    terms = fill(tmp_path, "terms", 12, content)
    same = read_beginning(Space.from_document(content_of(), "later"), [terms])
    assert any(not plan.constant for plan in same.plans)
    other = content_of(task="tests.searches:train_gently")
    found = read_beginning(Space.from_document(other, "later"), [terms])
    assert all(plan.constant for plan in found.plans)
    assert "they follow loss terms of another task" in found.left_out


def test_the_record_has_ranks_of_the_shared_hyperparameters_and_no_values(tmp_path, earlier):
    study, _ = begin(tmp_path, earlier)
    [record] = study.record.earlier
    assert record.evidence == {
        "study": "earlier",
        "task": "tests.searches:train",
        "metric": "val_loss",
        "horizon": 9,
        "trials": 40,
        "hyperparameters": ["lr"],
    }
    assert len(record.ranks) == len(record.paths) == 40
    assert sorted(record.ranks)[0] == pytest.approx(0.0125)
    # The best rank belongs to the values of the best plan.
    best = plan_of(earlier.ranked_plans()[0].trial).resolve(9, 0)
    path = record.paths[record.ranks.index(min(record.ranks))]
    assert path[0][0] == pytest.approx(best.values(best.start())["lr"], rel=1e-3)


def test_the_same_call_again_adds_nothing_even_if_the_earlier_study_is_gone(tmp_path):
    url = url_of(tmp_path)
    gone = fill(tmp_path, "gone", 6)
    study, _ = begin(tmp_path, gone)
    before = len(study.trials())
    study, said = begin(tmp_path, gone)
    assert len(study.trials()) == before
    [line] = said
    assert line.startswith("study later has already begun from a study `gone`")
    delete_study(study.database, "gone")
    again = read_from(study.space, url, ["gone"])
    assert (again.studies, again.recorded) == ((), ("gone",))


def test_a_study_without_earlier_ones_has_the_record_that_it_always_had(tmp_path, earlier):
    plain = make_study(tmp_path, content_of("plain"))
    study, _ = begin(tmp_path, earlier)
    assert plain.record.earlier == ()
    assert plain.record.fingerprint == study.record.fingerprint
    assert not [key for key in plain.attributes().texts if key.startswith("from")]


def test_a_search_from_an_earlier_study_ends_and_its_config_has_the_evidence(tmp_path, earlier):
    study, _ = begin(tmp_path, earlier, content_of(trials=12))
    assert not work(study).wrong
    source = trial_to_config(study, study.trial(1))["source"]
    assert source["from_studies"] == [study.record.earlier[0].evidence]
    assert source["taken_from"] == study.trial(1).user_attrs[TAKEN_FROM]
    assert "taken_from" not in trial_to_config(study, study.trial(0))["source"]
    config = Space.from_document(trial_to_config(study, study.trial(1)), "exported")
    assert config.plan() == plan_of(study.trial(1))


def test_a_damaged_record_is_named(tmp_path, earlier):
    study, _ = begin(tmp_path, earlier)
    damaged = {**study.record.earlier[0].evidence, "ranks": [0.5], "paths": []}
    study.database.optuna.set_study_user_attr(study.study_id, "from_study_0", damaged)
    with pytest.raises(DamagedStudyError, match="a path for each of its `ranks`"):
        open_study(study.database, "later")


def test_a_record_has_ten_points_in_each_path_and_no_huge_values(tmp_path, earlier):
    study, _ = begin(tmp_path, earlier)
    record = study.record.earlier[0]
    path = [list(point) for point in record.paths[0]]
    for damage in ([], path * 3, path[:9], [*path[:9], [1e308]]):
        table = {**record.evidence, "ranks": [0.5, 0.6], "paths": [damage, damage]}
        study.database.optuna.set_study_user_attr(study.study_id, "from_study_0", table)
        with pytest.raises(DamagedStudyError, match="of 10 points with values below 1e"):
            open_study(study.database, "later")


def test_the_rank_of_the_worst_of_many_plans_is_below_1(tmp_path, earlier, monkeypatch):
    monkeypatch.setattr("schedsearch.forecast.prior.ranks_of", lambda values: 1 - 1e-6 * values)
    study, _ = begin(tmp_path, earlier)  # opens the study again, which checks the record
    assert set(study.record.earlier[0].ranks) == {0.9999}


def test_plans_whose_values_overflow_are_not_recorded(tmp_path):
    content = document()
    huge = {"low": 1e20, "high": 1e40, "log": True}
    content["hyperparameters"]["lr"]["families"]["constant"]["value"] = huge
    study, _ = begin(tmp_path, fill(tmp_path, "huge", 12, content))
    record = study.record.earlier[0]
    assert 0 < len(record.ranks) < record.trials == 12


def test_the_forecast_does_not_start_from_few_results(tmp_path):
    few = fill(tmp_path, "few", 3)
    _, said = begin(tmp_path, few)
    assert "the forecast starts" not in said[0]
    assert said[1] == "study few has fewer than 5 results, too few for the forecast"


def test_a_study_that_has_ended_says_that_it_has_more_trials(tmp_path, earlier):
    study = make_study(tmp_path, content_of(trials=2))
    assert not work(study).wrong
    said: list[str] = []
    study = begin_from(study, read_beginning(study.space, [earlier]), said.append)
    assert study.total() == 3
    assert said[-1] == "study later now has 3 trials in all, 1 more"


def test_a_schedule_that_is_not_taken_leaves_no_plan_out(tmp_path):
    content = document()
    pi = {"term": "fit", "set_point": 1.0, "proportional_gain": 0.05, "integral_gain": 0.001}
    content["hyperparameters"]["reg"] = {"families": {"pi": pi}}
    terms = fill(tmp_path, "terms", 12, content)
    other = content_of(task="tests.searches:train_gently")
    found = read_beginning(Space.from_document(other, "later"), [terms])
    assert found.plans
    assert found.left_out == ()


# --- errors --------------------------------------------------------------------------------------


def test_a_study_that_shares_no_hyperparameter_is_refused(tmp_path, earlier):
    content = content_of()
    content["hyperparameters"] = {"reg": content["hyperparameters"]["lr"]}
    with pytest.raises(InputError, match=r"`earlier` shares no searched .* searches lr, .* reg"):
        read_beginning(Space.from_document(content, "later"), [earlier])


def test_a_study_without_a_complete_trial_is_refused(tmp_path, earlier):
    fresh = make_study(tmp_path, {**document(), "name": "fresh"})
    with pytest.raises(StudyError, match="study fresh has no complete trial yet"):
        read_beginning(earlier.space, [fresh])


def test_a_grid_begins_from_no_study(tmp_path, earlier):
    grid = content_of()
    grid["search"] |= {"sampler": {"name": "grid"}, "pruner": {"name": "none"}}
    with pytest.raises(InputError, match="`grid` tries every point of the space"):
        read_beginning(Space.from_document(grid, "later"), [earlier])


def test_no_way_of_naming_a_study_lets_it_begin_from_itself(tmp_path):
    study = fill(tmp_path, "later", 6)
    (tmp_path / "link").symlink_to(tmp_path)
    link = url_of(tmp_path / "link")
    for given in (("later", None), ("later", link), (study, None)):
        with pytest.raises(InputError, match="study later cannot begin from itself"):
            read_from(study.space, url_of(tmp_path), given[:1], given[1])


# --- the command line, and Python ----------------------------------------------------------------


@pytest.fixture
def command(monkeypatch, capsys, tmp_path, earlier):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCHEDSEARCH_STORAGE", url_of(tmp_path))
    monkeypatch.setenv("SCHEDSEARCH_FROM_STORAGE", earlier.database.url)
    return Command(monkeypatch, capsys)


START = ("--study", "later", "--trials", 30, "--workers", 0, "--threads", 1, "--trust-task")


def test_start_begins_from_a_study_of_another_database(tmp_path, command):
    space = write_space(tmp_path, content_of())
    done = command("start", space, *START, "--from", "earlier")
    assert "study later begins from earlier: 3 of its plans are tried first" in done.err
    study = open_study(open_database(url_of(tmp_path)), "later")
    assert len(taken(study)) == 3
    again = command("start", space, *START, "--from", "earlier")
    assert (again.status, "begins from" in again.err) == (0, False)
    assert "study later has already begun from a study `earlier`" in again.err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--from", "earliest"), "has no study `earliest`: did you mean `earlier`?"),
        (("--from", ","), "--from names no study"),
        (("--from-storage", "sqlite:///x.db"), "give --from STUDY too, or leave it out"),
    ],
)
def test_a_wrong_name_creates_no_study(tmp_path, command, given, message):
    done = command("start", write_space(tmp_path, content_of()), *START, *given)
    assert done.status != 0
    assert message in done.err
    assert not (tmp_path / "studies.db").exists()


MISTAKE = """
def train(run):
    raise ValueError("mistake")
train.hyperparameters = {"lr": 0.1, "reg": 0.0}
"""


def test_a_study_that_is_created_again_begins_from_the_earlier_ones_again(
    tmp_path, command, monkeypatch, earlier
):
    (tmp_path / "mistaken.py").write_text(MISTAKE)
    monkeypatch.syspath_prepend(tmp_path)
    content = content_of(task="mistaken:train", trials=30)
    space = write_space(tmp_path, content)
    start = ("start", space, *START, "--from", "earlier")
    assert command(*start).status == 0
    study = open_study(open_database(url_of(tmp_path)), "later")
    before = len(taken(study))
    fail_all(study)
    (tmp_path / "mistaken.py").write_text(MISTAKE.replace("mistake", "corrected"))
    again = command(*start)
    assert "it is created again" in again.err
    assert "study later begins from earlier" in again.err
    study = open_study(study.database, "later")
    assert len(taken(study)) == before
    assert [one.name for one in study.record.earlier] == ["earlier"]


def fail_all(study):
    for trial in study.trials():
        study.database.optuna.set_trial_state_values(trial._trial_id, TrialState.FAIL)


def test_a_study_cannot_begin_from_itself(tmp_path, command, monkeypatch):
    monkeypatch.delenv("SCHEDSEARCH_FROM_STORAGE")
    done = command("start", write_space(tmp_path, content_of()), *START, "--from", "later")
    assert "study later cannot begin from itself" in done.err


def test_from_does_not_go_with_horizon(command):
    done = command("start", "small", "--horizon", 20, "--from", "earlier")
    assert "leave out --from" in done.err


def test_from_python_by_name_and_by_object(tmp_path, earlier):
    fill(tmp_path, "first", 6)
    later = schedsearch.search(
        content_of("second", trials=2),
        storage=url_of(tmp_path),
        threads=1,
        from_studies=["first", schedsearch.StudyView(earlier)],
    )
    assert later._study.trial(1).user_attrs[TAKEN_FROM]["study"] == "first"
    assert [one.name for one in later._study.record.earlier] == ["first", "earlier"]
