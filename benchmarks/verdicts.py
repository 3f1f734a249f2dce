"""Whole searches with `start` and `confirm`: how often a schedule beats the best constants.

    python -m benchmarks.verdicts smoothed_digits=8 noisy_digits=4 [--trials 200]
    python -m benchmarks.verdicts indifferent=40

Each search has another seed, and is otherwise what `schedsearch start SPACE --trials 200` and
`schedsearch confirm STUDY` do. `indifferent` is noisy_digits with a task on which no schedule can
help, see `benchmarks.indifferent`: "better" is then a false claim.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.measurement import describe_machine, markdown_table
from benchmarks.search import SPACES

#: A space without effect: a shipped one with another task, and one learning rate for all.
_INDIFFERENT = ("noisy_digits", "schedsearch.tasks.noisy_digits:NoisyDigits")
#: Far apart, so that no two searches share a seed.
_SEED_STEP = 1_000


def space_file(name: str, folder: Path) -> Path:
    """Return the path of a space file."""
    if name != "indifferent":
        return SPACES / f"{name}.toml"
    shipped, task = _INDIFFERENT
    text = (SPACES / f"{shipped}.toml").read_text()
    rates = "value = { low = 5e-4, high = 1e-2, log = true }"
    assert task in text
    assert rates in text
    path = folder / f"{name}.toml"
    text = text.replace(task, "benchmarks.indifferent:Indifferent")
    path.write_text(text.replace(rates, "value = 3e-3"))
    return path


def confirmed_search(space: Path, trials: int, seed: int, folder: Path) -> dict[str, Any]:
    """Search and confirm, and return what `confirm --json` prints."""
    options = ["--storage", f"sqlite:///{folder}/studies.db", "--json", "--trust-task"]
    study = f"search-{seed}"
    _run(
        "start",
        str(space),
        "--study",
        study,
        "--trials",
        str(trials),
        "--seed",
        str(seed),
        *options,
    )
    found: dict[str, Any] = json.loads(_run("confirm", study, *options))
    return found


def _run(*arguments: str) -> str:
    command = [sys.executable, "-m", "schedsearch", *arguments]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(SPACES.parent), *sys.path])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=7200)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return done.stdout


def best_of(result: dict[str, Any]) -> dict[str, Any]:
    """Return the plan with the best verdict, and among equal ones the largest gain."""
    sign = 1 if result["direction"] == "minimize" else -1
    order = ("better", "no difference seen", "worse")
    return min(
        result["plans"],
        key=lambda plan: (order.index(plan["verdict"]), sign * plan["difference"]),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="+", metavar="TASK=SEARCHES")
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="the number of the first search")
    parser.add_argument("--json", type=Path, help="add a line for each search")
    options = parser.parse_args()
    rows = []
    for name, _, searches in (given.partition("=") for given in options.tasks):
        verdicts: Counter[str] = Counter()
        differences = []
        with tempfile.TemporaryDirectory() as folder:
            space = space_file(name, Path(folder))
            for number in range(options.first, options.first + int(searches)):
                result = confirmed_search(space, options.trials, number * _SEED_STEP, Path(folder))
                best = best_of(result)
                verdicts[best["verdict"]] += 1
                differences.append(best["difference"])
                line = {
                    "task": name,
                    "search": number,
                    "verdict": best["verdict"],
                    "mean": best["mean"],
                    "baseline": result["baseline"]["mean"],
                }
                print(json.dumps(line), file=sys.stderr, flush=True)
                if options.json:
                    with options.json.open("a") as file:
                        print(json.dumps(line), file=file)
        found = ", ".join(f"{verdict} {count}" for verdict, count in verdicts.most_common())
        rows.append([name, searches, found, f"{min(differences):.4g} to {max(differences):.4g}"])
    print(describe_machine())
    print("\n".join(markdown_table(["space", "searches", "verdicts", "difference"], rows)))


if __name__ == "__main__":
    main()
