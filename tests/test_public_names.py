"""What `import schedsearch` offers: no name comes or goes unnoticed, or costs before its use."""

import subprocess
import sys

import pytest

import schedsearch

NAMES = {
    "Feedback",
    "InputError",
    "LoopRun",
    "Plan",
    "SchedSearchError",
    "Schedule",
    "Scheduler",
    "Space",
    "Splits",
    "Task",
    "WeightedLoss",
    "load",
}


def test_exactly_these_names_are_public():
    assert set(schedsearch.__all__) == set(dir(schedsearch)) == NAMES
    assert all(callable(getattr(schedsearch, name)) for name in NAMES)


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = schedsearch.nothing


def test_only_what_trains_loads_torch():
    names = sorted(NAMES - {"WeightedLoss"})
    code = (
        "import sys, schedsearch\n"
        f"for name in {names}: getattr(schedsearch, name)\n"
        "assert not {'torch', 'optuna', 'matplotlib'} & set(sys.modules)\n"
        "schedsearch.WeightedLoss; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
