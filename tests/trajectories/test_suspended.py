"""A worker that is suspended within an epoch, and goes on after another one took its trial over."""

from __future__ import annotations

import os
import signal
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from optuna.trial import TrialState

from schedsearch.storage import get_only_study, open_database
from schedsearch.trajectories import open_store
from schedsearch.trajectories.cached_runs import CachedRuns
from schedsearch.worker import Heartbeat
from tests.forks import start_process
from tests.searches import DEFAULTS, Ears, document, make_study, make_worker, url_of, wait_until

pytestmark = pytest.mark.long
FOUND: list[list[str]] = []


def train_with_a_file(run):
    """Write the process id to `model` in each epoch; the first process suspends itself in one."""
    folder, me = run.directory, os.getpid()
    FOUND.append(sorted(path.name for path in folder.iterdir()))
    for epoch, hp in run:
        part = folder / "model.part"
        with part.open("w") as file:
            file.write(f"begun by {me}, ")
            file.flush()
            if epoch == 2 and not Path("suspended").exists():
                Path("suspended.part").write_text(str(me))
                Path("suspended.part").rename("suspended")
                # To this thread: it would go on a little otherwise.
                signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
                file.write(f"ended by {me}")
                file.close()
                try:
                    part.replace(folder / "model")
                finally:
                    Path("went-on").touch()
            elif epoch == 2:
                os.kill(int(Path("suspended").read_text()), signal.SIGCONT)
                wait_until(Path("went-on").exists)
            if not file.closed:
                file.write(f"ended by {me}")
        part.replace(folder / "model")
        assert (folder / "model").read_text() == f"begun by {me}, ended by {me}"
        run.report(val_loss=hp["lr"])


train_with_a_file.hyperparameters = DEFAULTS


def search(folder: str, name: str) -> Ears:
    os.chdir(folder)
    study, ears = get_only_study(open_database(url_of(Path(folder)))), Ears()
    runs = CachedRuns.of_study(study, open_store(study.database, print))
    beat = Heartbeat(0.2, timedelta(seconds=2))
    make_worker(study, name, lambda: False, ears, cached_runs=runs, heartbeat=beat).run()
    return ears


def test_a_suspended_worker_writes_to_no_file_of_the_one_that_took_its_trial_over(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    space = document(train_with_a_file, trials=1, pruner={"name": "none"})
    study = make_study(tmp_path, space | {"task": f"{__name__}:train_with_a_file"})
    suspended = start_process(search, str(tmp_path), "ann")
    wait_until(Path("suspended").exists)
    ears = search(str(tmp_path), "bob")
    assert ears.wrong == []
    assert FOUND == [["model", "model.part"]]
    suspended.join()
    assert suspended.exitcode == 0
    [trial] = study.trials()
    assert (trial.number, trial.state) == (1, TrialState.COMPLETE)
    assert list(tmp_path.glob("studies.db.checkpoints/*.run")) == []
