"""How long the dashboard takes to answer, by the number of stored trials of 60 epochs.

The study list, a study's whole page in the moment of the start, when its trials are still being
read, and later, and the poll by which an open page asks for what is new. Requests go by HTTP to the
command `schedsearch dashboard`, in a process of its own, and count until the last byte; the
dashboard keeps trials for 10 seconds, so the later page and the poll are asked after it let go of
them.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

from benchmarks.measuring import machine, quiet, seconds, table
from benchmarks.stored import store_trials
from schedsearch.preparation import Setup, choose_numerics, load_space, prepare
from schedsearch.report.dashboard_artifacts import DashboardArtifacts
from schedsearch.storage import create_study, open_database

SPACE = Path(__file__).parent.parent / "search_spaces" / "noisy_digits.toml"
EPOCHS = 60
#: Seconds that the dashboard keeps what it read of a study's trials, and a little more.
_KEPT = 10.5


def fill(url: str, trials: int) -> int:
    """Make a study with so many complete trials, its note and its plots; return its id."""
    prepared = prepare(load_space(SPACE, {}))
    numerics = choose_numerics(prepared, Setup(lanes=1), lambda line: None)
    study = create_study(open_database(url, create=True), prepared.record(numerics))
    store_trials(study, trials, epochs=EPOCHS)
    DashboardArtifacts(study).refresh(study.trials())
    return study.study_id


@contextmanager
def served(url: str) -> Iterator[str]:
    """Serve the studies; yield the address of the dashboard's interface."""
    process = subprocess.Popen(
        [sys.executable, "-m", "schedsearch", "dashboard", "--port", "0"],
        env=os.environ | {"SCHEDSEARCH_STORAGE": url},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    with process:
        for line in process.stderr:
            if found := re.search(r"(http://[^ ]*)/dashboard", line):
                yield f"{found[1]}/api/studies"
                break
        process.terminate()


def measure(trials: int) -> list[str]:
    """Return a row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/studies.db"
        study_id = fill(url, trials)
        with served(url) as api:
            page = f"{api}/{study_id}"

            def ask(address: str) -> float:
                return seconds(lambda: urlopen(address).read())

            listed, first = ask(api), ask(page)
            size = len(urlopen(page).read()) / 1e6
            time.sleep(_KEPT)
            again = ask(page)
            time.sleep(_KEPT)
            poll = ask(f"{page}?after={trials}")
    return [
        f"{trials:,}",
        *(f"{taken:.2f}" for taken in (listed, first, again, poll)),
        f"{size:.1f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stored", type=int, nargs="+", default=[100, 1000, 10_000])
    options = parser.parse_args()
    quiet()
    rows = [measure(trials) for trials in options.stored]
    print(f"{machine()}: seconds, trials of {EPOCHS} epochs in a SQLite file")
    heads = ["stored trials", "study list", "page at the start", "page", "poll", "page, MB"]
    print("\n".join(table(heads, rows)))


if __name__ == "__main__":
    main()
