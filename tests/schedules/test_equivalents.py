"""Schedules have the values of their public counterparts, as recorded with the named versions."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

_FILE = Path(__file__).parents[2] / "docs" / "equivalents.py"


def equivalents_of_the_docs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("equivalents", _FILE)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


EQUIVALENTS = equivalents_of_the_docs().EQUIVALENTS
#: Keras and softadapt calculate with 32 bits, and softadapt adds 1e-7 to the sum of the weights.
#: Of Fu's sigmoid, one epoch of a cycle has 0.9975 instead of 1.
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
        if package not in ("metrics", "terms")
        for name in content["values"]
    }
