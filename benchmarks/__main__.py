"""Run all benchmarks and write docs/benchmarks.md: `make bench`, about an hour on two cores."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"

HEAD = """\
# Benchmarks

Each section has the command, the machine and the results. `make bench` runs the benchmarks
again and writes this page, without the notes below the tables and without "The race". A ratio is
the median over alternating repeats within one run, so that other load on the machine affects both
sides equally; absolute numbers hold for that machine only.
[Performance](performance.md) explains where the time goes.
"""


@dataclass(frozen=True)
class Benchmark:
    """A command of this folder, and the title and description of its table."""

    title: str
    description: str
    arguments: tuple[str, ...]

    @property
    def command(self) -> str:
        return " ".join(("python -m", *self.arguments))

    def run(self) -> str:
        """Return the output of the command: the machine, and a table."""
        command = [sys.executable, "-m", *self.arguments]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout

    def section(self, output: str) -> str:
        """Return the benchmark as a section of the page."""
        machine, _, rest = output.strip().partition("\n")
        parts = [f"## {self.title}", self.description, f"    {self.command}", machine, rest.strip()]
        return "\n\n".join(parts) + "\n"


BENCHMARKS = (
    Benchmark(
        "Throughput of one worker",
        "Trial-epochs per second of one worker that writes to a SQLite file, and of "
        "`study.optimize` over the same model, sampler and pruner, with the study in memory and "
        "in a SQLite file with Optuna's default settings. One thread each. The rates do not "
        "include compilation.",
        (
            *("benchmarks.throughput", "--task", "noisy_digits", "--lanes", "32"),
            *("--trials", "400"),
        ),
    ),
    Benchmark(
        "Throughput on other tasks",
        "`small_cnn` has two convolutions of 8 and 16 channels on 14 x 14 pixels.",
        (
            *("benchmarks.throughput", "--task", "noisy_mnist", "vae", "small_cnn"),
            *("--lanes", "8", "--trials", "60", "--plain-trials", "8", "--repeats", "2"),
        ),
    ),
    Benchmark(
        "What bounds a step",
        "Milliseconds of an epoch of one run in compiled lanes, and of its parts alone: each in a "
        "loop of its own, on tensors of the same shapes and strides. "
        "[Performance](performance.md#lanes) says what else a step does.",
        ("benchmarks.step_bounds",),
    ),
    Benchmark(
        "Time to compile a step",
        "Seconds until the engine of a new process begins to train in all lanes: those of the "
        "engine and its first epoch, without those of a second epoch. The last column is the "
        "median difference to the same without compiling. In the last three rows the process has "
        "loaded torch's compiler before, as the process whose forks are the workers of `start` "
        "has. torch's precompiled headers, made once on a machine, are there.",
        ("benchmarks.compile_time",),
    ),
    Benchmark(
        "What samplers and pruners cost the lanes",
        "Trained epochs per second of trials, of 3 runs each, in whole searches of one worker with "
        "a warm engine.",
        ("benchmarks.sampler_throughput",),
    ),
    Benchmark(
        "Learning rate by the step",
        "Milliseconds of an epoch of all lanes, 18 steps each, with a cosine for the learning rate "
        "that is evaluated once per epoch, and at each optimizer step.",
        ("benchmarks.step_values",),
    ),
    Benchmark(
        "Interval of the learning rate",
        "Random plans of the shipped space, whose learning rate changes at each epoch and at each "
        "optimizer step, on the same seeds. The ratio is the geometric mean over pairs, with the "
        'interval of a sign-flip test. A "best of" row compares searches: the best of so many '
        "plans by validation, in each arm.",
        ("benchmarks.interval_of_lr", "helmholtz"),
    ),
    Benchmark(
        "Schedules for the learning rate of noisy_digits",
        "The same for `noisy_digits`, with three families for the learning rate, which has only "
        "constants in the shipped space, and beside random constants.",
        (
            *("benchmarks.interval_of_lr", "noisy_digits", "--arms", "epoch", "step", "constant"),
            *("--searches", "20", "--plans", "10", "--seeds", "3"),
        ),
    ),
    Benchmark(
        "Overhead of a search",
        "Milliseconds per trial-epoch for the database, reports, pruning and bookkeeping, in a "
        "SQLite file that already has many trials, with an engine that does not train.",
        ("benchmarks.overhead",),
    ),
    Benchmark(
        "Time of a TPE proposal",
        "Milliseconds of CPU time from `ask` to the plan's parameters; the random sampler shows "
        "the cost of Optuna's bookkeeping.",
        ("benchmarks.proposals",),
    ),
    Benchmark(
        "Two workers",
        'Trial-epochs per second on one SQLite file. Each process has one thread. "Handing out" '
        'is until the last trial was claimed; "whole" is until the last process ended, and '
        "includes the time in which lanes run out of trials.",
        ("benchmarks.workers",),
    ),
    Benchmark(
        "Cost of sharing a study",
        "Trials and reports per second of workers with one lane and no training, and of as many "
        "plain Optuna processes, in turn. Statements, transactions and CPU time are those of a "
        "report, with its share of claims and proposals; CPU time includes the server. The servers "
        "run on the same cores, without waiting for the disk.",
        ("benchmarks.coordination", "--seconds", "3", "--repeats", "3"),
    ),
    Benchmark(
        "Many workers on one PostgreSQL server",
        "A batch is everything that a worker does between two epochs; an epoch is one second of "
        "sleep. The server and all workers share the cores of one machine; their CPU use is in "
        "cores.",
        ("benchmarks.many_workers", "--seconds", "12"),
    ),
    Benchmark(
        "A study of 10,000 trials",
        "`status` and `list` are whole commands. A worker starts with the name of the study and "
        "ends with its first epoch, so it claims a trial and proposes its plan; its process has "
        "imported torch before. CPU time is that of the process, without the server.",
        ("benchmarks.large_study",),
    ),
    Benchmark(
        "Recovery after a killed worker",
        "A worker process is killed while it trains; `start` checks its workers five times a "
        "second.",
        ("benchmarks.requeueing",),
    ),
    Benchmark(
        "Cost of `--lanes auto`",
        "Seconds of whole searches, including measurement and compilation, against one lane.",
        ("benchmarks.auto",),
    ),
    Benchmark(
        "Whole commands",
        "`schedsearch start SPACE --trials N` with no other option, everything included: where "
        "nothing was ever compiled, and for a second study of the same database. The plain loop "
        "has one thread; its rate is that of 60 trials. All epochs of all seeds count.",
        ("benchmarks.whole_command", "--trials", "20", "400"),
    ),
    Benchmark(
        "Search quality with many lanes",
        "Test error of the best schedule after the same number of trial-epochs; means of 10 "
        "searches with 95 % intervals.",
        ("benchmarks.equal_epochs", "lanes", "1", "8", "32", "--epochs", "4000"),
    ),
    Benchmark(
        "Epochs saved by reuse",
        "Epochs that searches request, and how many of them are trained; nothing is pruned. A "
        "full grid of S equal segments with b values each needs at least the sum of b^i "
        "segments for i = 1 to S.",
        ("benchmarks.reuse",),
    ),
    Benchmark(
        "Cost of the trajectory store",
        "A node is one epoch of a run; each lookup is by a worker with an empty cache.",
        ("benchmarks.trajectories",),
    ),
    Benchmark(
        "Response time of the dashboard",
        "Seconds to the last byte over HTTP: the study list; the page of a study right after "
        "the start, while its trials are still being read, and later; and the poll for new "
        "trials of an open page.",
        ("benchmarks.dashboard",),
    ),
    Benchmark(
        "Samplers and pruners on whole training curves",
        "The regret of the plan that a search chooses when it has used as many epochs as 10, 20, "
        "40 and 80 full trainings: 0 is the best plan of the pool, and 1 the median plan. Means "
        "over 8 pools and 60 orders, with 95 % intervals of the difference in pairs. A search "
        "chooses the complete plan with the best value of one seed; there is no race.",
        ("benchmarks.simulated_searches",),
    ),
    Benchmark(
        "Samplers on known objectives",
        "How much worse than the best possible plan, as a share of its objective, the plan is "
        "that a search chooses after 20, 40 and 80 trials: medians of 12 searches. The objective "
        "is a function of the values over the run, with noise; nothing is trained.",
        ("benchmarks.known_objectives",),
    ),
    Benchmark(
        "Cost of the forecast",
        "CPU time of a proposal, and of a verdict after an epoch, fits included.",
        ("benchmarks.forecast_costs",),
    ),
    Benchmark(
        "Searches of the shipped spaces",
        "The mean test metric of the best plan over 16 fresh seeds, after equal numbers of "
        "reported epochs; means over searches with 95 % intervals, and differences in pairs.",
        ("benchmarks.real_searches", "noisy_digits=6000", "smoothed_digits=4800"),
    ),
    Benchmark(
        "Search quality with several seeds per trial",
        "Test error of the best schedule after the same number of run-epochs; means of 10 "
        "searches with 95 % intervals. A trial of k seeds costs k times as much, so fewer plans "
        "are tried, and the value of each is more certain.",
        ("benchmarks.equal_epochs", "seeds", "1", "2", "3", "5", "--epochs", "9000"),
    ),
)


def main() -> None:
    sections = [HEAD]
    for benchmark in BENCHMARKS:
        print(f"{benchmark.title}: {benchmark.command}", file=sys.stderr, flush=True)
        sections.append(benchmark.section(benchmark.run()))
        # After each benchmark, so that an interruption loses no results.
        PAGE.write_text("\n".join(sections))


if __name__ == "__main__":
    main()
