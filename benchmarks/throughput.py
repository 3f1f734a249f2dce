"""Trial-epochs per second: a worker of schedsearch, and a plain Optuna loop over the same search.

Both search noisy_digits with TPE and successive halving, on one thread, into a SQLite file of their
own with the same settings. Repeats alternate, so that both meet the same machine.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import torch
from sqlalchemy import event
from torch.nn.functional import cross_entropy

from schedsearch.launchers.here import work
from schedsearch.plan import Scheduler
from schedsearch.preparation import load_space, prepare
from schedsearch.space import Space
from schedsearch.storage import create_study, open_database
from schedsearch.tasks.noisy_digits import NoisyDigits

SPACE = Path(__file__).parent.parent / "search_spaces" / "noisy_digits.toml"


def run_worker(space: Space, file: Path) -> optuna.Study:
    """Search with one worker in this process."""
    record = prepare(space, device="cpu", threads=1)
    study = create_study(open_database(f"sqlite:///{file}", create=True), record)
    work(study, name="bench", should_stop=lambda: False, say=_complain, quiet=True)
    return study.load()


def run_plain_loop(space: Space, file: Path) -> optuna.Study:
    """Search with `study.optimize` over a training loop as one writes it by hand."""
    storage = optuna.storages.RDBStorage(f"sqlite:///{file}")
    event.listen(storage.engine, "connect", _set_pragmas)
    storage.engine.dispose()
    study = optuna.create_study(
        storage=storage,
        sampler=optuna.samplers.TPESampler(seed=0, group=True, constant_liar=True),
        pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=5, reduction_factor=3),
    )
    study.optimize(lambda trial: _train(trial, space), n_trials=space.search.trials)
    return study


def _set_pragmas(connection: Any, record: object) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def _train(trial: optuna.Trial, space: Space) -> float:
    task = NoisyDigits()
    scheduler = Scheduler(space.suggest(trial), horizon=space.horizon)
    splits, model = task.data(0), task.model(0)
    images, labels = splits.train["image"], splits.train["label"]
    optimizer = torch.optim.Adam(model.parameters(), lr=task.hyperparameters["lr"])
    error = 1.0
    for epoch in range(1, space.horizon + 1):
        share = scheduler.values["self_label_weight"]
        model.train()
        for batch in torch.split(torch.randperm(len(images)), task.batch_size):
            logits = model(images[batch])
            own = cross_entropy(logits, logits.detach().argmax(dim=-1))
            loss = (1 - share) * cross_entropy(logits, labels[batch]) + share * own
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch's
            optimizer.step()
        model.eval()
        with torch.no_grad():
            guesses = model(splits.validation["image"]).argmax(dim=-1)
        error = (guesses != splits.validation["label"]).double().mean().item()
        scheduler.step(error)
        trial.report(error, epoch)
        if trial.should_prune():
            raise optuna.TrialPruned
    return error


def _complain(message: str) -> None:
    print(message, file=sys.stderr)


def measure(run: Callable[[Space, Path], optuna.Study], space: Space) -> float:
    """Return the trial-epochs per second of one search."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        study = run(space, Path(folder) / "studies.db")
        seconds = time.perf_counter() - began
        return sum(len(trial.intermediate_values) for trial in study.trials) / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    space = load_space(SPACE, {"search.trials": options.trials})
    runs = {"worker": run_worker, "plain loop": run_plain_loop}
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(options.repeats):
        for name, run in runs.items():
            rates[name].append(measure(run, space))
            print(f"{name}: {rates[name][-1]:.1f} trial-epochs per second", file=sys.stderr)
    for name, measured in rates.items():
        low, high = min(measured), max(measured)
        print(f"{name:10}  median {statistics.median(measured):.1f}, {low:.1f} to {high:.1f}")
    ratios = [ours / plain for ours, plain in zip(*rates.values(), strict=True)]
    print(f"{'ratio':10}  median {statistics.median(ratios):.2f}, by repeat")


if __name__ == "__main__":
    main()
