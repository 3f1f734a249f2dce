"""Environment variables set the folder and the budget of checkpoints."""

import pytest

from schedsearch.errors import InputError
from schedsearch.trajectories import checkpoint_folder
from schedsearch.trajectories.settings import checkpoint_budget


def test_each_database_has_a_separate_folder_in_the_given_one(monkeypatch, tmp_path):
    monkeypatch.setenv("SCHEDSEARCH_CHECKPOINTS", str(tmp_path))
    urls = ("sqlite:///a/studies.db", "sqlite:///b/studies.db", "mysql://me@db/studies")
    folders = {checkpoint_folder(url) for url in urls}
    assert len(folders) == 3
    assert {folder.parent for folder in folders} == {tmp_path}


@pytest.mark.parametrize(
    ("given", "size"), [("20GiB", 20 * 2**30), ("500MB", 500_000_000), ("12", 12)]
)
def test_the_budget_is_the_given_size(monkeypatch, given, size):
    monkeypatch.setenv("SCHEDSEARCH_CHECKPOINT_BUDGET", given)
    assert checkpoint_budget() == size


@pytest.mark.parametrize("given", ["-5", "much", "1e9", ""])
def test_a_budget_that_is_not_a_size_is_refused(monkeypatch, given):
    monkeypatch.setenv("SCHEDSEARCH_CHECKPOINT_BUDGET", given)
    with pytest.raises(
        InputError, match=f"^SCHEDSEARCH_CHECKPOINT_BUDGET: '{given}' is not a size"
    ):
        checkpoint_budget()
