"""Run all benchmarks and write docs/benchmarks.md: `make bench`, an hour or so on two cores."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"

HEAD = """\
# Benchmarks

What was measured, by which command, on which machine. `make bench` measures all of it anew and
writes this page. Each ratio is taken within one run, as the median over repeats that alternate, so
that whatever else the machine did met both sides alike; absolute numbers are of that machine alone.
[Performance](performance.md) says where the time goes.
"""


@dataclass(frozen=True)
class Benchmark:
    """A command of this folder, and what its table shows."""

    title: str
    says: str
    arguments: tuple[str, ...]

    @property
    def command(self) -> str:
        return " ".join(("python -m", *self.arguments))

    def run(self) -> str:
        """Return what the command prints: the machine, and a table."""
        command = [sys.executable, "-m", *self.arguments]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout

    def section(self, printed: str) -> str:
        """Return the benchmark as a section of the page."""
        on, _, rest = printed.strip().partition("\n")
        return f"## {self.title}\n\n{self.says}\n\n    {self.command}\n\n{on}\n\n{rest.strip()}\n"


BENCHMARKS = (
    Benchmark(
        "A worker against the loop written by hand",
        "Trial-epochs per second of one worker that writes to a SQLite file, and of "
        "`study.optimize` over the same model, sampler and pruner, with its study in memory and in "
        "a SQLite file with Optuna's own settings. One thread each. Compiling is not in the rate.",
        (
            *("benchmarks.throughput", "--task", "noisy_digits", "--lanes", "32"),
            *("--trials", "400"),
        ),
    ),
    Benchmark(
        "The same on other tasks",
        "`small_cnn` has two convolutions of 8 and 16 channels on 14 x 14 pixels.",
        (
            *("benchmarks.throughput", "--task", "noisy_mnist", "vae", "small_cnn"),
            *("--lanes", "8", "--trials", "100", "--plain-trials", "12"),
        ),
    ),
    Benchmark(
        "What a search costs beside training",
        "Milliseconds per trial-epoch for the database, reports, pruning and bookkeeping, in a "
        "SQLite file that holds many trials already, with an engine that answers at once.",
        ("benchmarks.overhead",),
    ),
    Benchmark(
        "A proposal of TPE",
        "Milliseconds of processor time from the ask to the plan's parameters; the random sampler "
        "shows what Optuna's own bookkeeping costs.",
        ("benchmarks.proposals",),
    ),
    Benchmark(
        "Two workers",
        "Trial-epochs per second on one SQLite file. Each process has one thread. Once the last "
        "trial is handed out, more and more lanes stand idle; the whole includes that.",
        ("benchmarks.workers",),
    ),
    Benchmark(
        "What sharing a study costs",
        "Trials and reports per second of workers of one lane whose training is free, and of so "
        "many processes of plain Optuna. The servers run on the same cores, and do not wait for "
        "the disk.",
        ("benchmarks.coordination", "--seconds", "3"),
    ),
    Benchmark(
        "Many workers on one PostgreSQL server",
        "A round is all that a worker does between two epochs; an epoch is a second of sleep. The "
        "server and all workers share the cores of one machine, and their use is given in cores.",
        ("benchmarks.many_workers", "--seconds", "12"),
    ),
    Benchmark(
        "From a kill to the next worker",
        "A worker process is killed while it trains; `start` would look after it five times a "
        "second. The time until another worker has the trial is mostly that of a new process.",
        ("benchmarks.requeueing",),
    ),
    Benchmark(
        "What `--lanes auto` costs",
        "Seconds of whole searches, measuring and compiling included, against one lane.",
        ("benchmarks.auto",),
    ),
    Benchmark(
        "What many lanes do to a search",
        "Test error of the best schedule after the same number of trial-epochs, 10 searches each "
        "with 95 % intervals.",
        ("benchmarks.equal_epochs", "lanes", "1", "8", "32", "--epochs", "4000"),
    ),
    Benchmark(
        "What reuse saves",
        "Epochs that searches ask for, and those of them that are trained; nothing is pruned. A "
        "full grid of S equal segments with b values each needs the sum of b^i segments at least.",
        ("benchmarks.reuse",),
    ),
    Benchmark(
        "What keeping costs",
        "A node is an epoch of a run; the look-up is by a worker that has read nothing before.",
        ("benchmarks.trajectories",),
    ),
    Benchmark(
        "How long the dashboard takes to answer",
        "Seconds to the last byte, by HTTP: the study list, a study's whole page in the moment of "
        "the start, when its trials are still being read, and later, and the poll by which an open "
        "page asks for what is new.",
        ("benchmarks.dashboard",),
    ),
    Benchmark(
        "Population-based training against TPE",
        "Test error of the best schedule over 24 fresh seeds, after 1,440 trained epochs; 10 "
        "searches each, one seed per trial, on 8 lanes.",
        ("benchmarks.pbt", "noisy_digits", "long_tail", "helmholtz"),
    ),
    Benchmark(
        "What several seeds per trial do to a search",
        "Test error of the best schedule after the same number of run-epochs, 10 searches each.",
        ("benchmarks.equal_epochs", "seeds", "1", "2", "3", "5", "--epochs", "9000"),
    ),
)


def main() -> None:
    sections = [HEAD]
    for benchmark in BENCHMARKS:
        print(f"{benchmark.title}: {benchmark.command}", file=sys.stderr, flush=True)
        sections.append(benchmark.section(benchmark.run()))
        # After each, so that what is measured is kept.
        PAGE.write_text("\n".join(sections))


if __name__ == "__main__":
    main()
