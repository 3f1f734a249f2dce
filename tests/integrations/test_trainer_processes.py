"""Trainings by the Trainer of transformers in several processes, which are refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from schedsearch.errors import InputError
from tests.integrations import trained_by_trainer
from tests.integrations.trainers import make_trainer

ROOT = Path(__file__).parents[2]


@pytest.mark.long
@pytest.mark.parametrize("processes", [1, 2])
def test_several_processes_are_refused_before_the_first_step(tmp_path, processes):
    launch = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    ran = subprocess.run(
        [sys.executable, "-m", *launch, "-m", trained_by_trainer.__name__, str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=500,
        check=True,
    )
    lines = [line for line in ran.stdout.splitlines() if line.startswith(("refused", "trained"))]
    if processes == 1:
        assert lines == ["trained 32 steps"]
    else:
        assert [line.split(",")[0] for line in sorted(lines)] == [
            "refused after 0 steps: ScheduleCallback works in a single process"
        ] * 2
        assert all("args.world_size is 2" in line and "`python SCRIPT`" in line for line in lines)


def test_a_model_that_is_divided_among_processes_is_refused(tmp_path):
    trainer, recorder, _ = make_trainer(tmp_path)
    trainer.args.fsdp = True  # the Trainer accepts it only in several processes
    with pytest.raises(InputError, match=r"fsdp is True, which .*: set fsdp=None"):
        trainer.train()
    assert not recorder.steps
