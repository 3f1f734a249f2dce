"""The fine-tunings of the examples, whole: a worker is killed, and the schedule is used."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from optuna.trial import TrialState
from transformers.trainer_utils import get_last_checkpoint

from schedsearch.errors import SchedSearchError
from schedsearch.storage import StudyHandle, open_database, open_study
from schedsearch.storage.process_identity import ProcessIdentity
from schedsearch.storage.running_trials import RunningTrial, load_running_trials
from schedsearch.trajectories.trial_directories import _hash
from tests.searches import ROOT, begin, url_of, wait_until

pytestmark = pytest.mark.long

EXAMPLES = ROOT / "examples" / "finetune"
RECORDER = Path(__file__).parent / "recorded_rates.py"
#: Much more than it takes, also while the machine is busy.
SECONDS = 600.0
#: A plan that takes part in the search, so that one with a warm-up does.
MINE = """
[hyperparameters.lr]
interval = "step"
[hyperparameters.lr.families.warmup]
duration = "20%"
inner.cosine = { initial = 0.01, final = 0.0 }
"""


@dataclass(frozen=True)
class Example:
    """The study of an example, in a folder of its own.

    Attributes:
        name: of the framework in the files.
        study: the name of the study.
        folder: has a copy of the example.
    """

    name: str
    study: str
    folder: Path

    def run(self, *command: object) -> str:
        """Run `schedsearch` in the folder, and return what it prints."""
        process = begin(*command, "--storage", url_of(self.folder), folder=self.folder)
        out, err = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, err
        return out + err

    def recorded(self, *command: object) -> tuple[list[list[list[float]]], str]:
        """Run Python; return lr and weight decay of each group and step, and what it prints."""
        file = self.folder / "rates.json"
        done = subprocess.run(
            [sys.executable, RECORDER, file, *map(str, command)],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(file.read_text()), done.stdout

    def open_study(self) -> StudyHandle:
        return open_study(open_database(url_of(self.folder)), self.study)

    def is_in_training(self, study: StudyHandle, trial: RunningTrial) -> bool:
        """Tell whether a trial is running and has a checkpoint in its folder."""
        parent = self.folder / "studies.db.checkpoints"
        folders = parent.glob(f"{_hash([study.study_id, trial.number])}.*.run")
        is_running = study.rows()[trial.number].state is TrialState.RUNNING
        return is_running and any(map(has_whole_checkpoint, folders))

    def kill_a_worker_in_training(self) -> int:
        """Kill a worker once its trial has a checkpoint; return the number of the trial."""
        wait_until(self.is_created, SECONDS)
        study = self.open_study()
        killed: list[int] = []

        def kill() -> bool:
            running = study.database.read(lambda c: load_running_trials(c, study.study_id))
            for trial in running.values():
                process = ProcessIdentity.parse(trial.process)
                if process is None or not self.is_in_training(study, trial):
                    continue
                os.kill(process.pid, signal.SIGSTOP)  # so that the trial does not end meanwhile
                is_right = self.is_in_training(study, trial)
                os.kill(process.pid, signal.SIGKILL if is_right else signal.SIGCONT)
                killed.extend([trial.number] if is_right else [])
            return bool(killed)

        wait_until(kill, SECONDS)
        return killed[0]

    def is_created(self) -> bool:
        try:
            return self.open_study() is not None
        except SchedSearchError:
            return False


def has_whole_checkpoint(folder: Path) -> bool:
    """Tell whether the last checkpoint of a framework is there, and not being written now."""
    with suppress(FileNotFoundError):  # the worker removes files meanwhile
        if last := get_last_checkpoint(folder):
            state = Path(last) / "trainer_state.json"  # the Trainer writes it last
            return state.read_text().endswith("}\n")
        return zipfile.is_zipfile(folder / "last.ckpt")
    return False


def number_after(name: str, text: str) -> float:
    match = re.search(rf"\b{name}\s+([\d.]+)", text)
    assert match, text
    return float(match[1])


@pytest.mark.parametrize(
    ("name", "study"), [("trainer", "finetune"), ("lightning", "finetune_lightning")]
)
def test_a_fine_tuning_is_searched_confirmed_and_used_and_a_lost_trial_goes_on(
    tmp_path: Path, name: str, study: str
) -> None:
    shutil.copytree(EXAMPLES, tmp_path, dirs_exist_ok=True)
    example = Example(name, study, tmp_path)
    space = f"with_{name}.toml"
    head = (tmp_path / space).read_text().partition("[search]")[0]
    (tmp_path / "mine.toml").write_text(head + MINE)

    flags = ("--workers", 2, "--trials", 4, "--also", "mine.toml")
    search = begin("start", space, *flags, "--storage", url_of(tmp_path), folder=tmp_path)
    try:
        lost = example.kill_a_worker_in_training()
        _, err = search.communicate(timeout=SECONDS)
    finally:
        search.kill()
        search.wait()
    assert search.returncode == 0, err
    assert "a worker was killed (SIGKILL): its trials are queued again" in err
    assert re.search(r"continue from (checkpoint-\d+|last\.ckpt)", err)

    rows = example.open_study().rows()
    [again] = [row for row in rows if row.user_attrs.get("retry_of") == lost]
    [mine] = [row for row in rows if row.user_attrs.get("own") and row.state.is_finished()][-1:]
    assert {again.state, mine.state} == {TrialState.COMPLETE}
    assert not list((tmp_path / "studies.db.checkpoints").glob("*.run")), "all trials have ended"

    example.run("export", study, "--trial", again.number, "-o", "lost.toml")
    assert ": reproduced the recorded value " in example.run("train", "lost.toml", "--no-reuse")

    said = example.run("confirm", study, "--seeds", 7, "--top", 1, "--workers", 2)
    assert "over 7 fresh seeds, on the test split" in said
    assert "confirmed" in example.run("export", study, "-o", "best.toml")

    example.run("export", study, "--trial", mine.number, "-o", "mine.toml")
    searched, trained = example.recorded("-m", "schedsearch", "train", "mine.toml", "--no-reuse")
    used, printed = example.recorded(tmp_path / f"plain_{name}.py", "mine.toml")
    assert len(searched) == 27, "three epochs of nine steps"
    assert used == searched
    peak = [step[0][0] for step in searched]
    assert peak.index(max(peak)) == 6 > 0 < peak[-1] < peak[0] < max(peak), "a warm-up and a decay"
    loss = number_after("test_loss", trained)
    assert number_after("test loss", printed) == pytest.approx(loss, abs=1e-4), "four decimals"
