"""A hand-written search: `study.optimize` over an ordinary training loop."""

from __future__ import annotations

from collections.abc import Mapping

import optuna
import torch
from torch import Tensor

from schedsearch.scheduler import Scheduler
from schedsearch.space import Space
from schedsearch.task import Task, count_examples, count_steps


def search(
    space: Space, task: Task, trials: int, storage: str | None, name: str | None = None
) -> optuna.Study:
    """Search with Optuna's TPE and successive halving; `storage=None` is a study in memory."""
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        load_if_exists=True,
        sampler=optuna.samplers.TPESampler(multivariate=True, group=True, constant_liar=True),
        pruner=optuna.pruners.SuccessiveHalvingPruner(
            min_resource=space.search.pruner.min_epochs,
            reduction_factor=space.search.pruner.reduction_factor,
        ),
    )
    study.optimize(lambda trial: _train(trial, space, task), n_trials=trials)
    return study


def _train(trial: optuna.Trial, space: Space, task: Task) -> float:
    scheduler = Scheduler(space.suggest(trial), horizon=space.horizon)
    splits, model = task.data(0), task.model(0)
    steps = count_steps(task, count_examples(splits.train))
    values = {**task.hyperparameters, **scheduler.values}
    optimizer = torch.optim.Adam(model.parameters(), lr=values["lr"])
    metric = 1.0
    for epoch in range(1, space.horizon + 1):
        values = {**task.hyperparameters, **scheduler.values}
        optimizer.param_groups[0]["lr"] = values["lr"]
        hp = {name: torch.tensor(value) for name, value in values.items()}
        model.train()
        order = torch.randperm(count_examples(splits.train))
        for batch in torch.split(order, task.batch_size)[:steps]:
            examples = {name: tensor[batch] for name, tensor in splits.train.items()}
            noise = {name: torch.randn(shape) for name, shape in task.noise.items()}
            loss = _loss(task.terms(model, examples, hp, noise), hp)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
        model.eval()
        with torch.no_grad():
            metrics = task.metrics(model, splits.validation)
        metric = metrics[space.objective.metric.removeprefix("val_")].item()
        scheduler.step(metric)
        trial.report(metric, epoch)
        if trial.should_prune():
            raise optuna.TrialPruned
    return metric


def _loss(terms: Mapping[str, Tensor], hp: Mapping[str, Tensor]) -> Tensor:
    one = torch.tensor(1.0)
    return torch.stack([hp.get(f"weights.{name}", one) * t for name, t in terms.items()]).sum()
