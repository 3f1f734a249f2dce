"""The names of test metrics, and what `confirm` says if none is the objective's."""

from __future__ import annotations

import pytest

from schedsearch.confirmation.confirm import prepare_confirmation
from schedsearch.engines.loop import LoopEngine
from schedsearch.errors import SchedSearchError
from schedsearch.metric_names import metric_on_test, missing_on_test
from tests.searches import DEFAULTS, document, make_study, work

PREFIXES = ["", "val_", "valid_", "validation_", "eval_", "test_", "val/", "eval/", "test_eval_"]


def train_and_test_accuracy(run):
    """Measure on the test split what is not the objective."""
    for _, hp in run:
        run.report(val_loss=hp["lr"])
    run.test(accuracy=0.5)


def train_without_test(run):
    """Measure nothing on the test split."""
    for _, hp in run:
        run.report(val_loss=hp["lr"])


def train_by_evaluation(run):
    """Name the metrics as Hugging Face's Trainer does."""
    for _, hp in run:
        run.report(eval_loss=hp["lr"])
    run.test(eval_loss=hp["lr"] + run.seed)


for _train in (train_and_test_accuracy, train_without_test, train_by_evaluation):
    _train.hyperparameters = DEFAULTS


def searched(folder, task, metric="val_loss"):
    content = document(task, pruner={"name": "none"}) | {
        "task": f"tests.confirmation.test_on_test_split:{task.__name__}",
        "objective": {"metric": metric},
    }
    study = make_study(folder, content)
    work(study)
    return study


@pytest.mark.parametrize("objective", PREFIXES)
@pytest.mark.parametrize("tested", PREFIXES)
def test_names_of_a_metric_differ_only_in_the_prefixes_of_the_split(objective, tested):
    assert metric_on_test(f"{objective}loss") == metric_on_test(f"{tested}loss") == "test_loss"


@pytest.mark.parametrize("name", ["value", "validity", "testing_loss", "evaluation"])
def test_a_word_that_begins_like_a_prefix_is_none(name):
    assert metric_on_test(name) == f"test_{name}"


def test_two_names_of_one_test_metric_are_refused():
    def train(run):
        for _ in run:
            run.report(val_loss=0.0)
        run.test(val_loss=1.0, test_loss=2.0)

    train.hyperparameters = {}
    engine = LoopEngine(train, horizon=1)
    engine.fill(0, seed=0)
    engine.train_epoch([{}])
    with pytest.raises(SchedSearchError, match="two of these names mean test_loss"):
        engine.test(0)


@pytest.mark.parametrize(
    ("task", "given"),
    [(train_and_test_accuracy, "test_accuracy"), (train_without_test, "no metric")],
)
def test_a_mismatch_that_the_search_has_seen_is_known_before_any_run_trains(tmp_path, task, given):
    study = searched(tmp_path, task)
    with prepare_confirmation(study, top=1, seeds=6) as confirmation:
        assert confirmation.without_test is not None
        assert f"gives {given} on the test split" in confirmation.without_test
        assert "pass `loss` to run.test()" in confirmation.without_test
        assert confirmation.study.queue.counts().epochs == 0


def test_the_workers_do_not_say_again_what_confirm_has_said(tmp_path):
    study = searched(tmp_path, train_and_test_accuracy)
    with prepare_confirmation(study, top=1, seeds=6) as confirmation:
        assert confirmation.without_test == missing_on_test("val_loss", ["test_accuracy"])
        assert work(confirmation.study, "confirms").wrong == []


def test_what_no_search_has_seen_is_said_with_the_first_run(tmp_path):
    study = searched(tmp_path, train_and_test_accuracy)
    study.database.optuna.set_study_user_attr(study.study_id, "test_metrics", [])
    with prepare_confirmation(study, top=1, seeds=6) as confirmation:
        ears = work(confirmation.study, "confirms")
    assert ears.wrong == [missing_on_test("val_loss", ["test_accuracy"])]


def test_eval_loss_is_compared_on_the_test_split(tmp_path):
    study = searched(tmp_path, train_by_evaluation, "eval_loss")
    with prepare_confirmation(study, top=1, seeds=6) as confirmation:
        assert confirmation.without_test is None
        ears = work(confirmation.study, "confirms")
        result = confirmation.judge()
    assert (result["metric"], result["test"], ears.wrong) == ("test_loss", True, [])
    assert result["baseline"]["mean"] > 1_000_000
