"""What several workers say alike is printed once, also if they say it at the same time."""

from __future__ import annotations

from pathlib import Path

import pytest

from schedsearch.launchers.local import LocalLauncher
from schedsearch.launchers.supervisor import Supervisor
from tests.searches import make_study


@pytest.mark.parametrize(("line", "times"), [("error: the file was lost", 1), ("epoch 3", 2)])
def test_an_error_that_another_worker_says_during_the_printing_is_printed_once(
    tmp_path: Path, line: str, times: int
):
    printed: list[str] = []

    def say(text: str) -> None:
        printed.append(text)
        if len(printed) == 1:
            supervisor._on_line("bob", line)  # as from the thread that reads another worker

    supervisor = Supervisor(make_study(tmp_path), 2, LocalLauncher(), say)
    supervisor._on_line("ann", line)
    assert printed == [line] * times
