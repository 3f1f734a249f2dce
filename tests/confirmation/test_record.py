"""A confirmation's record: what is written down of each run, and that nothing is trained twice."""

from __future__ import annotations

import json
import math
import os
import signal
from pathlib import Path
from wsgiref.util import setup_testing_defaults

import pytest
from optuna.trial import TrialState
from sqlalchemy import func, select

from schedsearch.confirmation.candidates import Candidate, candidates
from schedsearch.confirmation.record import Record, name_of, open_record, records
from schedsearch.confirmation.runs import Outcome
from schedsearch.engines import make_engine
from schedsearch.errors import StudyError
from schedsearch.launchers import in_process
from schedsearch.plan import Plan
from schedsearch.preparation import ComputeOptions, choose_numerics, prepare_space
from schedsearch.report.dashboard import make_app
from schedsearch.report.dashboard_artifacts import picture_store
from schedsearch.schedules import Constant
from schedsearch.space import Space
from schedsearch.storage import StudyHandle, create_study, open_database, open_study
from schedsearch.training import train_to_end
from schedsearch.trajectories import open_store
from schedsearch.trajectories.cached_runs import CachedRuns
from schedsearch.trajectories.tables import nodes
from tests.cli.command import Command
from tests.confirmation import tasks
from tests.confirmation.tasks import FRESH, content_of, searched
from tests.processes import descendants, is_alive
from tests.searches import begin, make_study, url_of, wait_until


@pytest.fixture
def run(tmp_path, monkeypatch, capsys) -> Command:
    monkeypatch.setenv("SCHEDSEARCH_STORAGE", url_of(tmp_path))
    monkeypatch.chdir(tmp_path)
    return Command(monkeypatch, capsys)


def candidate(value: float, number: int | None = 3) -> Candidate:
    return Candidate(number, Plan({("lr",): Constant(value)}))


def trials_of(record: Record):
    return record.study.database.rdb.get_all_trials(record.study_id)


def test_a_run_is_read_as_it_was_written_and_stands_in_the_dashboard_as_a_trial(tmp_path):
    record = open_record(make_study(tmp_path))
    tested, untested = Outcome(0.5, 0.6, (0.9, 0.5)), Outcome(0.25, None, (0.25,))
    record.add(candidate(0.1), FRESH, tested)
    record.add(candidate(0.2, None), FRESH, untested)
    assert open_record(record.study) == record
    assert record.runs() == {
        (candidate(0.1).plan, FRESH): tested,
        (candidate(0.2).plan, FRESH): untested,
    }
    first, second = trials_of(record)
    assert first.state is second.state is TrialState.COMPLETE
    assert (first.value, first.intermediate_values) == (0.6, {1: 0.9, 2: 0.5})
    assert (first.params, first.user_attrs["trial"]) == ({"seed": FRESH}, 3)
    assert (second.value, "trial" in second.user_attrs) == (0.25, False)


def test_a_diverged_run_is_pruned_and_read_as_nan(tmp_path):
    record = open_record(make_study(tmp_path))
    record.add(candidate(0.1), FRESH, Outcome(math.nan, math.nan, (0.5, math.nan)))
    [trial] = trials_of(record)
    assert trial.state is TrialState.PRUNED
    [outcome] = record.runs().values()
    assert math.isnan(outcome.validation)
    assert outcome.test is not None
    assert math.isnan(outcome.test)


def test_the_dashboard_lists_it_beside_the_study(tmp_path):
    record = open_record(make_study(tmp_path))
    record.add(candidate(0.1), FRESH, Outcome(0.5, 0.6, (0.5,)))
    environment: dict[str, object] = {}
    setup_testing_defaults(environment)
    environment["PATH_INFO"] = "/api/studies"
    database = record.study.database
    answer = make_app(database.optuna, picture_store(database), "localhost", allow_edit=False)
    environment["HTTP_HOST"] = "localhost"
    body = json.loads(b"".join(answer(environment, lambda *status: None)))
    assert [found["study_name"] for found in body["study_summaries"]] == ["small", "small:confirm"]


def test_of_two_records_of_one_run_the_first_counts(tmp_path):
    record = open_record(make_study(tmp_path))
    for value in (0.5, 0.4):
        record.add(candidate(0.1), FRESH, Outcome(value, value))
    assert [outcome.test for outcome in record.runs().values()] == [0.5]


def test_runs_of_another_study_that_had_the_name_are_not_taken_for_its_own(run, tmp_path):
    before = make_study(tmp_path, content_of())
    open_record(before).add(candidate(0.1), FRESH, Outcome(0.5, 0.5))
    before.database.optuna.delete_study(before.study_id)
    study = make_study(tmp_path, content_of() | {"horizon": 10})
    with pytest.raises(StudyError, match="holds no runs of study `small` as it is now: `schedsea"):
        open_record(study)
    assert run("delete", "small:confirm", "--yes").status == 0
    assert open_record(study).runs() == {}


def test_delete_takes_the_record_along_and_list_names_it(run, tmp_path):
    record = open_record(make_study(tmp_path))
    record.add(candidate(0.1), FRESH, Outcome(0.5, 0.5))
    lines = run("list").out.splitlines()
    assert lines[-1] == "small:confirm  confirms small  1 runs  not done yet"
    expected = {"study": "small:confirm", "confirms": "small", "runs": 1}
    assert json.loads(run("list", "--json").out)[-1] == expected
    assert run("status").out.startswith("study     small ")  # still the only study
    refused = run("status", "small:confirm")
    assert (refused.status, refused.out) == (2, "")
    assert "records what confirmed study `small`: name that one" in refused.err
    done = run("delete", "small", "--yes")
    assert (done.status, done.err) == (0, "deleted study small and small:confirm\n")
    assert record.study.database.rdb.get_all_studies() == []


def seeds_begun(folder: Path) -> list[int]:
    return sorted(map(int, (folder / "begun.log").read_text().split()))


def summary_of(study: StudyHandle):
    return next(found for found in records(study.database.rdb) if found.parent == study.name)


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
        wait_until(lambda: any(found.runs >= 2 for found in records(study.database.rdb)))
        below = descendants(command.pid)
        os.kill(command.pid, signal.SIGKILL)
    finally:
        command.kill()
        command.communicate()
    wait_until(lambda: not any(map(is_alive, below)))
    killed = summary_of(study)
    assert (killed.name, killed.result) == (name_of("small"), None)
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
    assert summary_of(study).result == open_result(study)

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
    in_process.run_worker(study, name="worker", should_stop=lambda: False, say=print, quiet=True)

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
