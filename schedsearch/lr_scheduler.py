"""The learning rate of a plan as a scheduler of torch, for loops and frameworks that step one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from schedsearch.epoch_values import evaluate_epochs, have_same_course
from schedsearch.errors import InputError, describe_value
from schedsearch.parameter_groups import (
    group_values,
    record_initial,
    set_value,
    setting_name,
)
from schedsearch.plan import Plan
from schedsearch.saved_states import as_whole, check_state, first_difference, whole_number
from schedsearch.schedules import Feedback

#: The entries that a state has had in every release.
_STATE_KEYS = ("plan", "horizon", "steps_per_epoch", "last_epoch", "base_lrs")
_EXPECTED = "what `state_dict` of a scheduler of `lr_scheduler()` returned"


class PlanLR(LRScheduler):
    """Sets the learning rate of a plan; call `step` after each optimizer step.

    The learning rate of optimizer step n is that of the plan at the time n / steps_per_epoch at the
    interval "step", and at the beginning of epoch n // steps_per_epoch at the interval "epoch".
    Steps after the horizon keep the last value.

    The parameter groups keep the ratios of their initial learning rates, as with
    `Scheduler.apply`. Other hyperparameters are not set.

    >>> from schedsearch.schedules import Linear
    >>> head, body = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    >>> optimizer = torch.optim.SGD([{"params": [head]}, {"params": [body], "lr": 0.25}], lr=0.5)
    >>> plan = Plan({("lr",): Linear(1.0, 0.0, duration=2)}, intervals={"lr": "step"})
    >>> scheduler = PlanLR(optimizer, plan, horizon=2, steps_per_epoch=2)
    >>> for _ in range(4):
    ...     print(scheduler.get_last_lr())
    ...     optimizer.step()
    ...     scheduler.step()
    [1.0, 0.5]
    [0.75, 0.375]
    [0.5, 0.25]
    [0.25, 0.125]

    Args:
        optimizer: its learning rates are overwritten.
        plan: the schedules; those that the learning rate depends on must be open loop.
        horizon: the number of epochs of a full training.
        steps_per_epoch: the number of calls of `step` in an epoch.
        seed: the seed of the run, for families that draw random numbers.

    Raises:
        InputError: the plan sets no learning rate of this optimizer, or one that depends on the
            results of epochs, or `steps_per_epoch` is not a whole number of at least 1.
        ParameterError: a value would overflow within the horizon.
    """

    def __init__(
        self, optimizer: Optimizer, plan: Plan, *, horizon: int, steps_per_epoch: int, seed: int = 0
    ) -> None:
        self.horizon, self.steps_per_epoch = horizon, _steps_of_epoch(steps_per_epoch)
        self._names = plan.names
        # Resolve the whole plan first, so that a bad schedule raises as in `Scheduler`.
        resolved = plan.resolve(horizon, seed)
        self._plan = _open_loop_part(resolved, _learning_rates(plan, optimizer))
        self._given, self._seed = plan, seed
        self._epochs = list(evaluate_epochs(self._plan, [Feedback(math.nan)] * horizon))
        record_initial("lr", optimizer.param_groups)
        super().__init__(optimizer)

    def get_lr(self) -> list[float | torch.Tensor]:
        """Return the learning rate of each parameter group at the current step."""
        step = min(max(self.last_epoch, 0), self.horizon * self.steps_per_epoch - 1)
        epoch, step_in_epoch = divmod(step, self.steps_per_epoch)
        values = self._epochs[epoch].at(step_in_epoch / self.steps_per_epoch)
        groups = self.optimizer.param_groups
        self._check_names(values, groups)
        rates = group_values("lr", values, groups, self.optimizer.defaults)
        self.base_lrs = [group["initial_lr"] for group in groups]  # groups may have been added
        return [
            base if rate is None else rate for base, rate in zip(self.base_lrs, rates, strict=True)
        ]

    def _check_names(self, values: Mapping[str, float], groups: Iterable[dict[str, Any]]) -> None:
        """Raise if the plan names a group that the optimizer did not have at the beginning."""
        for group in groups:
            name = setting_name("lr", self._names, group)
            if name is not None and name not in values:
                raise InputError(
                    f"the parameter group `{group['name']}` was added after the scheduler was "
                    f"made, so `{name}` of the plan cannot be set: make the scheduler for an "
                    "optimizer with this group, or use `scheduler()`"
                )

    def _at_version(self, version: int) -> Plan:
        """Return the plan by older rules, or as it is if they give it other values."""
        resolved = self._given.at_version(version).resolve(self.horizon, self._seed)
        older = Plan(
            {names: resolved.schedules[names] for names in self._plan.schedules},
            self._plan.bounds,
            self._plan.intervals,
            self._plan.whole,
        )
        return older if have_same_course(self._plan, older, self.horizon) else self._plan

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain data, for a checkpoint."""
        groups = self.optimizer.param_groups
        record_initial("lr", groups, self._names, self.optimizer.defaults)  # of added groups
        self.base_lrs = [group["initial_lr"] for group in groups]
        state: dict[str, Any] = super().state_dict()
        ours = ("_names", "_plan", "_given", "_seed", "_epochs")
        kept = {key: value for key, value in state.items() if key not in ours}
        return kept | {"plan": self._plan.to_tables(), "seed": int(self._seed)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a state that `state_dict` returned for the same plan.

        A state of a plan by older rules loads if they give it the same values. The seed must be the
        same if a family of the plan draws random numbers; states of earlier releases do not record
        it. If the optimizer still has the learning rates of this scheduler, it gets those of the
        state, so that its own state may be loaded before or after.

        Raises:
            InputError: the state has another plan, horizon, seed, number of steps per epoch or
                number of parameter groups, or it is not a state.
        """
        state = check_state(state_dict, _STATE_KEYS, _EXPECTED)
        self._check_belongs(state)
        groups = self.optimizer.param_groups
        # SequentialLR keeps a scheduler that has not begun at -1.
        last_epoch = whole_number(state, "last_epoch", least=-1)
        steps = whole_number({"_step_count": last_epoch + 1, **state}, "_step_count")
        base_lrs, last_lrs = (
            _rates(state, "base_lrs"),
            _rates({"_last_lr": [], **state}, "_last_lr"),
        )
        if len(base_lrs) != len(groups):
            raise InputError(
                "the state belongs to an optimizer with another number of parameter groups: its "
                f"`base_lrs` has {len(base_lrs)}, but the optimizer has {len(groups)} groups"
            )
        present = zip(groups, self._last_lr, strict=False)
        has_own_rates = all(group["lr"] == rate for group, rate in present)
        self.last_epoch, self._step_count = last_epoch, steps
        for group, base in zip(groups, base_lrs, strict=True):
            group["initial_lr"] = base
        rates = self.get_lr()
        self._last_lr = last_lrs if len(last_lrs) == len(groups) else rates
        for group, rate in zip(groups, rates if has_own_rates else (), strict=False):
            set_value(group, "lr", rate)

    def _check_belongs(self, state: Mapping[str, Any]) -> None:
        """Raise InputError, with what differs, if a state belongs to another schedule."""
        keys = ["horizon", "steps_per_epoch"]
        if "seed" in state and any(schedule.seeds for schedule in self._plan.schedules.values()):
            keys.append("seed")
        own = {"horizon": self.horizon, "steps_per_epoch": self.steps_per_epoch, "seed": self._seed}
        difference = first_difference({k: state[k] for k in keys}, {k: own[k] for k in keys})
        if difference is None:
            difference = self._difference_of_plan(state["plan"])
        if difference is not None:
            raise InputError(
                f"the state belongs to another learning rate schedule: its {difference}; create "
                "the scheduler as the saved one was created, or begin without the state"
            )

    def _difference_of_plan(self, plan: Any) -> str | None:
        """Return where the plan of a state, perhaps by older rules, differs from this one."""
        if not isinstance(plan, Mapping):
            return f"plan is {describe_value(plan)}"
        version, tables = plan.get("schedule_version", 1), self._plan.to_tables()
        # Not of another type: a truth value is in a range too, and an array has no truth value.
        if type(version) is int and version in range(1, self._plan.version):
            tables = self._at_version(version).to_tables()
        return first_difference(plan, tables)


def _rates(state: Mapping[str, Any], key: str) -> list[Any]:
    """Return the learning rates in an entry of a state."""
    rates = state[key]
    if not isinstance(rates, list | tuple) or not all(map(_is_rate, rates)):
        raise InputError(
            f"`{key}` of the state is {describe_value(rates)}, but must be a list of finite "
            "numbers of at least 0"
        )
    return list(rates)


def _is_rate(rate: Any) -> bool:
    if rate is None:  # the optimizer chooses one
        return True
    try:
        return not isinstance(rate, bool | str | bytes) and 0 <= float(rate) < math.inf
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return False


def _steps_of_epoch(steps_per_epoch: Any) -> int:
    if (number := as_whole(steps_per_epoch)) is None or number < 1:
        raise InputError(
            f"steps_per_epoch is {steps_per_epoch!r}, but must be a whole number of at least 1: "
            "the optimizer steps in an epoch, such as "
            "math.ceil(len(loader) / accumulation_steps)"
        )
    return number


def _learning_rates(plan: Plan, optimizer: Optimizer) -> list[str]:
    """Return the hyperparameters that set the learning rates of the parameter groups."""
    found = [setting_name("lr", plan.names, group) for group in optimizer.param_groups]
    names = [name for name in found if name is not None]
    if not names:
        raise InputError(
            "the plan has no learning rate: it has neither `lr` nor `GROUP.lr` for the name of a "
            f"parameter group; it sets {', '.join(plan.names) or 'nothing'}"
        )
    return names


def _open_loop_part(plan: Plan, names: Iterable[str]) -> Plan:
    """Return the part of a plan that some hyperparameters depend on; all of it is open loop."""
    owner = {name: names for names in plan.schedules for name in names}
    #: By the names of each schedule, the hyperparameter that needs it.
    needed: dict[tuple[str, ...], str] = {}
    open_ends = [(owner[name], name) for name in names]
    while open_ends:
        keys, name = open_ends.pop()
        if keys not in needed:
            needed[keys] = name
            peers = plan.schedules[keys].dependencies
            open_ends += [(owner[peer], name) for peer in peers]
    for keys, name in needed.items():
        schedule = plan.schedules[keys]
        if not schedule.is_open_loop:
            which = "it" if name in keys else f"it is coupled to `{', '.join(keys)}`, which"
            raise InputError(
                f"a torch scheduler cannot set `{name}`: {which} has the closed-loop schedule "
                f"`{schedule.family}`, which needs the validation metric or the loss terms of each "
                "epoch: use `scheduler()`, and call its `step` with them"
            )
    set_here = {name for keys in needed for name in keys}
    return Plan(
        {keys: schedule for keys, schedule in plan.schedules.items() if keys in needed},
        _restricted(plan.bounds, set_here),
        _restricted(plan.intervals, set_here),
        plan.whole & set_here,
    )


def _restricted(table: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in table.items() if name in names}
