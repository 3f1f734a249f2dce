"""A plan in motion, for a training loop: its values in force, and a step at each epoch's end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, Protocol, TypeAlias

from schedsearch.errors import InputError
from schedsearch.plan import Plan, PlanState
from schedsearch.schedules import Feedback

Direction: TypeAlias = Literal["minimize", "maximize"]


class Optimizer(Protocol):
    """What `Scheduler.apply` needs of a torch optimizer."""

    param_groups: list[dict[str, Any]]


class Scheduler:
    """A plan in motion: the values in force, and one `step` at the end of each epoch.

    >>> from schedsearch.schedules import IncrementOnImprovement
    >>> plan = Plan({("weights.l1",): IncrementOnImprovement(initial=0.2, increment=0.01)})
    >>> scheduler = Scheduler(plan, horizon=60)
    >>> for val_loss in (0.9, 0.8, 0.85):
    ...     scheduler.step(val_loss)
    >>> scheduler.values
    {'weights.l1': 0.22}

    Args:
        plan: the schedules; shares of the horizon are resolved here.
        horizon: the number of epochs of a full training.
        seed: the run's seed, for the families that draw.
        direction: whether the metric given to `step` is better when lower or when higher.
    """

    def __init__(
        self, plan: Plan, *, horizon: int, seed: int = 0, direction: Direction = "minimize"
    ) -> None:
        self.plan = plan.resolve(horizon, seed)
        self.direction = direction
        self.epoch = 0
        self._enter(self.plan.start())

    def _enter(self, state: PlanState) -> None:
        self._state = state
        self._evaluated: tuple[dict[str, float], tuple[str, ...]] | None = None

    def _evaluate(self) -> tuple[dict[str, float], tuple[str, ...]]:
        # Not before somebody asks: after the last epoch nobody does.
        if self._evaluated is None:
            self._evaluated = self.plan.evaluate(self._state)
        return self._evaluated

    @property
    def values(self) -> dict[str, float]:
        """The values in force for the coming epoch, by hyperparameter."""
        return dict(self._evaluate()[0])

    @property
    def clamped(self) -> tuple[str, ...]:
        """The hyperparameters that bounds hold back in the coming epoch."""
        return self._evaluate()[1]

    def step(
        self,
        metric: float,
        *,
        terms: Mapping[str, float] | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """End an epoch that gave this validation metric and these means of the loss terms.

        Tensors of one element will do. A metric that is NaN is neither better nor worse.
        """
        given = as_float(metric)
        lower_is_better = given if self.direction == "minimize" else -given
        feedback = Feedback(lower_is_better, _floats(metrics), _floats(terms))
        self._enter(self.plan.update(self._state, feedback))
        self.epoch += 1

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain data: JSON-able, and enough to go on identically."""
        return {"epoch": self.epoch, "schedules": dict(self._state)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state that `state_dict` returned for the same plan.

        Raises:
            InputError: the state is of another plan.
        """
        schedules = state.get("schedules", {})
        if _shape(schedules) != _shape(self.plan.start()):
            raise InputError(
                f"the state holds {_shape(schedules)}, but this plan's {_shape(self.plan.start())}"
            )
        self.epoch = int(state["epoch"])
        self._enter(dict(schedules))

    def apply(self, optimizer: Optimizer) -> None:
        """Set the values in force on an optimizer's parameter groups.

        A value named `lr`, `weight_decay` or any other key of a group is set in every group that
        has it; `momentum` stands for Adam's first beta. A value named `GROUP.KEY` is set only in
        the group whose "name" is GROUP. Other values (weights of loss terms) are left alone.
        """
        apply_values(self.values, optimizer)


def apply_values(values: Mapping[str, float], optimizer: Optimizer) -> None:
    """Set values on an optimizer's parameter groups, see `Scheduler.apply`."""
    for group in optimizer.param_groups:
        _set(group, values.items())
        own = f"{group['name']}." if "name" in group else None
        if own:
            _set(group, ((n.removeprefix(own), v) for n, v in values.items() if n.startswith(own)))


def _set(group: dict[str, Any], values: Iterable[tuple[str, float]]) -> None:
    for key, value in values:
        if key == "momentum" and "betas" in group:
            group["betas"] = (value, group["betas"][1])
        elif key in group and hasattr(group[key], "fill_"):
            group[key].fill_(value)  # a learning rate kept as a tensor, for compiled optimizers
        elif key in group:
            group[key] = value


def as_float(value: Any) -> float:
    """Return a number, or the one element of a tensor or array, as a float.

    Raises:
        TypeError, ValueError or RuntimeError: it is no number, or not a single one.
    """
    # float() of a tensor warns where the tensor is part of a graph, as a training loss is.
    return float(value.item() if hasattr(value, "item") else value)


def _floats(given: Mapping[str, Any] | None) -> dict[str, float]:
    return {name: as_float(value) for name, value in (given or {}).items()}


def _shape(state: PlanState) -> dict[str, list[str]]:
    """Return which schedules a state is of, and what each remembers."""
    return {names: sorted(own) for names, own in state.items()}
