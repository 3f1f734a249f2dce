"""The run of a training loop, as the user's function sees it."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any, Literal

from schedsearch.engines.base import EpochResult, Resumed
from schedsearch.engines.loop_context import LoopContext
from schedsearch.engines.loop_state import LoopState
from schedsearch.engines.loop_thread import Handover
from schedsearch.engines.reported_numbers import finite_or_nan, floats_of, numbers_of
from schedsearch.engines.rng_state import RngState
from schedsearch.engines.step_check import StepCheck
from schedsearch.epoch_values import EpochValues
from schedsearch.errors import SchedSearchError, TrainingRefusedError
from schedsearch.metric_names import metric_on_test
from schedsearch.recorded_values import RecordedValues


class LoopRun:
    """A run as the user's training loop sees it.

    Attributes:
        seed: for all random numbers of the loop.
        horizon: the number of epochs of a full training.
        arguments: those of the function, by name: the trial's, the file's, or the defaults.
        reduction: how the last report combines the numbers of several processes; see `report`.
    """

    def __init__(
        self,
        seed: int,
        horizon: int,
        state: LoopState,
        handover: Handover,
        defaults: Mapping[str, float],
        context: LoopContext,
        arguments: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.seed = seed
        self.horizon = horizon
        self.arguments = arguments
        self.reduction: str | None = None
        self._state, self._handover, self._defaults = state, handover, defaults
        self._context = context
        self._directory: Path | None = None
        self._temporary: TemporaryDirectory[str] | None = None
        self._has_begun = False
        self._epoch_values: Mapping[str, float] = {}
        # The names of the values that the loop has read.
        self._read: set[str] = set()
        self._in_epoch = False
        self._over = False
        self._has_trained = False
        # Whether the engine waits for the result of the present epoch.
        self._is_awaited = False
        # Of the present epoch; None if the loop continues it from a state within it.
        self._steps: StepCheck | None = None
        self._is_continued = False
        self._reported: EpochResult | None = None

    @property
    def processes(self) -> int:
        """How many processes train the trial together."""
        return self._context.processes

    @property
    def restored(self) -> Any:
        """The state that `checkpoint` got in the epoch to resume after; None in a new run.

        Only loops that read it are ever resumed.
        """
        self._state.has_read_restored = True
        return self._state.restored

    def __iter__(self) -> Generator[tuple[int, dict[str, float]]]:
        """Yield each epoch and its scheduled values, until the run is over.

        The first epoch is 0, or the one after that of `restored`. A second loop over the run
        continues where the first one was left by `break`; an epoch that was left before its report
        begins again. If the function returns instead, the run ends as stopped.

        Raises:
            SchedSearchError: the loop did not call `report` in an epoch, or is to resume from a
                checkpoint that it has not read.
        """
        state = self._state
        if self._reported is not None:
            self._finish_epoch()
        while self._is_awaited or self._wait_for_values():
            state.check_restored()
            if state.rng_state is not None:
                # Whatever the loop drew during its setup, it continues as if never interrupted.
                RngState.set_global(state.rng_state)
                state.rng_state = None
            if not self._is_awaited:
                self._steps = None if self._is_continued else StepCheck(state.epoch)
            self._is_continued = False
            self._in_epoch = self._is_awaited = self._has_trained = True
            try:
                yield state.epoch, self.values
            finally:
                self._in_epoch = False
            self._finish_epoch()

    def _finish_epoch(self) -> None:
        """Pass the result of the epoch to the engine."""
        self._handover.finish(self._take_result())

    def _take_result(self) -> EpochResult:
        result = self._reported
        if result is None and not self._context.must_report:
            result = EpochResult({}, {})
        if result is None:
            epoch = self._state.epoch
            raise SchedSearchError(f"epoch = {epoch} ended without a call of run.report()")
        self._reported, self._is_awaited = None, False
        self._state.epoch += 1
        self._state.results.append(result)
        return result

    def take_last_result(self) -> EpochResult | Resumed:
        """Return the result of the epoch in which the loop ended by itself, marked as stopped.

        If the loop has loaded a state, and ended before another epoch, return first where it
        continued.

        Raises:
            SchedSearchError: the loop has reported no epoch.
        """
        if self._state.resumed_at is not None:
            resumed, self._state.resumed_at = self._state.resumed_at, None
            return resumed
        if self._reported is not None:
            return replace(self._take_result(), stopped=True)
        if self._state.epoch > 0 or not self._context.must_report:
            return EpochResult({}, {}, stopped=True)
        raise SchedSearchError(
            "the training loop ended before its first call of run.report(): it may stop before "
            f"the horizon ({self.horizon} epochs), but must report at least one epoch"
        )

    def _wait_for_values(self) -> bool:
        """Wait for the values of the next epoch; return False if the run is over."""
        if not self._over:
            values = self._handover.wait_for_values()
            self._has_begun = True
            if values is not None and self._state.resumed_at is not None:
                # These are the values of another epoch.
                self._handover.finish(self._state.resumed_at)
                self._state.resumed_at = None
                values = self._handover.wait_for_values()
            self._over = values is None
            self._epoch_values = values or {}
        return not self._over

    @property
    def ended_early(self) -> bool:
        """Whether the trial was pruned or handed back: then the results of `test` are not used.

        It is known after the loop, and False for a loop that stopped by itself.
        """
        return self._over and self._has_trained and self._state.epoch < self.horizon

    @property
    def values(self) -> dict[str, float]:
        """The scheduled values at the beginning of the epoch, by hyperparameter."""
        return RecordedValues({**self._defaults, **self._epoch_values}, self._read)

    @property
    def scheduled(self) -> tuple[str, ...]:
        """The hyperparameters whose values in the epoch come from the plan, not from defaults."""
        return tuple(self._epoch_values)

    @property
    def unread(self) -> tuple[str, ...]:
        """The hyperparameters whose values come from the plan, but which the loop has not read."""
        return tuple(name for name in self.scheduled if name not in self._read)

    @property
    def moving(self) -> tuple[str, ...]:
        """The hyperparameters whose values may change within the epoch."""
        values = self._epoch_values
        return values.moving if isinstance(values, EpochValues) else ()

    def at(self, step: int, of: int | None = None) -> dict[str, float]:
        """Return the values in force at an optimizer step of the epoch.

        Hyperparameters at the interval "step" have the value of the time epoch + step / of; the
        others keep that of the beginning of the epoch.

        Args:
            step: counted from 0 in the epoch.
            of: the number of optimizer steps of the epoch; required.

        Raises:
            SchedSearchError: called outside an epoch or without `of`, or the step is not from 0 to
                `of` - 1.
        """
        if not self._in_epoch:
            raise SchedSearchError("run.at() was called outside `for epoch, hp in run`")
        if of is None:
            raise TrainingRefusedError(
                f"run.at({step}) lacks the number of optimizer steps of the epoch: pass it as "
                f"run.at({step}, of=steps), for example of=len(loader)"
            )
        if not 0 <= step < of:
            raise TrainingRefusedError(
                f"run.at({step}, of={of}): the step must be from 0 to {of - 1}, counted from the "
                "beginning of the epoch"
            )
        if self._steps is not None:
            self._steps.add(step, of)
        if not isinstance(self._epoch_values, EpochValues):
            return self.values
        values = self._epoch_values.at(step / of)
        return RecordedValues({**self._defaults, **values}, self._read)

    def report(
        self,
        *,
        terms: Mapping[str, Any] | None = None,
        reduce: Literal["mean"] | None = None,
        **metrics: Any,
    ) -> None:
        """Report the validation metrics and the mean loss terms of an epoch, once per epoch.

        Args:
            terms: the mean of each loss term.
            reduce: where several processes train a trial: None takes the numbers of rank 0, and
                the others need not report; "mean" takes the mean over all ranks.
            **metrics: of the validation.

        Raises:
            SchedSearchError: called outside an epoch, twice in one, without a metric, with a value
                that is not a number, or with another `reduce`; or values change within the epoch,
                but `at` was not called for its steps.
        """
        if not self._in_epoch:
            raise SchedSearchError("run.report() was called outside `for epoch, hp in run`")
        if self._reported is not None:
            raise SchedSearchError(f"run.report() was called twice at epoch = {self._state.epoch}")
        if not metrics:
            raise SchedSearchError("run.report() needs a validation metric: run.report(val_loss=…)")
        if reduce not in (None, "mean"):
            raise SchedSearchError(f'run.report() got reduce={reduce!r}, but it must be "mean"')
        if self._steps is not None and self.moving:
            self._steps.check_end(self.moving)
        self.reduction = reduce
        self._reported = EpochResult(finite_or_nan(metrics), numbers_of(terms or {}))
        if reduce is not None:
            self._context.on_report(self._reported)

    def checkpoint(self, state: Any) -> None:
        """Offer the state that the loop needs to resume after this epoch; copied only if needed."""
        self._state.checkpoint = (self._state.epoch, state)
        self._state.is_model = False

    def offer_model(self, state: Mapping[str, Any]) -> None:
        """Offer the model of the epoch, from a callback; a checkpoint of the loop replaces it."""
        checkpoint = self._state.checkpoint
        if checkpoint is None or checkpoint[0] < self._state.epoch or self._state.is_model:
            self._state.checkpoint = (self._state.epoch, {"model": state})
            self._state.is_model = True

    @property
    def offered_model(self) -> Mapping[str, Any] | None:
        """The model that a callback offered in the best epoch; None unless it is to be tested.

        In a run that has one, there is no epoch to train.
        """
        if self._state.offered is not None:
            self._state.has_read_restored = True
        return self._state.offered

    # --- the loop's own checkpoints --------------------------------------------------------------

    @property
    def directory(self) -> Path:
        """A folder for files of this run, such as checkpoints; it is created on the first access.

        It is kept while the trial may continue, also by another worker, and removed when the trial
        ends. Each worker of the trial has another folder, with the files of the one before. Where
        no later worker could find it, for instance in `train`, it is temporary.
        """
        if self._directory is None:
            self._directory = self._context.directory()
        if self._directory is None:
            self._temporary = TemporaryDirectory(prefix="schedsearch-", ignore_cleanup_errors=True)
            self._directory = Path(self._temporary.name)
        return self._directory

    @property
    def used_directory(self) -> Path | None:
        """The folder for files of this run; None if it was not used yet."""
        return self._directory

    def remove_temporary_directory(self) -> None:
        """Remove the folder of the run, if it is temporary."""
        if self._temporary is not None:
            self._temporary.cleanup()
            self._directory = self._temporary = None

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the run as plain data that JSON can hold, for your own checkpoint.

        It has the number of epochs, counting the present one once it is reported, their results,
        and the state of the global random generators. After a report with `reduce="mean"`, rank 0
        waits for the reports of the other ranks, and its state has the mean.
        """
        results = list(self._state.results)
        if self._reported is not None:
            combines = self.reduction is not None
            results.append(self._context.combined(self._reported) if combines else self._reported)
        return {
            "run": self._context.identity,
            "epoch": self._state.epoch + (self._reported is not None),
            "results": [[dict(result.metrics), dict(result.terms)] for result in results],
            "generators": RngState.global_to_json(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue after the epochs of a state that `state_dict` returned for the same run.

        Load the model and the optimizer of the same moment yourself. The global random generators
        continue as well.

        Raises:
            SchedSearchError: the state belongs to another plan, seed or horizon, or the first epoch
                has begun.
        """
        if self._has_begun:
            raise SchedSearchError("call run.load_state_dict() before the first epoch")
        try:
            identity, epoch = state["run"], state["epoch"]
            results = [EpochResult(floats_of(m), floats_of(t)) for m, t in state["results"]]
            generators = RngState.from_json(state["generators"])
            is_valid = type(epoch) is int and len(results) <= epoch <= self.horizon
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            is_valid = False
        if not is_valid:
            raise SchedSearchError(
                "run.load_state_dict() needs a state that run.state_dict() returned"
            )
        if identity != self._context.identity:
            raise SchedSearchError(
                "the state belongs to a run with another plan, seed or horizon: save it in "
                "run.directory, which is a separate folder for each run"
            )
        if epoch != self._state.epoch:
            self._state.resumed_at = Resumed(epoch, results)
        self._state.epoch, self._state.results = epoch, results
        self._state.rng_state, self._state.checkpoint = generators, None
        self._state.is_resumed, self._is_continued = False, True

    def test(self, **metrics: Any) -> None:
        """Report the metrics of the trained model on the test split, after the last epoch.

        `confirm` compares the metric of the objective. The prefixes val, valid, validation, eval
        and test of names, with _ or /, do not count: for the objective `val_loss`, `loss` and
        `test_loss` are the same as `val_loss`.

        Raises:
            SchedSearchError: two names are the same but for these prefixes, or a value is not a
                number.
        """
        found: dict[str, float] = {}
        for name, value in finite_or_nan(metrics).items():
            if metric_on_test(name) in found:
                raise SchedSearchError(
                    f"run.test() got {', '.join(metrics)}, but two of these names mean "
                    f"{metric_on_test(name)}: the prefixes val, valid, validation, eval and test "
                    "do not count"
                )
            found[metric_on_test(name)] = value
        self._state.test_metrics = found
