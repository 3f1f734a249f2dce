"""The response time of the dashboard, by the number of stored trials of 60 epochs.

    python -m benchmarks.dashboard [--stored 100 1000 10000]

Measured: the study list; the page of a study right after the start, while its trials are still
being read, and later; and the poll for new trials of an open page. Requests go over HTTP to a
process of `schedsearch dashboard`, and are timed to the last byte. The dashboard caches trials for
10 seconds, so the later page and the poll are requested after the cache has expired.
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

from benchmarks.measurement import describe_machine, markdown_table, time_call, use_one_thread
from benchmarks.stored_trials import store_trials
from schedsearch.preparation import ComputeOptions, choose_numerics, load_space, prepare_space
from schedsearch.report.dashboard_artifacts import DashboardArtifacts
from schedsearch.storage import create_study, open_database

SPACE = Path(__file__).parent.parent / "search_spaces" / "noisy_digits.toml"
EPOCHS = 60
#: Seconds until the dashboard's cache of a study's trials has expired.
_CACHE_EXPIRY = 10.5


def create_filled_study(url: str, trials: int) -> int:
    """Create a study with some complete trials, its note and its plots; return its id."""
    prepared = prepare_space(load_space(SPACE, {}))
    numerics = choose_numerics(prepared, ComputeOptions(lanes=1), lambda line: None)
    study = create_study(open_database(url, create=True), prepared.record(numerics))
    store_trials(study, trials, epochs=EPOCHS)
    DashboardArtifacts(study).refresh(study.trials())
    return study.study_id


@contextmanager
def served(url: str) -> Iterator[str]:
    """Serve the studies; yield the address of the dashboard's API."""
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
        study_id = create_filled_study(url, trials)
        with served(url) as api:
            page = f"{api}/{study_id}"

            def request(address: str) -> float:
                return time_call(lambda: urlopen(address).read())

            listed, first = request(api), request(page)
            size = len(urlopen(page).read()) / 1e6
            time.sleep(_CACHE_EXPIRY)
            again = request(page)
            time.sleep(_CACHE_EXPIRY)
            poll = request(f"{page}?after={trials}")
    return [
        f"{trials:,}",
        *(f"{taken:.2f}" for taken in (listed, first, again, poll)),
        f"{size:.1f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stored", type=int, nargs="+", default=[100, 1000, 10_000])
    options = parser.parse_args()
    use_one_thread()
    rows = [measure(trials) for trials in options.stored]
    print(f"{describe_machine()}: seconds, trials of {EPOCHS} epochs in a SQLite file")
    heads = ["stored trials", "study list", "page at the start", "page", "poll", "page, MB"]
    print("\n".join(markdown_table(heads, rows)))


if __name__ == "__main__":
    main()
