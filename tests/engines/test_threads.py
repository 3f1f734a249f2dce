"""With several threads, results do not depend on the thread: all flush denormals to zero.

The test runs in a separate process, since torch's threads keep their first setting.
"""

import subprocess
import sys

import pytest

PROGRAM = """
import torch
from torch import nn
from schedsearch.engines.precision import PrecisionSettings, start_torch_threads
from schedsearch.engines.lanes.engine import LanesEngine
from tests.engines.test_contract import same_snapshot
from tests.engines.toys import Toy


class Faint(Toy):
    '''Wide enough for two threads, with inputs so small that Adam's squares are denormal.'''

    def model(self, seed):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 16_384, bias=False), nn.Linear(16_384, 1))

    def terms(self, model, batch, hp, noise):
        return {"fit": (model(1e-18 * batch["x"]) - batch["y"]).square().mean()}


def trained(lane):
    engine = LanesEngine(Faint(), 4, precision=PrecisionSettings(threads=2), compiled=False)
    engine.fill(lane, seed=1)
    engine.train_epoch([{"weight_decay": 0.0} if i == lane else None for i in range(4)])
    return engine.snapshot(lane)


start_torch_threads(2)
snapshots = [trained(lane) for lane in range(4)]
assert all(same_snapshot(snapshots[0], other) for other in snapshots[1:])
squares = [t for name, t in snapshots[0].optimizer.items() if name.startswith("exp_avg_sq.0")]
assert squares
for square in squares:
    assert not ((square != 0) & (square < torch.finfo(square.dtype).tiny)).any()
"""


@pytest.mark.long
def test_all_threads_compute_a_lane_alike() -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=120)
