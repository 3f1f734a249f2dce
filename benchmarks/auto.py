"""The cost of `--lanes auto`: whole searches, including measurement and compilation.

    python -m benchmarks.auto [--repeats 3] [--searches vae:3 noisy_digits:100 …]

Each search runs with one lane (the plain loop), and with the number that auto chooses. The sampler
is random and nothing is pruned, so both train the same number of epochs.
"""

from __future__ import annotations

import argparse
from functools import partial

from benchmarks.measurement import (
    describe_machine,
    markdown_table,
    measure_alternating,
    time_call,
    use_one_thread,
)
from benchmarks.search import prepare_search, start_search

#: Searches by name and number of trials. The smallest ones end before a compilation would.
SEARCHES = (
    "noisy_digits:3",
    "noisy_digits:20",
    "noisy_digits:100",
    "vae:3",
    "vae:20",
    "small_cnn:3",
)


class Search:
    """A whole search, and the reason for the choice of auto."""

    def __init__(self, name: str, trials: int) -> None:
        options = {"trials": trials, "sampler.name": "random", "pruner.name": "none"}
        self._prepared = prepare_search(name, **options)
        self.reason = ""

    def run(self, lanes: int | None) -> None:
        with start_search(self._prepared, lanes) as search:
            self.reason = search.reason or self.reason
            search.run()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--searches", nargs="*", default=SEARCHES, metavar="NAME:TRIALS")
    options = parser.parse_args()
    use_one_thread()
    rows = []
    for given in options.searches:
        name, trials = given.split(":")
        search = Search(name, int(trials))
        runs = {
            "one lane": partial(time_call, partial(search.run, 1)),
            "auto": partial(time_call, partial(search.run, None)),
        }
        plain, auto = measure_alternating(runs, options.repeats)
        times = [f"{measured.median:.1f}" for measured in (plain, auto)]
        rows.append([name, trials, *times, f"{auto.ratio_to(plain):.2f}", search.reason])
    print(describe_machine())
    print(
        "\n".join(
            markdown_table(["search", "trials", "one lane, s", "auto, s", "ratio", "reason"], rows)
        )
    )


if __name__ == "__main__":
    main()
