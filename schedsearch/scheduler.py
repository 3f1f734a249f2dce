"""The scheduler: it steps through a plan in a training loop, epoch by epoch."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from schedsearch.epoch_values import EpochValues, NamedValues, have_same_course
from schedsearch.errors import InputError, describe_value
from schedsearch.parameter_groups import Optimizer, apply_values
from schedsearch.plan import Plan, PlanState
from schedsearch.saved_states import (
    check_plain,
    check_state,
    check_types,
    first_difference,
    whole_number,
)
from schedsearch.schedules import Feedback
from schedsearch.schedules.cut_phases import cut_phase_lines
from schedsearch.schedules.parameters import is_finite

Direction: TypeAlias = Literal["minimize", "maximize"]
_EXPECTED = "what `state_dict` of a scheduler of `scheduler()` returned"


class Scheduler:
    """The current values of a plan in a training loop; call `step` at the end of each epoch.

    >>> from schedsearch.schedules import IncrementOnImprovement
    >>> plan = Plan({("weights.l1",): IncrementOnImprovement(initial=0.2, increment=0.01)})
    >>> scheduler = Scheduler(plan, horizon=60)
    >>> for val_loss in (0.9, 0.8, 0.85):
    ...     scheduler.step(val_loss)
    >>> scheduler.values
    {'weights.l1': 0.22}

    Args:
        plan: the schedules; their shares of the horizon are converted to epochs.
        horizon: the number of epochs of a full training.
        seed: the seed of the run, for families that draw random numbers.
        direction: "minimize" if a lower metric is better, "maximize" if a higher one is.

    Attributes:
        plan: the schedules, with all durations in epochs.
        horizon: the number of epochs of a full training.
        epoch: the number of epochs that have ended.

    A `UserWarning` says which schedules the horizon cuts. `step` warns once if values change within
    the epoch and were read only at its beginning.

    Raises:
        ParameterError: a value would overflow within the horizon.
    """

    def __init__(
        self, plan: Plan, *, horizon: int, seed: int = 0, direction: Direction = "minimize"
    ) -> None:
        self._begin(plan, horizon, seed, direction)
        for names, schedule in plan.schedules.items():
            resolved, interval = self.plan.schedules[names], plan.intervals.get(names[0], "epoch")
            for line in cut_phase_lines(", ".join(names), schedule, resolved, horizon, interval):
                warnings.warn(line, stacklevel=2)

    @classmethod
    def of_checked_plan(
        cls, plan: Plan, *, horizon: int, seed: int, direction: Direction
    ) -> Scheduler:
        """Return the scheduler of a plan whose file or space was checked for such schedules."""
        scheduler = cls.__new__(cls)
        scheduler._begin(plan, horizon, seed, direction)
        return scheduler

    def _begin(self, plan: Plan, horizon: int, seed: int, direction: Direction) -> None:
        self.plan = plan.resolve(horizon, seed)
        self._given, self._seed = plan, seed
        self.horizon = horizon
        self.direction = direction
        self.epoch = 0
        self._is_warned = False
        self._set_state(self.plan.start())

    def _set_state(self, state: PlanState) -> None:
        self._state = state
        self._epoch_values: EpochValues | None = None
        #: Whether values were read for the epoch as a whole, and for a time within it.
        self._is_read_whole = self._is_read_within = False

    @property
    def epoch_values(self) -> EpochValues:
        """The values in the next epoch, at its beginning and within it."""
        # Evaluate lazily: the values after the last epoch are never used.
        if self._epoch_values is None:
            self._epoch_values = EpochValues(self.plan, self._state)
        return self._epoch_values

    @property
    def values(self) -> dict[str, float]:
        """The values at the beginning of the next epoch, by hyperparameter."""
        self._is_read_whole = True
        return NamedValues(self.epoch_values.beginning)

    def at(self, fraction: float) -> dict[str, float]:
        """Return the values within the epoch, for hyperparameters at the interval "step".

        The others keep their values of the beginning of the epoch.

        Args:
            fraction: the part of the epoch that is over, from 0 to less than 1: step / steps.

        Raises:
            InputError: the fraction is not in this range.
        """
        if not 0 <= fraction < 1:
            raise InputError(
                f"the fraction is {fraction}, but must be at least 0 and less than 1: the part of "
                "the epoch that is over; call `step` at the end of each epoch"
            )
        self._is_read_within = True
        return NamedValues(self.epoch_values.at(fraction))

    @property
    def clamped(self) -> tuple[str, ...]:
        """The hyperparameters that bounds limit in the next epoch."""
        return self.epoch_values.clamped

    def step(
        self,
        metric: float,
        *,
        terms: Mapping[str, float] | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """End an epoch: update the schedules with the results of the epoch.

        Args:
            metric: the validation metric of the objective, a number or a tensor with one element;
                an epoch with a metric that is not finite does not count as better or worse.
            terms: the mean of each loss term over the epoch, by name.
            metrics: further validation metrics, by name.

        Raises:
            InputError: one of them is not a number; then the epoch has not ended.
        """
        value = _number("the metric", metric)
        lower_is_better = value if self.direction == "minimize" else -value
        feedback = Feedback(lower_is_better, _numbers("metrics", metrics), _numbers("terms", terms))
        is_missed = self._is_read_whole and not self._is_read_within
        if is_missed and self.plan.moving and not self._is_warned:
            self._is_warned = True
            warnings.warn(
                f"{', '.join(self.plan.moving)} may change at each optimizer step, but was read "
                "only at the beginning of the epoch: call apply(optimizer, step / steps) or "
                "at(step / steps) before each step",
                stacklevel=2,
            )
        self._set_state(self.plan.update(self._state, feedback))
        self.epoch += 1

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain data that JSON can hold, for a checkpoint."""
        return {
            "epoch": self.epoch,
            "schedules": dict(self._state),
            "plan": self.plan.digest,
            "direction": self.direction,
            "horizon": int(self.horizon),
            "seed": int(self._seed),
            "tables": self.plan.to_tables(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state that `state_dict` returned for the same plan and horizon.

        The direction must be the same too, and the seed if a family of the plan draws random
        numbers. An older state does not record them: it is refused if its entries do not fit, or
        if the rules of its time give the plan other values.

        Raises:
            InputError: the state belongs to another plan, or to the same plan at another horizon,
                direction or, with random numbers, seed; or it is not a state.
        """
        check_state(state, ("epoch", "schedules"), _EXPECTED)
        epoch, schedules = whole_number(state, "epoch"), state["schedules"]
        self._check_settings(state)
        version = self._version_of(state)
        self._check_entries(schedules, epoch)
        self._check_rules(version)
        self._check_fits(schedules)
        self.epoch = epoch
        self._set_state(dict(schedules))

    def _check_settings(self, state: Mapping[str, Any]) -> None:
        """Raise InputError if a state was saved with another setting than the plan."""
        settings = {"horizon": self.horizon, "direction": self.direction}
        if any(schedule.seeds for schedule in self.plan.schedules.values()):
            settings["seed"] = self._seed
        for key, own in settings.items():
            if difference := first_difference({key: state.get(key, own)}, {key: own}):
                raise InputError(
                    f"the state belongs to another {key}: its {difference}; create the scheduler "
                    f"with the {key} of the state, or begin without the state"
                )

    def _version_of(self, state: Mapping[str, Any]) -> int:
        """Return the version of the rules with which a state was saved.

        States without the digest of a plan were saved when there was version 1 only.
        """
        digest = state.get("plan")
        if digest is None:
            return 1
        is_text = isinstance(digest, str)  # an array is neither in a list nor outside it
        if is_text and digest in self.plan.accepted_digests:
            return self.plan.version
        for version in range(1, self.plan.version) if is_text else ():
            plan = self._given.at_version(version).resolve(self.horizon, self._seed)
            if digest in plan.accepted_digests:
                return version
        own = self.plan.to_tables()
        difference = first_difference({"tables": state.get("tables", own)}, {"tables": own})
        if difference is None:
            raise InputError(
                "the state belongs to another plan, or to the same plan at another horizon or "
                "seed: create the scheduler with the plan, the horizon and the seed of the state"
            )
        raise InputError(
            f"the state belongs to another plan: its {difference}; create the scheduler with the "
            "plan of the state, or begin without the state"
        )

    def _check_entries(self, schedules: Any, epoch: int) -> None:
        """Raise InputError unless each schedule has a table with the entries of its state."""
        tables = [schedules, *schedules.values()] if isinstance(schedules, Mapping) else [None]
        if not all(isinstance(table, Mapping) for table in tables):
            raise InputError(
                f"`schedules` of the state is {describe_value(schedules)}, but must be a table "
                "with a table for each schedule"
            )
        try:
            check_plain(schedules, "schedules")
        except RecursionError:
            raise InputError("`schedules` of the state is nested too deeply") from None
        start = self.plan.start()
        if difference := first_difference(_entries(schedules), _entries(start)):
            raise InputError(
                f"the state belongs to another plan: its entry {difference}; create the scheduler "
                "with the plan of the state"
            )
        check_types(schedules, start, "schedules")
        for names in self.plan.schedules:
            key = ",".join(names)
            counted = schedules[key].get("epoch", epoch)
            # A group does not count epochs without finite loss terms.
            allowed = range(epoch + 1) if len(names) > 1 else (epoch,)
            if counted not in allowed:
                raise InputError(
                    f"`schedules.{key}.epoch` of the state is {describe_value(counted)}, but must "
                    f"be {epoch}, the epoch of the state"
                )

    def _check_rules(self, version: int) -> None:
        """Raise InputError if older rules for durations give the plan another course."""
        if version >= self.plan.version:
            return
        older = self._given.at_version(version).resolve(self.horizon, self._seed)
        if not have_same_course(self.plan, older, self.horizon):
            raise InputError(
                f"the state was saved by version {version} of the rules for schedules, with which "
                f"this plan has other values than with version {self.plan.version}: to continue "
                f"as before, give its schedules version={version}, or its file "
                f"schedule_version = {version}"
            )

    def _check_fits(self, schedules: PlanState) -> None:
        """Raise InputError unless the schedules can continue from a state."""
        try:
            later = self.plan.values(self.plan.update(schedules, Feedback(0.0)))
            fits = all(map(is_finite, (*later.values(), *self.plan.values(schedules).values())))
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, ArithmeticError):
            fits = False
        if not fits:
            raise InputError(
                "the state belongs to another plan: the schedules of this plan cannot continue "
                "from it; create the scheduler with the plan of the state"
            )

    def apply(self, optimizer: Optimizer, fraction: float | None = None) -> None:
        """Set the values in the parameter groups of an optimizer.

        Without a fraction these are the values at the beginning of the epoch. For hyperparameters
        at the interval "step", call it before each step with the part of the epoch that is over.

        A value named `lr`, `weight_decay` or any other key of the groups is set in all groups with
        this key, which keep the ratios of their initial values; `momentum` is the first beta of
        Adam. A value named `GROUP.KEY` is set only in the group with the "name" GROUP. Other
        values, such as weights of loss terms, are ignored.

        Raises:
            InputError: an initial value is negative or not a number, so that it has no ratio.
        """
        apply_values(self.values if fraction is None else self.at(fraction), optimizer)


def as_float(value: Any) -> float:
    """Return a number, or the only element of a tensor or array, as a float.

    Raises:
        TypeError, ValueError or RuntimeError: the value is not a single number.
    """
    # float() warns for a tensor that is part of an autograd graph, such as a training loss.
    number = value.item() if hasattr(value, "item") else value
    if isinstance(number, (str, bytes, bytearray)):
        raise TypeError(f"{value!r} is text, but must be a number")
    return float(number)


def _number(what: str, value: Any) -> float:
    try:
        return as_float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise InputError(
            f"{what} is {describe_value(value)}, but must be a number, or a tensor with one element"
        ) from None


def _numbers(what: str, values: Mapping[str, Any] | None) -> dict[str, float]:
    if not isinstance(values, Mapping | None):
        raise InputError(f"{what} is {describe_value(values)}, but must be numbers by name")
    return {name: _number(f"{what}[{name!r}]", value) for name, value in (values or {}).items()}


def _entries(state: PlanState) -> dict[str, list[str]]:
    """Return the names of the entries in the state of each schedule."""
    return {names: sorted(entries, key=str) for names, entries in state.items()}
