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


USED_IN_A_TRAINING_LOOP = {"LoopRun", "WeightedLoss"}


def test_names_that_need_no_torch_do_not_load_it():
    names = sorted(NAMES - USED_IN_A_TRAINING_LOOP)
    code = (
        "import sys, schedsearch\n"
        f"for name in {names}: getattr(schedsearch, name)\n"
        "assert not {'torch', 'optuna', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", sorted(USED_IN_A_TRAINING_LOOP))
def test_names_used_in_a_training_loop_load_torch(name):
    code = f"import sys, schedsearch; schedsearch.{name}; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
