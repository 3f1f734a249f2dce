"""Values at the interval "epoch" in version 1 of the rules are those of 0.1, bit for bit."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from schedsearch.schedules import FAMILIES, Feedback, GroupSchedule, from_table
from tests.schedules.strategies import MEMBERS, PEERS, TERMS

_FILE = Path(__file__).parents[1] / "data" / "values_by_epoch_0_1.json"
#: Schedules with feedback, values and the last state, as version 0.1 computed them.
CASES: list[dict[str, Any]] = json.loads(_FILE.read_text())


def family_of(case: dict[str, Any]) -> str:
    return next(iter(case["table"]))


def test_every_family_of_version_0_1_is_recorded() -> None:
    assert set(map(family_of, CASES)) <= set(FAMILIES)
    assert len(CASES) == 12 * 33


@pytest.mark.parametrize("family", sorted(set(map(family_of, CASES))))
def test_values_by_epoch_have_the_bits_of_version_0_1(family: str) -> None:
    members = MEMBERS if issubclass(FAMILIES[family], GroupSchedule) else None
    for case in (case for case in CASES if family_of(case) == family):
        schedule = from_table(case["table"], members, version=1)
        schedule = schedule.resolve(case["horizon"], case["seed"])
        state, values = schedule.start(), []
        for metric, terms in case["feedback"]:
            value = schedule.evaluate(state, PEERS)
            found = list(value.values()) if isinstance(value, dict) else value
            values.append([v.hex() for v in found] if isinstance(found, list) else found.hex())
            feedback = Feedback(
                math.nan if metric is None else metric, {}, dict(zip(TERMS, terms, strict=True))
            )
            state = schedule.update(state, feedback)
        assert values == case["values"]
        assert json.loads(json.dumps(state)) == case["state"]
