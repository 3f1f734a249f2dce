"""Schedules have the values of their public counterparts, as recorded with the named versions."""

import importlib.util
import json
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import transformers.optimization

from schedsearch.plan import Plan
from schedsearch.scheduler import Scheduler
from schedsearch.schedules import from_table

_FILE = Path(__file__).parents[2] / "docs" / "equivalents.py"


def equivalents_of_the_docs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("equivalents", _FILE)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


EQUIVALENTS = equivalents_of_the_docs().EQUIVALENTS
#: The cosines of keras and softadapt calculate with 32 bits, and softadapt adds 1e-7 to the sum of
#: the weights. Of Fu's sigmoid, one epoch of a cycle has 0.9975 instead of 1.
WIDER = {
    "CosineDecay": 1e-7,
    "CosineDecayRestarts": 1e-7,
    "Fu 2019, sigmoid": 0.0025,
    "NormalizedSoftAdapt, of terms that fall": 1e-6,
}


@pytest.mark.parametrize("equivalent", EQUIVALENTS, ids=lambda e: e.known_as)
def test_a_schedule_has_the_values_of_its_public_counterpart(equivalent: Any) -> None:
    assert equivalent.greatest_difference() < WIDER.get(equivalent.name, 1e-12)


@pytest.mark.parametrize("equivalent", EQUIVALENTS, ids=lambda e: e.known_as)
def test_what_is_shown_is_what_is_compared_at_all_40_epochs(equivalent: Any) -> None:
    assert equivalent.as_written() == equivalent.schedule
    width = len(getattr(equivalent.schedule, "members", ("value",)))
    assert len(equivalent.values()) == len(equivalent.recorded_values()) == 40 * width


def test_every_recorded_schedule_has_an_equivalent() -> None:
    recorded = json.loads(_FILE.with_name("public_schedules.json").read_text())
    names = {(e.package, e.name) for e in EQUIVALENTS}
    assert names == {
        (package, name)
        for package, content in recorded.items()
        if package not in ("metrics", "terms", "calls")
        for name in content["values"]
    }


def test_every_schedule_of_a_library_is_shown_with_its_call() -> None:
    installed = {"torch": torch.optim.lr_scheduler, "transformers": transformers.optimization}
    libraries = {"torch", "transformers", "timm", "optax", "keras", "softadapt"}
    for each in EQUIVALENTS:
        assert bool(each.call) == (each.package in libraries), each.known_as
        function = each.call.strip("`").partition("(")[0]
        if each.package in installed:
            assert callable(getattr(installed[each.package], function, None)), each.call
        if each.package in ("timm", "torch", "optax", "keras", "softadapt"):
            assert each.name.startswith(function)


def test_one_cycle_by_step_is_one_cycle_lr() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.1, total_steps=400, pct_start=0.3, cycle_momentum=False
    )
    page = (_FILE.with_name("families.md")).read_text()
    [example] = [e for e in re.findall(r"```toml\n(.*?)```", page, re.DOTALL) if "29.75%" in e]
    schedule = from_table(tomllib.loads(example)["hyperparameters"]["lr"]["families"])
    ours = Scheduler(Plan({("lr",): schedule}, intervals={"lr": "step"}), horizon=4)
    for _ in range(4):
        for step in range(100):
            assert ours.at(step / 100)["lr"] == pytest.approx(theirs.get_last_lr()[0], rel=1e-12)
            optimizer.step()
            theirs.step() if theirs.last_epoch < 399 else None
        ours.step(0.0)
