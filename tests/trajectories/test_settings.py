"""Where checkpoints lie and how many bytes they take, as the environment says."""

import pytest

from schedsearch.errors import InputError
from schedsearch.trajectories import checkpoint_folder
from schedsearch.trajectories.settings import checkpoint_budget


def test_each_database_has_a_folder_of_its_own_in_the_one_that_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("SCHEDSEARCH_CHECKPOINTS", str(tmp_path))
    urls = ("sqlite:///a/studies.db", "sqlite:///b/studies.db", "mysql://me@db/studies")
    folders = {checkpoint_folder(url) for url in urls}
    assert len(folders) == 3
    assert {folder.parent for folder in folders} == {tmp_path}


@pytest.mark.parametrize(
    ("given", "size"), [("20GiB", 20 * 2**30), ("500MB", 500_000_000), ("12", 12)]
)
def test_the_budget_is_what_is_written(monkeypatch, given, size):
    monkeypatch.setenv("SCHEDSEARCH_CHECKPOINT_BUDGET", given)
    assert checkpoint_budget() == size


@pytest.mark.parametrize("given", ["-5", "much", "1e9", ""])
def test_what_is_no_size_is_refused(monkeypatch, given):
    monkeypatch.setenv("SCHEDSEARCH_CHECKPOINT_BUDGET", given)
    with pytest.raises(
        InputError, match=f"^SCHEDSEARCH_CHECKPOINT_BUDGET: '{given}' is not a size"
    ):
        checkpoint_budget()
