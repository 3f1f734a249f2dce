"""Runs a Python script or `-m MODULE`, and writes what its optimizer has at each step as JSON.

python recorded_rates.py FILE.json SCRIPT [ARGUMENT]...
"""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

steps: list[list[list[float]]] = []


def record(optimizer: Optimizer, *_: Any) -> None:
    steps.append([[group["lr"], group["weight_decay"]] for group in optimizer.param_groups])


if __name__ == "__main__":
    file = Path(sys.argv[1])
    register_optimizer_step_pre_hook(record)
    # As for Python itself: modules are found beside the script, or in the current folder.
    is_module = sys.argv[2] == "-m"
    target, sys.argv = sys.argv[2 + is_module], sys.argv[2 + is_module :]
    sys.path[0] = str(Path.cwd() if is_module else Path(target).parent)
    try:
        if is_module:
            runpy.run_module(target, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(target, run_name="__main__")
    finally:
        file.write_text(json.dumps(steps))
