"""The scheduler: it steps through a plan in a training loop, epoch by epoch."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from schedsearch.epoch_values import EpochValues, NamedValues, have_same_course
from schedsearch.errors import InputError
from schedsearch.parameter_groups import Optimizer, apply_values
from schedsearch.plan import Plan, PlanState
from schedsearch.schedules import Feedback

Direction: TypeAlias = Literal["minimize", "maximize"]


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

    Raises:
        ParameterError: a value would overflow within the horizon.
    """

    def __init__(
        self, plan: Plan, *, horizon: int, seed: int = 0, direction: Direction = "minimize"
    ) -> None:
        self.plan = plan.resolve(horizon, seed)
        self._given, self._seed = plan, seed
        self.horizon = horizon
        self.direction = direction
        self.epoch = 0
        self._set_state(self.plan.start())

    def _set_state(self, state: PlanState) -> None:
        self._state = state
        self._epoch_values: EpochValues | None = None

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
        """
        value = as_float(metric)
        lower_is_better = value if self.direction == "minimize" else -value
        feedback = Feedback(lower_is_better, _floats(metrics), _floats(terms))
        self._set_state(self.plan.update(self._state, feedback))
        self.epoch += 1

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain data that JSON can hold, for a checkpoint."""
        return {
            "epoch": self.epoch,
            "schedules": dict(self._state),
            "plan": self.plan.digest,
            "direction": self.direction,
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
        try:
            epoch, schedules = operator.index(state["epoch"]), dict(state["schedules"])
            found, expected = _entries(schedules), _entries(self.plan.start())
        except (KeyError, TypeError, AttributeError):
            raise InputError(
                "the state is not what `state_dict` returned: it has no whole number `epoch`, or "
                "no table `schedules` with a table for each schedule"
            ) from None
        if epoch < 0:
            raise InputError(f"the state has the epoch {epoch}, but must have one of at least 0")
        if found != expected:
            raise InputError(
                f"the state belongs to another plan: it has the entries {found}, but this plan "
                f"has {expected}"
            )
        self._check_rules(self._version_of(state.get("plan")))
        if (direction := state.get("direction", self.direction)) != self.direction:
            raise InputError(
                f"the state belongs to the direction {direction!r}, but this scheduler has "
                f"{self.direction!r}: create it with the direction of the state"
            )
        self._check_fits(schedules)
        self.epoch = epoch
        self._set_state(schedules)

    def _version_of(self, digest: str | None) -> int:
        """Return the version of the rules with which a state with this digest was saved.

        States without a digest were saved when there was version 1 only.
        """
        if digest in self.plan.accepted_digests:
            return self.plan.version
        if digest is None:
            return 1
        for version in range(1, self.plan.version):
            plan = self._given.at_version(version).resolve(self.horizon, self._seed)
            if digest in plan.accepted_digests:
                return version
        raise InputError(
            "the state belongs to another plan, or to the same plan at another horizon or "
            "seed: create the scheduler with the plan, the horizon and the seed of the state"
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
            self.plan.values(self.plan.update(schedules, Feedback(0.0)))
            self.plan.values(schedules)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise InputError(
                "the state belongs to another plan: the schedules of this plan cannot continue "
                "from it; create the scheduler with the plan of the state"
            ) from None

    def apply(self, optimizer: Optimizer, fraction: float = 0) -> None:
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
        apply_values(self.at(fraction), optimizer)


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


def _floats(values: Mapping[str, Any] | None) -> dict[str, float]:
    return {name: as_float(value) for name, value in (values or {}).items()}


def _entries(state: PlanState) -> dict[str, list[str]]:
    """Return the names of the entries in the state of each schedule."""
    return {names: sorted(entries.keys()) for names, entries in state.items()}
