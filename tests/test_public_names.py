"""The public names of the package: which they are, what they document, and what they import."""

import inspect
import subprocess
import sys

import pytest

import schedsearch

NAMES = {
    "Feedback",
    "FileError",
    "InputError",
    "LoopRun",
    "ParameterError",
    "Plan",
    "Result",
    "SchedSearchError",
    "Schedule",
    "Scheduler",
    "Space",
    "Splits",
    "StudyView",
    "Task",
    "TrialRecord",
    "WeightedLoss",
    "load",
    "search",
}


def test_exactly_these_names_are_public():
    assert set(schedsearch.__all__) == set(dir(schedsearch)) == NAMES
    assert all(callable(getattr(schedsearch, name)) for name in NAMES)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_public_name_and_its_public_members_have_a_docstring(name):
    public = getattr(schedsearch, name)
    assert inspect.getdoc(public)
    if inspect.isclass(public):
        for member, value in vars(public).items():
            if inspect.isfunction(value) and not member.startswith("_"):
                assert inspect.getdoc(getattr(public, member)), f"{name}.{member}"


def test_every_public_error_is_caught_as_a_schedsearch_error():
    errors = [getattr(schedsearch, name) for name in NAMES if name.endswith("Error")]
    assert len(errors) == 4
    assert all(issubclass(error, schedsearch.SchedSearchError) for error in errors)


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = schedsearch.nothing


USED_WHERE_MODELS_TRAIN = {"LoopRun", "StudyView", "WeightedLoss", "search"}
#: They load Optuna, but not torch.
OF_A_STUDY = {"Result", "TrialRecord"}


def test_names_that_need_no_torch_do_not_load_it():
    names = sorted(NAMES - USED_WHERE_MODELS_TRAIN - OF_A_STUDY)
    code = (
        "import sys, schedsearch\n"
        f"for name in {names}: getattr(schedsearch, name)\n"
        "assert not {'torch', 'optuna', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", sorted(USED_WHERE_MODELS_TRAIN))
def test_names_used_in_a_training_loop_load_torch(name):
    code = f"import sys, schedsearch; schedsearch.{name}; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_on_windows_the_import_names_the_supported_systems():
    # Python's own modules are imported first: they must see the real platform.
    code = "import sys, importlib, pathlib, typing; sys.platform = 'win32'; import {}"
    for module in ("schedsearch", "schedsearch.cli"):
        command = [sys.executable, "-c", code.format(module)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1] == (
            "ImportError: schedsearch runs on Linux and macOS; on Windows, install it in the "
            "Windows Subsystem for Linux (WSL)"
        )
