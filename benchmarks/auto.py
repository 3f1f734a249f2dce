"""Whether `--lanes auto` ever costs: whole searches, its measuring and compiling included.

    python -m benchmarks.auto [--repeats 3] [--searches vae:3 noisy_digits:100 …]

Each search is run with one lane, the plain loop, and with what auto chooses. The random sampler
draws plans of the same kind, and nothing is pruned, so both train as many epochs.
"""

from __future__ import annotations

import argparse
from functools import partial

from benchmarks.measuring import alternate, machine, quiet, seconds, table
from benchmarks.searching import begun, prepared

#: Searches by name and number of trials: from those that end before a compiler would.
SEARCHES = (
    "noisy_digits:3",
    "noisy_digits:20",
    "noisy_digits:100",
    "vae:3",
    "vae:20",
    "small_cnn:3",
)


class Search:
    """A search from beginning to end, and why auto chose what it chose."""

    def __init__(self, name: str, trials: int) -> None:
        options = {"trials": trials, "sampler.name": "random", "pruner.name": "none"}
        self._prepared = prepared(name, **options)
        self.why = ""

    def run(self, lanes: int | None) -> None:
        with begun(self._prepared, lanes) as search:
            self.why = search.why or self.why
            search.run()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--searches", nargs="*", default=SEARCHES, metavar="NAME:TRIALS")
    options = parser.parse_args()
    quiet()
    rows = []
    for given in options.searches:
        name, trials = given.split(":")
        search = Search(name, int(trials))
        runs = {
            "one lane": partial(seconds, partial(search.run, 1)),
            "auto": partial(seconds, partial(search.run, None)),
        }
        plain, auto = alternate(runs, options.repeats)
        times = [f"{measured.median:.1f}" for measured in (plain, auto)]
        rows.append([name, trials, *times, f"{auto.ratio_to(plain):.2f}", search.why])
    print(machine())
    print("\n".join(table(["search", "trials", "one lane, s", "auto, s", "ratio", "why"], rows)))


if __name__ == "__main__":
    main()
