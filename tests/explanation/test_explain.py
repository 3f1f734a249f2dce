"""Explanations of tasks whose answer is known, and the state that they leave."""

from __future__ import annotations

import json

import numpy as np
import pytest
from optuna.trial import create_trial

from schedsearch.confirmation.stored_result import keep_result
from schedsearch.confirmation.study import recorded_runs
from schedsearch.errors import InputError, SchedSearchError, StudyError
from schedsearch.explanation.explain import prepare_explanation
from schedsearch.explanation.fits import FITS
from schedsearch.explanation.paths import mean_paths
from schedsearch.explanation.stored_result import explanation_result, find_mistake
from schedsearch.export import simplest_to_config
from schedsearch.report.explanation import explanation_lines
from schedsearch.schedules import Cosine, Linear
from schedsearch.space import Space
from schedsearch.storage.attributes import EVERY, EXPLANATION_RESULT, VALUES
from tests.explanation import tasks
from tests.explanation.tasks import content_of, explained, last_stage, searched, with_both
from tests.searches import document, make_study, work


def found(result, question, change=None, name=None):
    """Return the comparisons of a question, by their change and what they are about."""
    return [
        c
        for c in result["comparisons"]
        if c["question"] == question
        and change in (None, c["change"])
        and name in (None, *c["names"])
    ]


@pytest.fixture(scope="module")
def decay(tmp_path_factory):
    study = searched(tmp_path_factory.mktemp("decay"), content_of(tasks.train_by_decay))
    return study, explained(study, trial=with_both(study))


def test_where_only_the_decay_of_lr_matters_it_alone_carries_the_gain(decay):
    _, result = decay
    [lr], [reg] = (found(result, "carries", "without", name) for name in ("lr", "reg"))
    assert (lr["verdict"], reg["verdict"]) == ("worse", "no difference seen")
    assert lr["interval"][0] > 0 > reg["interval"][0]
    assert found(result, "follows") == []
    assert "  none of its schedules follows the training" in explanation_lines(result)
    [gain] = found(result, "gain")
    assert (gain["verdict"], result["gain"]) == ("worse", pytest.approx(gain["difference"]))


def test_the_simplest_plan_keeps_the_decay_and_has_a_constant_for_the_rest(decay):
    study, result = decay
    assert result["margin"] == pytest.approx(result["gain"] / 4)
    [constant_lr] = found(result, "simpler", "constant", "lr")[:1]
    assert constant_lr["verdict"] == "not shown"
    simplest = result["comparisons"][result["simplest"]]
    assert (simplest["change"], simplest["verdict"]) == ("together", "not worse")
    assert list(simplest["schedules"]["reg"]) == ["constant"]
    assert next(iter(simplest["schedules"]["lr"])) in ("linear", "cosine", "step")

    config = simplest_to_config(study)
    plan = Space.from_document(config, "simple.toml").plan()
    assert plan.to_tables() == simplest["plan"]
    assert config["source"]["explanation"]["trial"] == result["trial"]
    assert config["source"]["study"] == "small:explain"
    run = recorded_runs(prepare_explanation(study, seeds=12, trial=result["trial"]).study)
    assert config["source"]["value"] == run[plan, config["search"]["seed"]].validation


@pytest.mark.parametrize(
    ("margin", "origin"),
    [
        (None, "a quarter of the gain of {:.4g} over the best constants (none was given)"),
        (0.001, "as given"),
    ],
)
def test_it_says_what_a_sign_means_and_where_the_margin_comes_from(decay, margin, origin):
    study, result = decay
    if margin is not None:
        result = explained(study, trial=result["trial"], margin=margin)
    lines = explanation_lines(result)
    assert lines[1] == (
        "difference: variant minus plan; negative: the variant is better, as test_loss is minimized"
    )
    at = lines.index("would a simpler schedule do?")
    shown, gain = f"  margin: {result['margin']:.4g}, ", result["gain"]
    assert lines[at + 1].startswith(f"{shown}{origin.format(gain)}; a simpler schedule is not ")
    told = "\n".join(lines)
    for comparison in found(result, "simpler"):
        words = "may be worse by the margin: these seeds do not rule it out"
        if comparison["verdict"] == "not worse":
            words = "is worse by less than the margin, if at all"
        elif comparison["interval"][0] > result["margin"]:  # test_loss is minimized
            words = "is worse by more than the margin"
        assert words in told


def test_where_only_the_feedback_matters_a_schedule_has_to_follow_the_training(tmp_path):
    study = searched(tmp_path, content_of(tasks.train_by_feedback))
    result = explained(study)
    [follows] = found(result, "follows")
    assert (follows["names"], follows["verdict"]) == (["lr"], "worse")
    lr = [c for c in found(result, "simpler", None, "lr") if c["names"] == ["lr"]]
    assert {c["verdict"] for c in lr} == {"not shown"}
    lines = explanation_lines(result)
    assert any(line.startswith("  lr: following the training gains ") for line in lines)
    # The path is the mean over the runs: it falls while some runs have not reached their plateau.
    path = np.array(result["paths"]["lr"])
    assert (np.diff(path) <= 0).all()
    assert len(set(path)) > 2


def test_where_nothing_matters_nothing_is_claimed(tmp_path):
    study = searched(tmp_path, content_of(tasks.train_by_luck))
    result = explained(study, trial=with_both(study))
    assert {c["verdict"] for c in result["comparisons"]} <= {"no difference seen", "not shown"}
    assert result["simplest"] is None
    with pytest.raises(StudyError, match="found no simpler plan"):
        simplest_to_config(study)


def test_a_margin_of_the_user_decides_what_is_not_worse(decay):
    study, result = decay
    wide = explained(study, trial=result["trial"], margin=100.0)
    assert wide["margin"] == 100.0
    assert {c["verdict"] for c in found(wide, "simpler")} == {"not worse"}
    assert list(wide["comparisons"][wide["simplest"]]["schedules"]["lr"]) == ["constant"]
    with pytest.raises(InputError, match="--margin is 0, but must be a number greater than 0"):
        prepare_explanation(study, seeds=12, margin=0)


@pytest.fixture(scope="module")
def one_schedule(tmp_path_factory):
    """The explanation of a plan whose only schedule is that of lr; the first seed diverges."""
    content = content_of(tasks.train_by_decay_with_a_bad_seed, trials=20)
    del content["hyperparameters"]["reg"]
    study = searched(tmp_path_factory.mktemp("one"), content)
    return study, explained(study, seeds=10)


def test_the_simplest_plan_is_exported_with_a_run_that_did_not_diverge(one_schedule):
    study, result = one_schedule
    simplest = result["comparisons"][result["simplest"]]
    assert simplest["diverged"] == 1
    config = simplest_to_config(study)
    assert config["search"]["seed"] == tasks.FRESH + 1
    assert config["source"]["trial"] == simplest["number"]


def test_the_intervals_are_corrected_for_the_distinct_variants(one_schedule):
    """Without its only schedule, the plan is the best constants."""
    _, result = one_schedule
    [gain], [without] = found(result, "gain"), found(result, "carries")
    assert (gain["plan"], gain["level"]) == (without["plan"], without["level"])
    assert result["hypotheses"] == len(result["comparisons"]) - 1
    smallest = min(c["level"] for c in result["comparisons"])
    assert smallest == pytest.approx(0.05 / result["hypotheses"])
    [line] = [line for line in explanation_lines(result) if line.startswith("intervals: ")]
    assert f"the {result['hypotheses']} comparisons share an error rate of 5 % (Holm)" in line
    assert f"a {100 * (1 - smallest):.4g} % interval (5 % / {result['hypotheses']})" in line


def test_a_look_with_another_margin_is_another_look(one_schedule):
    study, result = one_schedule
    trial = result["trial"]
    assert result["looks"] == [[trial, 10]]
    for margin in (0.2, 0.1, 0.2):
        result = explained(study, seeds=10, trial=trial, margin=margin)
    assert result["looks"] == [[trial, 10], [trial, 10, 0.1], [trial, 10, 0.2]]
    assert explained(study, seeds=10, trial=trial)["looks"] == result["looks"]
    assert find_mistake(explanation_result(study)) is None


def test_it_goes_on_where_it_stopped_and_more_seeds_train_only_what_is_new(tmp_path):
    study = searched(tmp_path, content_of(tasks.train_by_decay))
    number = with_both(study)
    first = prepare_explanation(study, seeds=12, trial=number)
    assert len(first.plans) == 4  # the plan, the constants, and one schedule at a time
    done = iter([False] * 40 + [True] * 1000)
    work(first.study, should_stop=lambda: next(done))
    with pytest.raises(SchedSearchError, match=r"of 48 runs are missing.*trains them"):
        first.advance()
    again = prepare_explanation(study, seeds=12, trial=number)
    assert 0 < again.recorded() < 48
    result = last_stage(again).judge()
    trained = again.study.queue.counts().complete
    assert trained == 12 * len({json.dumps(c["plan"]) for c in result["comparisons"]}) + 12
    assert explained(study, trial=number)["comparisons"] == result["comparisons"]
    assert again.study.queue.counts().complete == trained

    # The path is that of the first seeds, so the variants stay the same.
    more = prepare_explanation(study, seeds=13, trial=number)
    work(more.study)
    following = more.advance()
    assert following is not None
    assert len(following.runs) - following.recorded() == len(following.plans) - len(more.plans)


def test_the_stored_result_is_checked_and_has_no_plans(decay):
    study, result = decay
    stored = explanation_result(study)
    assert "plan" not in stored.keys() | stored["comparisons"][0].keys()
    assert find_mistake(json.loads(json.dumps(stored))) is None
    for key, value in (("simplest", 99), ("paths", {"lr": []}), ("comparisons", [])):
        assert find_mistake({**stored, key: value}) is not None
    broken = [{**stored["comparisons"][1], "schedules": {"lr": {"constant": {}}}}]
    assert "must be a schedule" in find_mistake({**stored, "comparisons": broken, "simplest": 0})
    assert result["seeds"][0] == tasks.FRESH
    assert study.attributes(EXPLANATION_RESULT) is not None


def test_a_stored_result_keeps_the_path_of_a_hyperparameter_named_plan(tmp_path):
    study, paths = make_study(tmp_path, document()), {"plan": [1.0, 0.5], "lr": [0.1, 0.1]}
    entries = [{"number": 1, "plan": {"hyperparameters": {}}}]
    keep_result(study, study, {"paths": paths, "comparisons": entries}, EXPLANATION_RESULT)
    stored = study.attributes(EXPLANATION_RESULT)[EXPLANATION_RESULT]
    assert stored == {"paths": paths, "comparisons": [{"number": 1}]}


def test_what_cannot_be_explained_is_refused(tmp_path):
    study = make_study(tmp_path, content_of(tasks.train_by_decay, trials=1))
    with pytest.raises(StudyError, match="has no complete trial yet"):
        prepare_explanation(study, seeds=12)
    work(study)
    with pytest.raises(StudyError, match="no complete trial with a schedule"):
        prepare_explanation(study, seeds=12)
    with pytest.raises(StudyError, match="the plan of trial 0 has no schedule to explain"):
        prepare_explanation(study, seeds=12, trial=0)


def test_the_mean_path_holds_the_values_of_epochs_that_a_long_run_did_not_record():
    """A run of 1,000 epochs records each second one, and a schedule drops at once."""
    recorded = {VALUES: {"lr": [1.0, 0.1, 0.1], "reg": 0.5}, EVERY: 2}
    run = create_trial(value=0.5, user_attrs=recorded)
    paths = mean_paths([run], ["lr", "reg"], 6)
    assert paths["lr"] == pytest.approx([1.0, 1.0, 0.1, 0.1, 0.1, 0.1])
    assert list(paths["reg"]) == [0.5] * 6


@pytest.mark.parametrize("family", FITS)
def test_a_fit_to_its_own_family_is_exact(family):
    shapes = {
        "constant": np.full(12, 0.3),
        "linear": np.linspace(0.9, 0.1, 12),
        "cosine": 0.1 + 0.4 * (1 + np.cos(np.pi * np.linspace(0, 1, 12))),
        "step": 0.8 * 0.5 ** (np.arange(12) // 4),
    }
    fit = FITS[family](shapes[family], 2, "epoch").resolve(12, 0)
    assert [fit.at(epoch) for epoch in range(12)] == pytest.approx(shapes[family], rel=1e-4)


@pytest.mark.parametrize("family", ["linear", "cosine"])
def test_a_fit_by_the_step_reaches_its_end_at_the_horizon(family):
    given = {"linear": Linear, "cosine": Cosine}[family](0.9, 0.0).resolve(12, 0)
    path = np.array([given.at(epoch) for epoch in range(12)])
    fit = FITS[family](path, 2, "step").resolve(12, 0)
    times = np.linspace(0, 11.99, 50)
    assert [fit.at(t) for t in times] == pytest.approx([given.at(t) for t in times], abs=0.02)
    assert not fit.endpoint
    assert min(fit.at(t) for t in times) > 0


@pytest.mark.parametrize(
    ("horizon", "size"), [(100, 50), (100, 30), (100, 60), (2000, 701), (2000, 130)]
)
def test_steps_of_any_length_are_found(horizon, size):
    path = 0.8 * 0.5 ** (np.arange(horizon) // size)
    fit = FITS["step"](path, 2, "epoch").resolve(horizon, 0)
    assert fit.step_size == size
    assert [fit.at(epoch) for epoch in range(horizon)] == pytest.approx(path, rel=1e-4)


def test_fits_stay_within_the_range_of_the_path():
    steep = 0.5 ** np.arange(20.0)
    for fit in FITS.values():
        values = [fit(steep, 2, "epoch").resolve(20, 0).at(epoch) for epoch in range(20)]
        assert min(values) >= 0.999 * steep.min()
        assert max(values) <= 1.001 * steep.max()
