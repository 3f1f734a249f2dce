"""The folders of runs: found by the next worker, and by nothing else; removed at the end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from optuna.trial import TrialState

from schedsearch.errors import CheckpointRefusedError, InputError
from schedsearch.plan import Plan
from schedsearch.ranks.followers import RankDiedError
from schedsearch.schedules import Constant
from schedsearch.trajectories import open_store
from schedsearch.trajectories.cached_runs import CachedRuns
from schedsearch.trajectories.folder import Folder
from tests.searches import DEFAULTS, Ears, document, make_study, make_worker

NAME = "0123456789abcdef.0123456789abcdef.run"
PLAN = Plan({("lr",): Constant(0.1)})
SEEN: list[tuple[int, Path, list[str]]] = []


def train_with_files(run):
    """Leave a file for each epoch, and record the folder and the files that were there before."""
    files = sorted(path.name for path in run.directory.iterdir())
    SEEN.append((run.seed, run.directory, files))
    if "killed" in files:
        raise RankDiedError("the process of rank 1 ended")
    if "partial" in files:
        raise EOFError("no checkpoint")
    if "refused" in files:
        raise CheckpointRefusedError("of another plan")
    for epoch, hp in run:
        if hp["lr"] == 0.5:
            raise ZeroDivisionError("mine")
        (run.directory / f"epoch-{epoch}").write_bytes(b"x" * 1000)
        run.report(val_loss=hp["lr"])
    assert run.directory.is_dir()


train_with_files.hyperparameters = DEFAULTS


@pytest.fixture(autouse=True)
def seen():
    SEEN.clear()


def content(**search):
    changed = {"task": f"{__name__}:train_with_files"}
    return document(train_with_files, pruner={"name": "none"}, **search) | changed


def search(study, name="ann", should_stop=lambda: False, say=print):
    store = open_store(study.database, say)
    ears = Ears()
    runs = CachedRuns.of_study(study, store)
    make_worker(study, name, should_stop, ears, cached_runs=runs).run()
    return ears


def folders(tmp_path):
    return list(tmp_path.glob("studies.db.checkpoints/*.run"))


def test_every_run_has_a_folder_which_is_removed_when_its_trial_ends(tmp_path):
    study = make_study(tmp_path, content(seeds=2, trials=3))
    search(study)
    assert [trial.state for trial in study.trials()] == [TrialState.COMPLETE] * 3
    assert len({path for _, path, _ in SEEN}) == 6
    for _, path, files in SEEN:
        assert path.parent == tmp_path / "studies.db.checkpoints"
        assert files == []
    assert folders(tmp_path) == []


def test_the_folder_of_a_failed_trial_is_removed(tmp_path):
    space = content(trials=1)
    space["hyperparameters"]["lr"]["default"] = 0.5
    study = make_study(tmp_path, space)
    search(study)
    assert [trial.state for trial in study.trials()] == [TrialState.FAIL]
    assert SEEN
    assert folders(tmp_path) == []


def test_a_trial_that_was_handed_back_finds_its_folder_again(tmp_path):
    study = make_study(tmp_path, content(trials=1))
    answers = iter([False, False, True])
    search(study, should_stop=lambda: next(answers))
    assert len(folders(tmp_path)) == 1
    search(study, "bob")
    (_, first, empty), (_, second, files) = SEEN
    assert (first.name, second.name) == (f"{first.name[:33]}.0.run", f"{first.name[:33]}.1.run")
    assert not first.exists()
    assert (empty, files) == ([], ["epoch-0", "epoch-1"])
    assert folders(tmp_path) == []
    assert study.trials()[-1].state is TrialState.COMPLETE


@pytest.mark.parametrize(
    ("file", "shown"), [("partial", "EOFError: no checkpoint"), ("refused", "of another plan")]
)
def test_a_trial_that_cannot_continue_from_its_files_begins_again_without_them(
    tmp_path, file, shown
):
    study = make_study(tmp_path, content(trials=1))
    answers = iter([False, False, True])
    search(study, should_stop=lambda: next(answers))
    [folder] = folders(tmp_path)
    (folder / file).touch()
    ears = search(study, "bob")
    [line] = ears.wrong
    assert "trial 1 begins again without the files in run.directory" in line
    assert shown in line
    assert [files for _, _, files in SEEN[1:]] == [["epoch-0", "epoch-1", file], []]
    assert study.trials()[-1].state is TrialState.COMPLETE


def test_a_rank_that_is_killed_leaves_the_files_of_the_trial(tmp_path):
    study = make_study(tmp_path, content(trials=1))
    answers = iter([False, False, True])
    search(study, should_stop=lambda: next(answers))
    [folder] = folders(tmp_path)
    (folder / "killed").touch()
    with pytest.raises(RankDiedError):
        search(study, "bob")
    assert len(list(folders(tmp_path)[0].glob("epoch-*"))) == 2
    assert study.trials()[-1].state is TrialState.WAITING


def test_a_trial_whose_files_cannot_be_removed_fails(tmp_path, monkeypatch):
    study = make_study(tmp_path, content(trials=1))
    answers = iter([False, False, True])
    search(study, should_stop=lambda: next(answers))
    [folder] = folders(tmp_path)
    (folder / "partial").touch()

    remove = Folder.remove_subfolder

    def remove_subfolder(self, name):
        if name.endswith(".1.run"):
            raise PermissionError(name)
        remove(self, name)

    monkeypatch.setattr(Folder, "remove_subfolder", remove_subfolder)
    search(study, "bob", should_stop=lambda: len(SEEN) > 3)
    assert [files for _, _, files in SEEN[1:]] == [["epoch-0", "epoch-1", "partial"]]
    assert study.trials()[-1].state is TrialState.FAIL


def test_without_a_store_the_folder_is_temporary_and_removed(tmp_path):
    study = make_study(tmp_path, content(trials=2))
    make_worker(study, "ann", lambda: False, Ears()).run()
    paths = {path for _, path, _ in SEEN}
    assert len(paths) == 2
    assert not any(path.exists() for path in paths)
    assert not any(path.is_relative_to(tmp_path) for path in paths)


def test_a_folder_that_cannot_be_created_is_replaced_by_a_temporary_one(tmp_path):
    study = make_study(tmp_path, content(trials=2))
    (tmp_path / "studies.db.checkpoints").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    said = []
    search(study, say=said.append)
    assert [trial.state for trial in study.trials()] == [TrialState.COMPLETE] * 2
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert any("is a link" in line for line in said)


def test_a_folder_is_found_by_the_same_training_of_the_same_trial_only(tmp_path):
    study = make_study(tmp_path, content())
    store = open_store(study.database, print)
    one = store.directories.of_run(1, 0, "a" * 32, PLAN).create()
    assert store.directories.of_run(1, 0, "a" * 32, PLAN).create() == one
    others = [
        store.directories.of_run(*changed).create()
        for changed in (
            (2, 0, "a" * 32, PLAN),
            (1, 1, "a" * 32, PLAN),
            (1, 0, "b" * 32, PLAN),
            (1, 0, "a" * 32, Plan({("lr",): Constant(0.2)})),
        )
    ]
    assert len({one, *others}) == 5


def test_the_folders_of_ended_and_of_deleted_trials_are_swept_and_others_kept(tmp_path):
    study = make_study(tmp_path, content(trials=1))
    answers = iter([False, True])
    search(study, should_stop=lambda: next(answers))
    [waiting] = folders(tmp_path)
    store = open_store(study.database, print)
    orphan = store.directories.of_run(study.study_id, 9, "a" * 32, PLAN).create()
    (orphan / "model").write_bytes(b"x")
    stranger = orphan.with_name("notes")
    stranger.mkdir()
    assert store.directories.sweep(3600.0) == 0
    assert store.directories.sweep(0.0) == 1
    assert (waiting.exists(), orphan.exists(), stranger.exists()) == (True, False, True)


def test_a_link_is_neither_used_nor_followed_when_a_folder_is_removed(tmp_path):
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "file").touch()
    folder = Folder(tmp_path / "checkpoints")
    made = folder.make_subfolder(NAME)
    (made / "link").symlink_to(secret)
    folder.remove_subfolder(NAME)
    assert not made.exists()
    made.symlink_to(secret)
    with pytest.raises(InputError, match="is a link or a file"):
        folder.make_subfolder(NAME)
    assert list(folder.subfolders_older_than(0.0)) == []
    assert folder.subfolder_bytes() == 0
    with pytest.raises(OSError, match="symbolic link"):
        folder.remove_subfolder(NAME)
    assert (secret / "file").exists()


@pytest.mark.parametrize("name", ["../x.run", "notes", f"{NAME}/..", "", NAME.upper()])
def test_only_names_of_subfolders_are_used(tmp_path, name):
    folder = Folder(tmp_path)
    (tmp_path / "notes").mkdir()
    with pytest.raises(ValueError, match="is not a name"):
        folder.make_subfolder(name)
    folder.remove_subfolder(name)
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]


def test_a_folder_is_readable_by_its_user_only(tmp_path):
    made = Folder(tmp_path).make_subfolder(NAME)
    assert made.stat().st_mode & 0o777 == 0o700


def test_the_files_count_in_the_budget_of_the_checkpoints(tmp_path):
    study = make_study(tmp_path, content())
    said = []
    store = open_store(study.database, said.append, budget=10_000)
    made = store.directories.of_run(1, 0, "a" * 32, PLAN).create()
    cursor = store.cursor("a" * 32)

    def keeps(size):
        (made / "model").write_bytes(b"x" * size)
        store.checkpoints._room = 0
        store.save_checkpoint(os.urandom(16).hex(), cursor.run, b"y" * 4000)
        store.flush()
        return len(list(made.parent.glob("*.safetensors")))

    assert keeps(1000) == 1
    assert keeps(1000) == 2
    cursor.end()
    store.flush()
    assert keeps(5000) == 1
    assert keeps(10_000) <= 1
    assert any("the files in run.directory take 10000 of 10000 bytes" in line for line in said)


def test_a_folder_that_is_removed_meanwhile_does_not_hide_the_size_of_the_others(
    tmp_path, monkeypatch
):
    folder = Folder(tmp_path / "checkpoints")
    kept = [folder.make_subfolder(NAME.replace("0", digit, 1)) for digit in "1234"]
    for path in kept:
        (path / "state").write_bytes(b"x" * 10)
    found = [(folder.make_subfolder(NAME).name, 0.0), *folder._subfolders()]
    folder.remove_subfolder(NAME)
    monkeypatch.setattr(folder, "_subfolders", lambda: iter(found))
    assert folder.subfolder_bytes() == 40


# --- attempts -------------------------------------------------------------------------------------


def attempt(store, number, study=1):
    return store.directories.of_run(study, 0, "a" * 32, PLAN, number)


def names(path):
    return sorted(p.name[34:] for p in path.parent.glob("*.run"))


def test_an_attempt_gets_copies_of_the_files_of_the_one_before(tmp_path):
    store = open_store(make_study(tmp_path, content()).database, print)
    first = attempt(store, 0).create()
    (first / "a" / "b").mkdir(parents=True)
    (first / "a" / "b" / "state").write_text("of epoch 3")
    with (first / "a" / "open").open("w") as file:
        second = attempt(store, 4).create()
        file.write("written by a worker that was only suspended")
    assert (second / "a" / "b" / "state").read_text() == "of epoch 3"
    assert (second / "a" / "open").read_text() == ""
    assert names(second) == ["4.run"]
    assert second.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("moment", ["renamed", "copying", "copied"])
def test_a_worker_that_dies_while_it_takes_files_over_loses_none(tmp_path, moment):
    store = open_store(make_study(tmp_path, content()).database, print)
    first = attempt(store, 0).create()
    (first / "state").write_text("of epoch 3")
    run = first.name[:33]
    first.rename(first.with_name(f"{run}.0.old.run"))
    if moment == "copying":
        first.with_name(f"{run}.1.new.run").mkdir()
    elif moment == "copied":
        first.with_name(f"{run}.1.run").mkdir()
        (first.with_name(f"{run}.1.run") / "state").write_text("of epoch 3")
    third = attempt(store, 2).create()
    assert (third / "state").read_text() == "of epoch 3"
    assert names(third) == ["2.run"]


def test_a_worker_that_was_suspended_takes_no_files_from_a_later_one(tmp_path):
    store = open_store(make_study(tmp_path, content()).database, print)
    later = attempt(store, 1).create()
    (later / "state").touch()
    assert list(attempt(store, 0).create().iterdir()) == []
    assert (later / "state").exists()
    # Nor do its files reach the attempt after that.
    assert [path.name for path in attempt(store, 2).create().iterdir()] == ["state"]


def test_an_attempt_that_has_removed_its_files_finds_none_again(tmp_path):
    store = open_store(make_study(tmp_path, content()).database, print)
    (attempt(store, 0).create() / "partial").touch()
    second = attempt(store, 1)
    assert [path.name for path in second.create().iterdir()] == ["partial"]
    assert second.remove()
    (attempt(store, 0).create() / "partial").touch()  # a suspended worker goes on
    assert list(second.create().iterdir()) == []
    assert second.remove()
    assert folders(tmp_path) == []


def test_files_that_cannot_be_copied_let_the_trial_begin_again(tmp_path, monkeypatch):
    said = []
    store = open_store(make_study(tmp_path, content()).database, said.append)
    (attempt(store, 0).create() / "state").touch()

    def copy_subfolder(self, name, new):
        self.make_subfolder(new)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Folder, "copy_subfolder", copy_subfolder)
    second = attempt(store, 1).create()
    assert list(second.iterdir()) == []
    assert names(second) == ["1.run"]
    [line] = said
    assert "a trial begins again" in line
    assert "No space left" in line


def test_files_beyond_the_budget_are_kept_and_said_once(tmp_path):
    said = []
    store = open_store(make_study(tmp_path, content()).database, said.append, budget=1000)
    (attempt(store, 0).create() / "model").write_bytes(b"x" * 1001)
    assert said == []
    for study in (2, 3):
        attempt(store, 0, study).create()
    [line] = said
    assert "take 1001 bytes, more than the 1000 of all checkpoints" in line
    assert (attempt(store, 0).create() / "model").exists()
