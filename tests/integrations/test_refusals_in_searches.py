"""A refusal by a callback ends a search, a confirmation and `train` at once, with one message."""

from __future__ import annotations

import pytest

from schedsearch.errors import TrainingRefusedError
from tests.integrations import refused
from tests.integrations.trainers import HORIZON
from tests.searches import Ears, begin, document, make_study, make_worker, write_space

CONTENT = document(refused.train, trials=3) | {
    "task": "tests.integrations.refused:train",
    "horizon": HORIZON,
    "objective": {"metric": "eval_loss"},
}
REFUSAL = "error: eval_delay=2 leaves out evaluations"


def test_a_worker_hands_the_trial_back_and_raises(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "refuse").touch()
    study, ears = make_study(tmp_path, CONTENT), Ears()
    with pytest.raises(TrainingRefusedError, match="set eval_delay=0"):
        make_worker(study, "ann", lambda: False, ears).run()
    counts = study.queue.counts()
    assert (counts.failed, counts.waiting, counts.running) == (0, 1, 0)
    assert (ears.wrong, ears.well) == ([], [])
    (tmp_path / "refuse").unlink()
    make_worker(study, "bob", lambda: False, ears).run()
    assert (study.queue.counts().failed, study.queue.counts().finished) == (0, 3)


@pytest.mark.long
def test_every_command_that_trains_exits_2_with_one_message(tmp_path):
    # A grid has a schedule among its trials, whatever the names of the workers.
    search = {"trials": 7, "sampler": {"name": "grid", "points": 2}, "pruner": {"name": "none"}}
    write_space(tmp_path, CONTENT | {"search": search})
    refuse = tmp_path / "refuse"

    def run(*arguments: str) -> tuple[int, str]:
        process = begin(*arguments, folder=tmp_path)
        _, err = process.communicate(timeout=300)
        return process.returncode, err

    def assert_refused(*arguments: str) -> None:
        refuse.touch()
        code, err = run(*arguments)
        assert (code, err.count("eval_delay=2")) == (2, 1), err
        assert REFUSAL in err
        assert "failed in epoch" not in err
        refuse.unlink()

    assert_refused("start", "small.toml", "--workers", "2")
    assert_refused("worker", "small")
    assert run("start", "small.toml")[0] == 0
    assert_refused("confirm", "small", "--seeds", "6", "--top", "1")
    assert run("export", "small", "-o", "best.toml")[0] == 0
    assert_refused("train", "best.toml", "--no-reuse")
