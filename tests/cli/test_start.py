"""`start` on studies that exist: it continues them or refuses, with a clear message."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from schedsearch import preparation, study_setup
from schedsearch.cli import main
from schedsearch.errors import StudyError, TaskError
from schedsearch.export import trial_to_config
from schedsearch.storage import get_only_study, open_database, open_study
from schedsearch.storage.retrying_storage import RetryingStorage
from tests import searches
from tests.cli.command import Command
from tests.searches import begin, document, make_study, url_of, work, write_space


@pytest.fixture
def start(tmp_path, monkeypatch, capsys):
    """Run `schedsearch start` on a space in this process; return exit code, stdout, stderr."""
    monkeypatch.delenv("SCHEDSEARCH_STORAGE", raising=False)

    def run(content: dict, *flags: str) -> tuple[int, str, str]:
        path = write_space(tmp_path, content)
        storage = ["--storage", url_of(tmp_path)]
        monkeypatch.setattr("sys.argv", ["schedsearch", "start", str(path), *storage, *flags])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), *capsys.readouterr()

    return run


def total(folder: Path) -> int:
    return get_only_study(open_database(url_of(folder))).total()


def test_without_workers_the_study_is_created_and_nothing_begins(start, tmp_path):
    code, out, err = start(document(), "--workers", "0", "--trials", "7")
    assert (code, out) == (0, "")
    assert "study small is ready: start workers with `schedsearch worker small`" in err
    assert total(tmp_path) == 7


class _Killed(BaseException):
    """Ends a command where a signal would end its process."""


@pytest.mark.parametrize("key", ["trials", "numerics", "space"])
def test_a_study_whose_creation_was_killed_is_completed(start, tmp_path, monkeypatch, key):
    write = RetryingStorage.set_study_user_attr

    def write_or_die(storage, study_id, written, value):
        if written == key:
            raise _Killed
        write(storage, study_id, written, value)

    monkeypatch.setattr(RetryingStorage, "set_study_user_attr", write_or_die)
    with pytest.raises(_Killed):
        start(document(), "--workers", "0")
    monkeypatch.setattr(RetryingStorage, "set_study_user_attr", write)
    # Trial 0 is the one of the file as it is now.
    content = document()
    content["hyperparameters"]["lr"]["default"] = 0.05
    code, _, said = start(content, "--workers", "0")
    assert code == 0, said
    study = get_only_study(open_database(url_of(tmp_path)))
    [trial] = study.trials()
    assert trial.user_attrs["plan"] == study.space.baseline().to_tables()
    assert start(content, "--workers", "0")[0] == 0


@pytest.mark.parametrize("horizon", [None, 12])
def test_a_study_of_another_program_is_refused_before_anything_is_written(
    start, tmp_path, capsys, monkeypatch, horizon
):
    parent = make_study(tmp_path, document(trials=1))
    work(parent)
    name = "small@12" if horizon else "theirs"
    database = parent.database
    theirs = database.optuna.create_new_study([0], name)
    database.optuna.create_new_trial(theirs)
    flags = ["--storage", url_of(tmp_path), "--workers", "0", "--trust-task"]
    if horizon:
        monkeypatch.setattr(
            "sys.argv", ["schedsearch", "start", "small", "--horizon", str(horizon), *flags]
        )
        with pytest.raises(SystemExit) as ended:
            main()
        code, said = ended.value.code, capsys.readouterr().err
    else:
        code, _, said = start(document() | {"name": name}, "--workers", "0")
    assert code == StudyError.exit_code
    assert f"study `{name}` was not created by schedsearch: use another name" in said
    assert database.optuna.get_study_user_attrs(theirs) == {}
    assert len(database.optuna.get_all_trials(theirs)) == 1


def test_the_same_again_goes_on_and_fewer_trials_take_nothing_away(start, tmp_path):
    for flags, expected in (([], 10), ([], 10), (["--trials", "20"], 20), (["--trials", "5"], 20)):
        assert start(document(), "--workers", "0", *flags)[0] == 0
        assert total(tmp_path) == expected


@pytest.mark.parametrize(("given", "kept"), [("3", 3), ("20%", "20%")])
def test_the_flags_of_the_audit_and_the_opening_stand_in_the_studys_space(
    start, tmp_path, given, kept
):
    flags = ("--audit", "0.25", "--protected", given)
    assert start(document(), "--workers", "0", *flags)[0] == 0
    options = get_only_study(open_database(url_of(tmp_path))).space.search.pruner
    assert (options.audit, options.protected) == (0.25, kept)


def test_an_existing_study_keeps_a_protected_share_that_no_new_one_may_have(start, tmp_path):
    content = document()
    content["search"]["pruner"] = {"name": "median", "protected": "250%"}
    message = "search.pruner.protected = '250%': must be at most 100%"
    assert message in start(content, "--workers", "0")[2]
    make_study(tmp_path, content)
    assert start(content, "--workers", "0", "--trials", "12")[0] == 0
    assert total(tmp_path) == 12
    content["search"]["pruner"]["protected"] = "300%"
    assert "must be at most 100%" in start(content, "--workers", "0")[2]


def test_a_finished_study_is_shown_and_no_worker_begins(start, tmp_path):
    work(make_study(tmp_path))
    code, out, err = start(document())
    assert (code, err) == (
        0,
        "study small is finished (10 of 10 trials); raise --trials above 10 to continue\n",
    )
    assert out.startswith("study     small (done)\n")


def test_fewer_trials_than_a_finished_study_has_are_named_with_both_numbers(start, tmp_path):
    work(make_study(tmp_path))
    code, _, err = start(document(), "--trials", "3")
    assert (code, err.splitlines()) == (
        0,
        [
            "warning: --trials is 3, but study small has 10 trials already and keeps them: "
            "the number can only be raised",
            "study small is finished (10 of 10 trials); raise --trials above 10 to continue",
        ],
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--trials -5", "--trials is -5, but must be a whole number of at least 1"),
        ("--trials few", "--trials is 'few', but must be a whole number of at least 1"),
        ("--timeout -1", "--timeout is -1, but must be a number of at least 0"),
        ("--on mars", "--on is 'mars', but must be one of local, ray"),
        ("--seeds 0", "--seeds is 0, but must be at least 1"),
        ("--epoch-timeout 0", "--epoch-timeout is 0.0, but must be greater than 0.0"),
        ("--audit 3", "--audit is 3.0, but must be at most 1.0"),
        ("--epochs 1", "--epochs is 1, but must be at least the horizon (9), since one trial may"),
        ("--sampler tpee", "--sampler is 'tpee', but must be one of forecast, tpe, random, "),
        ("--study a/b", "--study is 'a/b', but must consist of letters, digits and the characters"),
    ],
)
def test_a_wrong_value_of_an_option_is_one_line_that_names_the_option(start, flags, message):
    code, out, err = start(document(), *flags.split())
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1


def test_a_wrong_value_of_the_file_names_the_file_and_the_key(start, tmp_path):
    content = document()
    content["search"] = {**content.get("search", {}), "sampler": {"name": "tpee"}}
    code, _, err = start(content, "--trials", "3")
    assert code == 2
    assert err.startswith(f"error: {tmp_path / 'small.toml'}: search.sampler.name = 'tpee': must")
    code, _, err = start(content, "--audit", "3")
    assert code == 2
    assert err.splitlines()[0] == "error: --audit is 3.0, but must be at most 1.0"
    assert "small.toml: search.sampler.name = 'tpee'" in err.splitlines()[1]


def test_an_interrupt_while_engines_are_measured_says_so_and_creates_nothing(
    start, tmp_path, monkeypatch
):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(study_setup, "choose_numerics", interrupt)
    code, out, err = start(document(), "--workers", "0")
    assert (code, out) == (130, "")
    assert err.startswith(
        "error: interrupted while the engines were measured: study small is not created"
    )
    with pytest.raises(StudyError):
        get_only_study(open_database(url_of(tmp_path)))


def test_any_other_interrupt_names_the_command(start, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(preparation, "load_space", interrupt)
    assert start(document()) == (
        130,
        "",
        "error: interrupted: `schedsearch start` has not finished\n",
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"horizon": 8}, "  horizon: 9 in the study, 8 given now"),
        (
            {"task": "tests.searches:train_to_nan"},
            "  task: 'tests.searches:train' in the study, 'tests.searches:train_to_nan' given now",
        ),
        (
            {"objective": {"metric": "val_loss", "direction": "maximize"}},
            "  objective.direction: 'minimize' in the study, 'maximize' given now",
        ),
        (
            {
                "hyperparameters": {
                    "lr": {**document()["hyperparameters"]["lr"], "interval": "step"}
                }
            },
            "  hyperparameters.lr.interval: not set in the study, 'step' given now",
        ),
        (
            {"search": {"seed": 1, "pruner": {"min_epochs": 2}}},
            "  search.seed: 0 in the study, 1 given now",
        ),
    ],
)
def test_a_changed_space_is_refused_with_what_changed(start, change, said):
    assert start(document(), "--workers", "0")[0] == 0
    code, _, err = start(document() | change, "--workers", "0")
    assert code == 2
    assert "study `small` exists with other settings:\n" in err
    assert said in err.splitlines()
    assert (
        "create another study with --study NAME, or delete this one with `schedsearch delete small`"
        in err
    )


def test_a_study_that_trained_nothing_is_created_again_and_one_with_reports_is_not(start, tmp_path):
    wrong = document()
    wrong["objective"]["metric"] = "val_los"
    with pytest.raises(TaskError, match=r"objective\.metric of .* is"):
        work(make_study(tmp_path, wrong))
    code, _, err = start(document(), "--workers", "0")
    assert code == 0, err
    assert "study small had other settings and no trained epoch: it is created again" in err
    work(get_only_study(open_database(url_of(tmp_path))))
    code, _, err = start(wrong, "--workers", "0")
    assert code == 2
    assert "exists with other settings:" in err


def test_a_trial_that_the_user_queued_keeps_a_study_that_trained_nothing(start, tmp_path):
    wrong = document()
    wrong["objective"]["metric"] = "val_los"
    study = make_study(tmp_path, wrong)
    study.load().enqueue_trial({})
    with pytest.raises(TaskError, match=r"objective\.metric of .* is"):
        work(study)
    assert start(document(), "--workers", "0")[0] == 2


def test_the_name_of_a_study_is_no_space_file(monkeypatch, capsys):
    done = Command(monkeypatch, capsys)("start", "small")
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(
        "error: small: `start` takes the space file that the study was created"
    )


def test_a_changed_range_is_named_by_its_key(start):
    assert start(document(), "--workers", "0")[0] == 0
    content = document()
    content["hyperparameters"]["lr"]["families"]["constant"]["value"]["high"] = 0.5
    code, _, err = start(content, "--workers", "0")
    key = "hyperparameters.lr.families.constant.value.high"
    assert (code, f"  {key}: 0.9 in the study, 0.5 given now" in err) == (2, True)


def test_a_changed_task_is_refused_by_its_fingerprint(start, monkeypatch):
    assert start(document(), "--workers", "0")[0] == 0
    monkeypatch.setattr(searches.train, "hyperparameters", {**searches.DEFAULTS, "new": 1.0})
    code, _, err = start(document(), "--workers", "0")
    assert code == 2
    assert err == (
        "error: task tests.searches:train changed since study `small` was created: "
        "hyperparameters.new is new; create another study with `schedsearch start FILE --study "
        "NAME`, or, if it is the same training, say so with `schedsearch start FILE "
        "--accept-task`\n"
    )


def test_another_name_is_another_study(start, tmp_path):
    for name in ("one", "two"):
        assert start(document(), "--workers", "0", "--study", name)[0] == 0
    names = [s.study_name for s in open_database(url_of(tmp_path)).optuna.get_all_studies()]
    assert sorted(names) == ["one", "two"]


def test_a_config_is_refused_since_all_trials_would_be_identical(start, tmp_path):
    config = {**document(), "hyperparameters": {"lr": {"families": {"constant": {"value": 0.1}}}}}
    code, out, err = start(config)
    assert (code, out) == (2, "")
    [line] = err.splitlines()
    assert "so all 10 trials would be identical: train it with `schedsearch train " in line
    assert not (tmp_path / "studies.db").exists()
    assert start(config, "--workers", "0", "--trials", "1")[0] == 0
    assert start(config, "--workers", "0", "--trials", "2")[0] == 0  # the study exists


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--sampler", "tpee"], "--sampler is "),
        (["--pruner", "ashaa"], "--pruner is "),
        (["--device", "warp"], "error: the device `warp` cannot be used here: torch knows no such"),
        (["--seed", "-1"], "--seed is "),
        (["--audit", "1.5"], "--audit is "),
        (["--protected", "soon"], "--protected is "),
        (["--protected", "300%"], "error: --protected is '300%', but must be at most 100%\n"),
        (["--device", "cuda:x"], "the device `cuda:x` cannot be used here: "),
        (["--pruner", "foo", "--audit", "2"], "\nerror: --audit is 2.0, but must be at most 1.0"),
    ],
)
def test_a_wrong_flag_is_answered_with_its_rule(start, tmp_path, flags, said):
    code, _, err = start(document(), "--workers", "0", *flags)
    assert code == 2
    assert said in err
    assert not (tmp_path / "studies.db").exists()


def test_a_password_in_the_flag_earns_a_warning_and_is_not_repeated(
    start, tmp_path, monkeypatch, capsys
):
    path = write_space(tmp_path, document())
    url = "postgresql+pg8000://ann:secret@host/db"
    monkeypatch.setattr("sys.argv", ["schedsearch", "start", str(path), "--storage", url])
    with pytest.raises(SystemExit) as ended:
        main()
    err = capsys.readouterr().err
    assert ended.value.code == 2
    assert "warning: every user of this machine can read the password in --storage" in err
    assert "secret" not in err
    monkeypatch.setenv("SCHEDSEARCH_STORAGE", url)
    monkeypatch.setattr("sys.argv", ["schedsearch", "start", str(path)])
    with pytest.raises(SystemExit):
        main()
    err = capsys.readouterr().err
    assert "warning" not in err
    assert "secret" not in err


def test_json_is_all_that_stdout_holds(start, tmp_path):
    work(make_study(tmp_path))
    code, out, _ = start(document(), "--json")
    assert (code, json.loads(out)["state"]) == (0, "done")


@pytest.mark.parametrize("given", ["0", "-1", "many", "1.5", ""])
def test_lanes_are_a_number_or_auto(start, tmp_path, given):
    code, _, err = start(document(), "--lanes", given)
    rule = "must be a whole number of at least 1, or auto"
    assert (code, err) == (2, f"error: --lanes is {given!r}, but {rule}\n")
    assert not (tmp_path / "studies.db").exists()


def test_lanes_hold_the_seeds_of_a_trial(start, tmp_path):
    code, _, err = start(document(seeds=3), "--lanes", "2")
    assert code == 2
    assert err.startswith("error: --lanes is 2, but must be at least 3: all seeds of a trial train")
    assert not (tmp_path / "studies.db").exists()


def test_a_loop_of_the_users_own_trains_one_run_at_a_time(start, tmp_path):
    code, _, err = start(document(), "--workers", "0", "--lanes", "8")
    assert code == 0
    assert "1 lane: your training loop trains one run at a time" in err
    assert get_only_study(open_database(url_of(tmp_path))).record.numerics["lanes"] == 1


def test_a_study_keeps_the_lanes_it_was_created_with_and_says_so(start):
    assert start(document(), "--workers", "0")[0] == 0
    _, _, err = start(document(), "--workers", "0", "--lanes", "4")
    kept = "warning: the study keeps the numerics it was created with: lanes 1\n"
    assert err.startswith(kept)
    assert "warning" not in start(document(), "--workers", "0")[2]


@pytest.mark.parametrize("given", ["0", "all", "4097"])
def test_threads_are_a_number_or_auto(start, tmp_path, given):
    code, _, err = start(document(), "--threads", given)
    rule = "must be a whole number from 1 to 4096, or auto"
    assert (code, err) == (2, f"error: --threads is {given!r}, but {rule}\n")
    assert not (tmp_path / "studies.db").exists()


def test_threads_that_were_not_asked_for_are_at_most_omp_num_threads(start, tmp_path, monkeypatch):
    monkeypatch.setattr("schedsearch.cores.available_cores", lambda: 4)
    for given, threads in (("3", 3), ("1", 1)):
        monkeypatch.setenv("OMP_NUM_THREADS", given)
        assert start(document(), "--workers", "0", "--study", f"of-{given}")[0] == 0
        study = open_study(open_database(url_of(tmp_path)), f"of-{given}")
        assert study.record.numerics["threads"] == threads


@pytest.mark.long
def test_threads_that_are_given_later_are_recorded_with_the_trials(start, tmp_path):
    assert start(document(trials=2), "--threads", "1")[0] == 0
    code, _, err = start(document(trials=4), "--threads", "2")
    assert code == 0
    assert "2 threads from now on instead of 1" in err
    study = get_only_study(open_database(url_of(tmp_path)))
    numerics = [trial.user_attrs.get("numerics") for trial in study.trials()]
    assert numerics == [None, None, {"threads": 2}, {"threads": 2}]
    assert study.record.numerics["threads"] == 1
    exported = [trial_to_config(study, trial) for trial in study.complete_trials()]
    recorded = {config["source"]["trial"]: config["numerics"]["threads"] for config in exported}
    assert recorded == {number: 1 if number < 2 else 2 for number in recorded}


@pytest.mark.long
@pytest.mark.parametrize("seeds", [1, 3])
def test_what_lanes_found_comes_out_again_exactly(tmp_path, seeds):
    content = document(trials=12, seeds=seeds) | {"task": "tests.engines.toys:Toy", "horizon": 6}
    path = write_space(tmp_path, content)
    flags = ("--storage", url_of(tmp_path))
    for command in (
        ("start", path, "--lanes", 6, *flags),
        ("export", "small", "-o", "best.toml", *flags),
        ("train", "best.toml", "--seed", "all", "--no-reuse"),
    ):
        process = begin(*command, folder=tmp_path)
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    assert get_only_study(open_database(url_of(tmp_path))).record.numerics["lanes"] == 6
    assert err.count(": reproduced the recorded value ") == seeds
    assert "warning" not in err
