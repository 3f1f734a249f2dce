"""The study of a confirmation: its trials, who trains them, and what is trained only once."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from wsgiref.util import setup_testing_defaults

import pytest
from optuna.trial import TrialState
from sqlalchemy import func, select, update

from schedsearch.confirmation import live_calls
from schedsearch.confirmation.candidates import Candidate, candidates
from schedsearch.confirmation.confirm import prepare_confirmation
from schedsearch.confirmation.live_calls import LiveCall
from schedsearch.confirmation.stored_result import confirmation_result
from schedsearch.confirmation.study import (
    RunResult,
    failed_runs,
    queue_missing,
    recorded_runs,
)
from schedsearch.engines import make_engine
from schedsearch.errors import SchedSearchError, StudyError
from schedsearch.launchers.in_process import run_worker
from schedsearch.plan import Plan
from schedsearch.preparation import ComputeOptions, choose_numerics, prepare_space
from schedsearch.report.confirmation import verdict_line
from schedsearch.report.dashboard import make_app
from schedsearch.report.dashboard_artifacts import picture_store
from schedsearch.report.follow_ups import follow_ups
from schedsearch.run import Run
from schedsearch.schedules import Constant
from schedsearch.space import Space
from schedsearch.storage import (
    Database,
    StudyHandle,
    create_study,
    get_only_study,
    open_database,
    open_study,
    plan_of,
)
from schedsearch.storage.process_identity import ProcessIdentity
from schedsearch.storage.tables import study_attributes
from schedsearch.task import load_task
from schedsearch.training import train_to_end
from schedsearch.trajectories import open_store
from schedsearch.trajectories.cached_runs import CachedRuns
from schedsearch.trajectories.tables import nodes
from schedsearch.worker import Messages, ProcessControl
from tests import searches
from tests.claims import claim
from tests.cli.command import Command
from tests.confirmation import tasks
from tests.confirmation.tasks import FRESH, content_of, open_confirmation, searched
from tests.processes import descendants, is_alive
from tests.searches import begin, document, make_study, make_study_at, url_of, wait_until, work

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys) -> Command:
    monkeypatch.setenv("SCHEDSEARCH_STORAGE", url_of(tmp_path))
    monkeypatch.chdir(tmp_path)
    return Command(monkeypatch, capsys)


def candidate(value: float, number: int | None = 3) -> Candidate:
    return Candidate(number, Plan({("lr",): Constant(value)}))


def queued(study: StudyHandle, *runs: tuple[Candidate, int]) -> StudyHandle:
    """Return a study's confirmation with these runs in its queue."""
    confirmation = open_confirmation(study)
    queue_missing(confirmation, runs, LiveCall(confirmation))
    return confirmation


def test_each_run_is_a_trial_that_a_worker_trains_on_its_own_seed_and_tests(tmp_path):
    pairs = [(candidate(lr), FRESH + i) for i in range(2) for lr in (0.5, 0.25)]
    confirmation = queued(make_study(tmp_path, document(seeds=3)), *pairs)
    assert not work(confirmation).wrong
    results = recorded_runs(confirmation)
    assert set(results) == {(plan.plan, seed) for plan, seed in pairs}
    # The toy's distance falls by the factor 1 - lr in each of nine epochs; validation adds lr.
    for (plan, seed), result in results.items():
        lr = plan.to_tables()["hyperparameters"]["lr"]["families"]["constant"]["value"]
        assert result.test == pytest.approx((5.0 + seed) * (1 - lr) ** 9, rel=1e-12)
        assert result.validation == pytest.approx(result.test + lr, rel=1e-12)
    for trial in confirmation.trials():
        assert trial.state is TrialState.COMPLETE
        assert trial.value == trial.user_attrs["test"]
        assert list(trial.intermediate_values) == list(range(1, 10))
        assert trial.user_attrs["trial"] == 3
        assert trial.user_attrs["constant"] is True
        assert [run["seed"] for run in trial.user_attrs["runs"]] == [trial.params["seed"]]


def test_a_diverged_run_is_pruned_and_without_a_test_metric_validation_is_the_value(tmp_path):
    content = document(searches.train_to_nan)
    confirmation = queued(make_study(tmp_path, content), (candidate(0.6), 0), (candidate(0.4), 0))
    work(confirmation)
    diverged, well = recorded_runs(confirmation).values()
    assert math.isnan(diverged.validation)
    assert math.isnan(diverged.test or 0.0)
    assert well == RunResult(0.4, None)
    assert [trial.state for trial in confirmation.trials()] == [
        TrialState.PRUNED,
        TrialState.COMPLETE,
    ]


def test_optunas_tools_show_the_metric_that_is_compared(tmp_path):
    study = make_study(tmp_path)
    confirmation = queued(study, (candidate(0.5), FRESH))
    assert study.load().metric_names == ["val_loss"]
    assert confirmation.load().metric_names == ["test_loss"]


def test_workers_of_a_confirmation_draw_no_trials_of_their_own(tmp_path):
    confirmation = open_confirmation(make_study(tmp_path))
    work(confirmation)
    assert confirmation.trials() == []
    queue_missing(confirmation, [(candidate(0.5), FRESH)], LiveCall(confirmation))
    work(confirmation)
    assert len(confirmation.trials()) == confirmation.total() == 1


def test_a_run_that_failed_is_named_and_queued_again_by_the_next_call(tmp_path):
    study = searched(tmp_path, content_of(tasks.train_and_raise_when_fresh))
    confirmation = prepare_confirmation(study, top=1, seeds=6)
    with pytest.raises(SchedSearchError, match="3 trials in a row failed"):
        work(confirmation.study)
    reasons = failed_runs(confirmation.study).values()
    assert set(reasons) == {"ZeroDivisionError: something"}
    wanted = len(confirmation.runs)
    with pytest.raises(SchedSearchError, match=rf"{wanted} runs are missing, 3 of them failed"):
        confirmation.judge()
    assert confirmation_result(study) is None
    prepare_confirmation(study, top=1, seeds=6)
    assert confirmation.study.queue.counts().waiting == wanted


def test_a_call_for_fewer_seeds_takes_the_others_out_of_the_queue(tmp_path):
    study = searched(tmp_path, content_of())
    with prepare_confirmation(study, top=2, seeds=10) as many:
        pass
    few = prepare_confirmation(study, top=1, seeds=6)
    counts = few.study.queue.counts()
    assert few.others == 0
    assert counts.waiting == len(few.runs) < len(many.runs)
    work(few.study)
    assert few.recorded() == len(few.runs)
    assert few.judge()["looks"] == [6]


def test_while_a_run_is_in_training_no_call_takes_runs_out_of_the_queue(tmp_path):
    study = searched(tmp_path, content_of())
    with prepare_confirmation(study, top=2, seeds=10) as many:
        claim(many.study, "ann")
    few = prepare_confirmation(study, top=1, seeds=6)
    counts = many.study.queue.counts()
    assert (counts.running, counts.waiting) == (1, len(many.runs) - 1)
    assert few.others == len(many.runs) - len(few.runs)


def test_queueing_and_the_progress_of_a_call_read_the_runs_once_each(tmp_path, monkeypatch):
    study = searched(tmp_path, content_of())
    reads: list[str] = []
    rows = StudyHandle.rows
    with prepare_confirmation(study, top=1, seeds=6) as confirmation:
        monkeypatch.setattr(StudyHandle, "rows", lambda self: reads.append(self.name) or rows(self))
        work(confirmation.study, should_stop=iter([False] * 3 + [True] * 9).__next__)
        reads.clear()
        queue_missing(confirmation.study, confirmation.runs, confirmation.call)
        assert len(reads) == 1
        recorded, trained = confirmation.progress()
        assert len(reads) == 2
        assert recorded == confirmation.recorded()
        assert recorded <= trained < len(confirmation.runs)


def live_calls_of(confirmation: StudyHandle) -> list[float]:
    """Return until when each call of `confirm` counts as alive."""
    attributes = confirmation.database.rdb.get_study_user_attrs(confirmation.study_id)
    return [value["until"] for key, value in attributes.items() if key.startswith("live_call_")]


#: Makes the record of a call that counts as alive for no time, says so, and sleeps.
_CALL = """
import sys, time
from datetime import timedelta
from schedsearch.confirmation import live_calls
from schedsearch.confirmation.confirm import prepare_confirmation
from schedsearch.storage import open_database, open_study
live_calls.GRACE_PERIOD = timedelta(0)
prepare_confirmation(open_study(open_database(sys.argv[1]), "small"), top=2, seeds=7)
print(flush=True)
time.sleep(600)
"""


@contextmanager
def call_that_cannot_renew(study: StudyHandle) -> Iterator[subprocess.Popen[bytes]]:
    """Start a call of `confirm` in another process, whose time is up at once."""
    command = [sys.executable, "-c", _CALL, study.database.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"\n"
            yield process
        finally:
            process.kill()


def test_two_calls_at_a_time_both_get_their_result_and_no_run_is_trained_twice(tmp_path):
    study = searched(tmp_path, content_of())
    with prepare_confirmation(study, top=2, seeds=7) as first:
        # The second call begins before a worker has claimed any run of the first one.
        with prepare_confirmation(study, top=1, seeds=8) as second:
            assert second.others == 7
            assert len(live_calls_of(first.study)) == 2
            work(second.study)
            assert second.judge()["seeds"] == [FRESH, FRESH + 8]
        assert first.recorded() == len(first.runs)
        assert len(first.judge()["plans"]) == 2
    keys = {(plan_of(trial), trial.params["seed"]) for trial in first.study.rows()}
    wanted = {(plan.plan, seed) for plan, seed in [*first.runs, *second.runs]}
    assert keys == wanted
    assert len(first.study.rows()) == len(wanted)
    assert live_calls_of(first.study) == []


def test_a_call_on_this_host_is_alive_as_long_as_its_process(tmp_path):
    study = searched(tmp_path, content_of())
    with call_that_cannot_renew(study) as other:
        with prepare_confirmation(study, top=1, seeds=6) as few:
            assert few.others > 0
            assert len(live_calls_of(few.study)) == 2
        other.kill()
        other.wait()
        few = prepare_confirmation(study, top=1, seeds=6)
        assert few.others == 0
        assert few.study.queue.counts().waiting == len(few.runs)
        assert len(live_calls_of(few.study)) == 1


def test_the_runs_of_a_call_that_was_killed_leave_the_queue_after_the_grace_period(
    tmp_path, monkeypatch
):
    study = searched(tmp_path, content_of())
    with monkeypatch.context() as patch:
        patch.setattr(live_calls, "GRACE_PERIOD", timedelta(0))
        patch.setattr(ProcessIdentity, "current", lambda: None)  # on a host without /proc
        killed = prepare_confirmation(study, top=2, seeds=7)
    assert len(live_calls_of(killed.study)) == 1
    few = prepare_confirmation(study, top=1, seeds=6)
    assert few.others == 0
    assert few.study.queue.counts().waiting == len(few.runs) < len(killed.runs)
    assert len(live_calls_of(few.study)) == 1  # the entry of the killed call is removed


def test_a_call_stays_alive_while_it_is_renewed(database_url, monkeypatch):
    monkeypatch.setattr(live_calls, "_INTERVAL", 0.0)
    confirmation = open_confirmation(make_study_at(database_url))
    call, other = LiveCall(confirmation), LiveCall(confirmation)
    call.renew()
    [before] = live_calls_of(confirmation)
    assert (call.has_others(), other.has_others()) == (False, True)
    wait_until(lambda: call.renew() or live_calls_of(confirmation)[0] > before)
    call.end()
    assert not other.has_others()


def test_a_time_that_no_call_writes_keeps_no_run_in_the_queue(tmp_path):
    confirmation = open_confirmation(make_study(tmp_path))
    storage = confirmation.database.optuna
    for number, until in enumerate((1e300, "soon", None)):
        storage.set_study_user_attr(confirmation.study_id, f"live_call_{number}", until)
    with confirmation.database.engine.begin() as connection:
        damage = update(study_attributes).values(value_json="not JSON")
        connection.execute(damage.where(study_attributes.c.key == "live_call_2"))
    assert not LiveCall(confirmation).has_others()


def test_the_command_says_that_runs_of_another_call_stay(run, tmp_path):
    study = searched(tmp_path, content_of())
    flags = ("--top", 1, "--seeds", 7, "--workers", 0)
    with prepare_confirmation(study, top=2, seeds=7) as first:
        kept = run("confirm", "small", *flags).err
        assert kept.startswith(
            "7 queued runs that this command does not compare stay in the queue, since another "
            "`confirm` or a worker of small:confirm is running: the workers train them too\n"
        )
        assert first.study.queue.counts().waiting == len(first.runs)
    assert "stay in the queue" not in run("confirm", "small", *flags).err
    assert first.study.queue.counts().waiting == len(first.runs) - 7
    assert live_calls_of(first.study) == []


def test_a_lost_run_goes_on_in_another_worker_with_its_seed(tmp_path):
    confirmation = queued(make_study(tmp_path), (candidate(0.5), FRESH + 4))
    claim(confirmation, "dead")
    confirmation.queue.requeue_trials_of("dead")
    work(confirmation)
    [(plan, seed)] = recorded_runs(confirmation)
    assert (plan, seed) == (candidate(0.5).plan, FRESH + 4)
    assert len(confirmation.rows()) == 2


def test_the_dashboard_lists_it_beside_the_study(tmp_path):
    study = make_study(tmp_path)
    queued(study, (candidate(0.1), FRESH))
    environment: dict[str, object] = {}
    setup_testing_defaults(environment)
    environment["PATH_INFO"] = "/api/studies"
    database = study.database
    app = make_app(
        database.optuna, picture_store(database), "localhost", allow_edit=False, warn=print
    )
    environment["HTTP_HOST"] = "localhost"
    body = json.loads(b"".join(app(environment, lambda *status: None)))
    assert [found["study_name"] for found in body["study_summaries"]] == ["small", "small:confirm"]


def test_runs_of_another_study_that_had_the_name_are_not_taken_for_its_own(run, tmp_path):
    before = make_study(tmp_path, content_of())
    queued(before, (candidate(0.1), FRESH))
    before.database.optuna.delete_study(before.study_id)
    study = make_study(tmp_path, content_of() | {"horizon": 10})
    with pytest.raises(
        StudyError, match="has runs of another study `small`, or of other settings: delete it"
    ):
        open_confirmation(study)
    assert run("delete", "small:confirm", "--yes").status == 0
    assert recorded_runs(open_confirmation(study)) == {}


def test_a_confirmation_with_other_settings_names_itself_as_the_study_to_delete(run, tmp_path):
    before = make_study(tmp_path)
    queued(before, (candidate(0.1), FRESH))
    before.database.optuna.delete_study(before.study_id)
    content = document()
    content["hyperparameters"]["lr"]["families"].pop("exponential")
    study = make_study(tmp_path, content)
    with pytest.raises(StudyError) as raised:
        open_confirmation(study)
    first, *_, hint = str(raised.value).splitlines()
    assert first == "study `small:confirm` exists with other settings:"
    assert hint == (
        "hint: restore these settings, or delete this one with `schedsearch delete small:confirm`"
    )
    assert run("delete", "small:confirm", "--yes").status == 0
    assert recorded_runs(open_confirmation(study)) == {}


def test_a_foreign_study_of_that_name_is_refused(tmp_path):
    study = make_study(tmp_path)
    storage = study.database.optuna
    foreign = storage.create_new_study(
        storage.get_study_directions(study.study_id), "small:confirm"
    )
    storage.create_new_trial(foreign)
    with pytest.raises(StudyError, match="study `small:confirm` has runs of another study `small`"):
        open_confirmation(study)


def test_a_foreign_study_that_appears_at_the_last_moment_is_refused_and_not_changed(
    tmp_path, monkeypatch
):
    study = make_study(tmp_path)
    storage = study.database.optuna
    lock = Database.creation_lock

    @contextmanager
    def appear_before_the_lock(database):
        if "small:confirm" not in (one.study_name for one in storage.get_all_studies()):
            foreign = storage.create_new_study(
                storage.get_study_directions(study.study_id), "small:confirm"
            )
            storage.create_new_trial(foreign)
        with lock(database):
            yield

    monkeypatch.setattr(Database, "creation_lock", appear_before_the_lock)
    with pytest.raises(StudyError, match="study `small:confirm` has runs of another study `small`"):
        open_confirmation(study)
    foreign = storage.get_study_id_from_name("small:confirm")
    assert storage.get_study_user_attrs(foreign) == {}


def test_delete_takes_it_along_and_list_and_status_name_it(run, tmp_path):
    study = make_study(tmp_path)
    work(queued(study, (candidate(0.1), FRESH)))
    lines = run("list").out.splitlines()
    assert lines[-1] == "small:confirm  confirms small  1 of 1 run  no verdict yet"
    expected = {"study": "small:confirm", "confirms": "small", "runs": 1}
    assert json.loads(run("list", "--json").out)[-1] == expected
    assert run("status").out.startswith("study     small ")  # still the only study
    shown = run("status", "small:confirm").out.splitlines()
    assert shown[0] == "study     small:confirm (done), the confirmation of study small"
    assert shown[1].startswith("runs      1 of 1 ended: 1 complete")
    assert not any(line.startswith(("schedule", "constant")) for line in shown)
    found = json.loads(run("status", "small:confirm", "--json").out)
    assert (found["confirms"], found["best"]) == ("small", None)
    refused = run("export", "small:confirm")
    assert (refused.status, refused.out) == (2, "")
    assert (
        "study `small:confirm` confirms study `small`: give the name of that study" in refused.err
    )
    done = run("delete", "small", "--yes")
    assert (done.status, done.err) == (0, "deleted study small and small:confirm\n")
    assert study.database.rdb.get_all_studies() == []


def test_delete_refuses_while_a_run_of_the_confirmation_is_in_training(run, tmp_path):
    study = make_study(tmp_path)
    confirmation = queued(study, (candidate(0.1), FRESH))
    claim(confirmation, "ann")
    for name in ("small", "small:confirm"):
        done = run("delete", name, "--yes")
        assert (done.status, done.out) == (2, "")
        assert "study `small:confirm` is in training (trials running: 1): stop its" in done.err
    names = {found.study_name for found in study.database.rdb.get_all_studies()}
    assert names == {"small", "small:confirm"}
    confirmation.queue.requeue_trials_of("ann")
    assert run("delete", "small", "--yes").status == 0


@pytest.mark.long
def test_a_confirmation_of_version_0_1_goes_on_as_a_study(tmp_path):
    """tests/data/studies_0_1.db was made and confirmed by version 0.1."""
    shutil.copy(DATA / "studies_0_1.db", tmp_path / "studies.db")
    study = get_only_study(open_database(url_of(tmp_path)))
    before = confirmation_result(study)
    assert before is not None
    seeds = len(range(*before["seeds"]))
    same = prepare_confirmation(study, top=len(before["plans"]), seeds=seeds)
    assert same.recorded() == len(same.runs)
    assert same.study.queue.counts().waiting == 0
    again = same.judge()
    assert {p["number"]: p["verdict"] for p in again["plans"]} == {
        p["number"]: p["verdict"] for p in before["plans"]
    }
    assert [p["mean"] for p in again["plans"]] == [p["mean"] for p in before["plans"]]
    more = prepare_confirmation(study, top=len(before["plans"]), seeds=seeds + 1)
    assert more.study.queue.counts().waiting == len(more.runs) - len(same.runs)


def seeds_begun(folder: Path) -> list[int]:
    return sorted(map(int, (folder / "begun.log").read_text().split()))


def summary_of(study: StudyHandle):
    found, _ = follow_ups(study.database)
    return next(one for one in found if one.follows.study == study.name)


def confirm(run: Command, seeds: int) -> dict:
    flags = ("--top", 1, "--seeds", seeds, "--workers", 1, "--no-reuse", "--json")
    done = run("confirm", "small", *flags)
    assert done.status == 0
    return json.loads(done.out)


@pytest.mark.long
def test_killed_it_goes_on_and_more_seeds_train_only_what_is_new(run, tmp_path):
    study = searched(tmp_path, content_of(tasks.train_and_log_when_fresh, trials=10))
    flags = ("--top", 1, "--seeds", 6, "--workers", 1, "--no-reuse")
    command = begin("confirm", "small", *flags, "--storage", url_of(tmp_path), folder=tmp_path)
    try:
        begun = tmp_path / "begun.log"
        wait_until(lambda: any(one.runs >= 2 for one in follow_ups(study.database)[0]))
        below = descendants(command.pid)
        os.kill(command.pid, signal.SIGKILL)
    finally:
        command.kill()
        command.communicate()
    wait_until(lambda: not any(map(is_alive, below)))
    killed = summary_of(study)
    assert (killed.name, killed.verdict) == ("small:confirm", None)
    assert 2 <= killed.runs <= 29
    begun.unlink()
    first = confirm(run, 6)
    wanted = 6 * (1 + len(first["constants"]))
    assert len(seeds_begun(tmp_path)) == wanted - killed.runs
    assert summary_of(study).runs == wanted
    assert first["looks"] == [6]

    begun.unlink()
    second = confirm(run, 8)
    assert seeds_begun(tmp_path) == sorted([FRESH + 6, FRESH + 7] * (1 + len(first["constants"])))
    assert second["looks"] == [6, 8]
    assert summary_of(study).verdict == verdict_line(open_result(study))

    begun.unlink()
    again = confirm(run, 6)
    assert not begun.exists()  # all is known
    assert again == first | {"looks": [6, 8], "judged": second["judged"]}


def open_result(study: StudyHandle):
    attributes = study.database.rdb.get_study_user_attrs(
        open_study(study.database, study.name).study_id
    )
    return attributes["confirmation"]


@pytest.mark.long
def test_killed_in_the_middle_of_a_batch_of_lanes_it_goes_on_from_checkpoints(run, tmp_path):
    content = content_of(trials=4, sampler={"name": "random"}) | {
        "task": f"{tasks.__name__}:LongEpochs",
        "horizon": 30,
        "objective": {"metric": "val_loss"},
    }
    space = Space.from_document(content, "small.toml")
    prepared = prepare_space(space)
    numerics = choose_numerics(prepared, ComputeOptions(lanes=2), say=print)
    assert (numerics["engine"], numerics["lanes"]) == ("lanes", 2)
    database = open_database(url_of(tmp_path), create=True)
    study = create_study(database, prepared.record(numerics))
    control, messages = ProcessControl(lambda: False), Messages(print, print)
    run_worker(study, name="worker", control=control, messages=messages)

    def epochs_known() -> int:
        return database.write(lambda c: c.execute(select(func.count()).select_from(nodes))).scalar()

    before = epochs_known()
    flags = ("--top", 1, "--seeds", 6, "--workers", 1)
    command = begin("confirm", "small", *flags, "--storage", url_of(tmp_path), folder=tmp_path)
    try:
        wait_until(lambda: epochs_known() >= before + 2 * 20)
        command.kill()
    finally:
        command.kill()
        command.communicate()
    assert summary_of(study).runs == 0

    known = CachedRuns(
        open_store(database, print),
        space=study.space,
        fingerprint=study.record.fingerprint,
        numerics=numerics,
    )
    engine = make_engine(prepared.task, horizon=30, numerics=numerics)
    schedules, constants = candidates(study, 1)
    runs = [known.begin(engine, c.plan, FRESH) for c in [*schedules, *constants][:2]]
    train_to_end(runs)
    assert [run.epochs for run in runs] == [30, 30]
    assert all(run.epochs_trained <= 30 - 18 for run in runs)


def test_with_the_best_epoch_as_objective_its_model_is_tested(tmp_path):
    content = document() | {"task": "tests.engines.toys:Toy", "horizon": 6}
    content["objective"] = {"metric": "val_loss", "value": "best"}
    study = make_study(tmp_path, content)
    rates = Plan.from_tables(
        {"hyperparameters": {"lr": {"families": {"piecewise": {"values": [0.05] * 3 + [0.9] * 3}}}}}
    )
    confirmation = queued(study, (Candidate(3, rates), FRESH))
    run_worker(
        confirmation,
        name="ann",
        control=ProcessControl(lambda: False),
        messages=Messages(print, print),
    )
    [result] = recorded_runs(confirmation).values()
    engine = make_engine(load_task(study.space.task), horizon=6, numerics=study.record.numerics)

    def tested(keep_best: bool) -> float:
        run = Run(engine, space=study.space, plan=rates, seed=FRESH, keep_best=keep_best)
        train_to_end([run])
        found = run.test()["test_loss"]
        run.leave_lane()
        return found

    assert result.test == tested(keep_best=True) != tested(keep_best=False)


def test_a_run_whose_test_metric_is_not_finite_counts_as_diverged(tmp_path):
    study = make_study(tmp_path, content_of(tasks.train_to_an_infinite_test))
    confirmation = queued(study, (candidate(0.5), FRESH))
    work(confirmation)
    [trial] = confirmation.trials()
    assert (trial.state, trial.user_attrs["diverged"]) == (TrialState.PRUNED, 9)
    [result] = recorded_runs(confirmation).values()
    assert math.isnan(result.validation)
