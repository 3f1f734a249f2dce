"""The worker's loop: ask, train, report, prune, tell, until no trial is left to begin."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

from optuna.exceptions import UpdateFinishedTrialError

from schedsearch.engines import Engine, EpochResult
from schedsearch.engines.loop import tested_metrics
from schedsearch.errors import (
    CheckpointRefusedError,
    InputError,
    SchedSearchError,
    TrainingRefusedError,
)
from schedsearch.exception_lines import describe_error
from schedsearch.run import Run
from schedsearch.storage import Batch, StudyHandle
from schedsearch.training import train_epoch
from schedsearch.trajectories.cached_runs import CachedRuns, TrialRow
from schedsearch.worker.best_trial import BestTrialCallback, BestTrialNotifier
from schedsearch.worker.failures import Failures, hanging_line
from schedsearch.worker.heartbeat import heartbeats
from schedsearch.worker.lane_allocator import EngineMaker, LaneAllocator
from schedsearch.worker.loop_warnings import LoopWarnings
from schedsearch.worker.options import Heartbeat, Messages, ProcessControl
from schedsearch.worker.outcomes import Outcomes
from schedsearch.worker.session import StudySession, is_interrupted
from schedsearch.worker.trial import LiveTrial, plan_for, seeds_of
from schedsearch.worker.watchdog import Watchdog

#: With epochs of so many seconds, a new trial is committed before it trains its first epoch.
_LONG_EPOCH = 1.0
#: Seconds until the next check of epochs that other workers train just now.
_POLL_EPOCHS = 0.1
#: Seconds until the next check of trials that other workers may leave behind.
_POLL_TRIALS = 1.0


class Worker:
    """Claims trials of a study and trains them, until none is left or it is stopped.

    While other workers train the last trials it waits: a trial whose worker dies is queued again.

    Args:
        study: the study.
        engines: train the trials; their lanes together hold at least the seeds of one trial.
        name: unique among all workers that the study ever had.
        cached_runs: creates the runs, with the epochs that other runs have trained already.
        control: when to stop, and how to leave an epoch that hangs.
        messages: lines for the user.
        numerics: those of this worker that differ from the study's; its trials record them.
        heartbeat: how often this worker says that it is alive.
        best_trial_callback: called for each new best trial.
        make_engine: returns an engine for the plans with some arguments; None: no plan has any.
        pools: how many combinations of arguments may have all their lanes in use at once.
    """

    def __init__(
        self,
        study: StudyHandle,
        engines: Sequence[Engine],
        *,
        name: str,
        cached_runs: CachedRuns,
        control: ProcessControl,
        messages: Messages,
        numerics: Mapping[str, Any] = MappingProxyType({}),
        heartbeat: Heartbeat | None = None,
        best_trial_callback: BestTrialCallback | None = None,
        make_engine: EngineMaker | None = None,
        pools: int = 1,
    ) -> None:
        self._study, self._space, self._cached_runs = study, study.space, cached_runs
        self._control, self._messages = control, messages
        self._heartbeat = heartbeat or Heartbeat()
        self._session = session = StudySession(study, name)
        self._lanes = LaneAllocator(engines, study.space.search.seeds, make_engine, pools)
        self._failures = Failures(study.space.task, session.own_trials())
        self._notifier = BestTrialNotifier(
            study, session.storage, best_trial_callback, messages.warn
        )
        self._outcomes = Outcomes(
            study, session.storage, self._failures, self._notifier, messages, numerics
        )
        self._timeout = study.epoch_timeout()
        self._watchdog = Watchdog(self._timeout, self._on_timeout)
        self._claimed: list[int] = []
        self._live: list[LiveTrial] = []
        self._training: Sequence[LiveTrial] = ()
        self._epoch_seconds = math.inf
        self._stopped = False
        self._warnings = LoopWarnings(study.space, messages)
        self._given_up = self._failures.too_many

    def run(self) -> None:
        """Train trials; however this ends, the live trials return to the queue.

        Raises:
            SchedSearchError: the user's code failed several times in a row, the task does not fit
                the space, or the study was deleted.
            DatabaseFileLostError: the file of the database was deleted or replaced.
            DatabaseUnavailableError: a stop signal came while the database was unreachable, so no
                trial could be handed back.
        """
        if self._given_up is not None:
            raise self._given_up
        self._study.database.retrier.stop_waiting_when(self._control.should_stop)
        beating = heartbeats(
            self._study.queue, self._trial_ids, self._cached_runs.renew_leases, self._heartbeat
        )
        with self._study.unless_deleted(), beating:
            try:
                self._session.register()
                self._work()
            finally:
                self._hand_back()

    def _work(self) -> None:
        self._stopped = self._control.should_stop()
        while not self._stopped:
            if self._live or self._claimed or self._claim():
                self._round()
            elif not self._wait():
                return
        for live in self._live:
            for run in live.runs:
                run.save_checkpoint()
        # Before the trials are queued again: their next runs do not wait for these.
        self._cached_runs.flush()

    def _trial_ids(self) -> list[int]:
        return [*self._claimed, *(live.trial_id for live in list(self._live))]

    def _hand_back(self) -> None:
        at_once = is_interrupted()
        try:
            self._session.hand_back()
        finally:
            if not at_once:
                # Last, since a training loop ends its epoch first, or never.
                for live in list(self._live):
                    self._drop(live)
        self._cached_runs.flush()

    # --- rounds ----------------------------------------------------------------------------------

    def _round(self) -> None:
        """Train every lane for one epoch, and write in one transaction what that changes.

        What other workers wrote is read only if a sampler or a pruner compares trials. Trials that
        the last round claimed begin in this one. They are committed with its results,
        or before it if an epoch takes so long that other workers would miss them.
        """
        self._session.expire()
        if self._claimed and (self._timeout or self._epoch_seconds > _LONG_EPOCH):
            with self._batch():
                self._begin_claimed()
        with self._batch() as batch:
            self._begin_claimed()
            self._follow()
            trained = self._train_epoch(self._allocate_lanes())
            self._cached_runs.request_leases(run for live in trained for run in live.runs)
            self._cached_runs.add_to_batch(batch)
            self._stopped = self._control.should_stop() or self._given_up is not None
            batch.claim(0 if self._stopped else self._room)
        self._notifier.refresh()
        # Raised only now, when each failed trial has its traceback in the database.
        if self._given_up is not None:
            raise self._given_up
        if not (trained or self._claimed):
            # Other workers train all epochs that are left to train here.
            time.sleep(_POLL_EPOCHS)

    @contextmanager
    def _batch(self) -> Iterator[Batch]:
        """Write in one transaction, and drop the trials that other workers took over."""
        with self._session.batch() as batch:
            yield batch
        self._claimed = batch.claimed
        for live in list(self._live):
            if live.trial_id in batch.lost:
                self._drop_lost(live)
        self._outcomes.announce(batch.lost)

    @property
    def _room(self) -> int:
        """How many more trials fit into the idle lanes, beside those that wait for a lane."""
        waiting = sum(any(run.lane is None for run in live.runs) for live in self._live)
        return max(0, self._lanes.room - waiting)

    def _claim(self) -> bool:
        """Claim trials; if there are none, queue stale ones again and claim those."""
        with self._batch() as batch:
            batch.claim(self._room)
        if not self._claimed and self._study.queue.requeue_lost(self._heartbeat.grace):
            with self._batch() as batch:
                batch.claim(self._room)
        return bool(self._claimed)

    def _wait(self) -> bool:
        """Wait a little if other workers train, since they may die; return whether they do."""
        if not self._session.running_trials():
            return False
        grace = self._heartbeat.grace.total_seconds()
        if message := self._session.waiting_message(grace + self._heartbeat.interval):
            self._messages.info(message)
        time.sleep(_POLL_TRIALS)
        self._stopped = self._control.should_stop()
        return True

    # --- beginning -------------------------------------------------------------------------------

    def _begin_claimed(self) -> None:
        while self._claimed and self._given_up is None:
            live = LiveTrial(self._session.trial(self._claimed.pop(0)), [])
            self._live.append(live)
            with self._unless_lost(live):
                self._begin(live)

    def _begin(self, live: LiveTrial) -> None:
        try:
            plan = plan_for(live.trial, self._space)
        except InputError as error:
            self._outcomes.refuse(live, error)
            self._drop(live)
            return
        try:
            engine = self._lanes.engine(plan.arguments)
        except TrainingRefusedError:
            raise  # the trial returns to the queue
        except Exception as error:
            self._fail(live, error)  # the task's class raises with these arguments
            return
        keep_best = self._study.follows is not None
        first = self._session.first_row(live.trial)
        row = TrialRow(live.trial_id, live.trial.number, first)
        live.runs.extend(
            self._cached_runs.begin(engine, plan, seed, keep_best=keep_best, row=row)
            for seed in seeds_of(live.trial, self._space)
        )

    # --- training --------------------------------------------------------------------------------

    def _follow(self) -> None:
        """Advance trials by all epochs that other runs have trained, with reports and pruning."""
        for live in list(self._live):
            with self._unless_lost(live):
                while live in self._live and self._replay_epoch(live):
                    self._report(live)

    def _replay_epoch(self, live: LiveTrial) -> bool:
        """Advance each due run by an epoch that is known; return whether all could."""
        # All of them, also after one that must be trained: a run may be behind its lane.
        advanced = [self._cached_runs.replay_epoch(run) for run in live.due]
        return all(advanced)

    def _allocate_lanes(self) -> list[LiveTrial]:
        """Return the trials to continue with, in lanes that are at the trials' epochs."""
        waiting = {live: [run for run in live.due if not run.ended] for live in self._live}
        granted = self._cached_runs.lease(run for runs in waiting.values() for run in runs)
        found = []
        for live, runs in waiting.items():
            try:
                if granted.issuperset(runs) and self._lanes.allocate(live):
                    found.append(live)
                else:
                    self._lanes.release(live)
            except SchedSearchError:
                raise
            except Exception as error:
                with self._unless_lost(live):
                    self._fail(live, error)
        return found

    def _train_epoch(self, trials: Sequence[LiveTrial]) -> Sequence[LiveTrial]:
        """Train an epoch of each trial, then report, prune and tell; return the trials."""
        began = time.monotonic()
        runs = {live: live.to_train for live in trials}
        self._training = trials
        with self._watchdog.watching():
            results = train_epoch(run for of_trial in runs.values() for run in of_trial)
        self._epoch_seconds = time.monotonic() - began
        if self._epoch_seconds > _LONG_EPOCH:
            self._session.expire()  # others have reported meanwhile
        for live, of_trial in runs.items():
            errors = {run: e for run in of_trial if isinstance(e := results[run], Exception)}
            with self._unless_lost(live):
                if errors:
                    self._handle(live, errors)
                    continue
                before = live.epochs
                for run in of_trial:
                    result = results[run]
                    assert not isinstance(result, Exception)
                    run.record_epoch(result)
                self._warnings.after_epoch(live)
                if live.epochs > before or live.has_ended:
                    self._report(live)
                if live in self._live and not live.to_train:
                    self._test(live)
        if all(isinstance(result, EpochResult) and result.metrics for result in results.values()):
            self._cached_runs.record_epoch_time(self._epoch_seconds, len(results))
        return trials

    def _handle(self, live: LiveTrial, errors: Mapping[Run, Exception]) -> None:
        """Give up the search, begin a trial again, or fail the trial."""
        error = next(iter(errors.values()))
        is_refused = isinstance(error, TrainingRefusedError)
        # A checkpoint that is refused is wrong for its trial alone.
        may_begin_again = not is_refused or isinstance(error, CheckpointRefusedError)
        if may_begin_again and self._begin_again(live, errors):
            return
        if isinstance(error, TrainingRefusedError):
            # The trial returns to the queue with its files: nothing is wrong with it.
            self._given_up = error
        elif self._session.is_running(live.trial_id):
            self._fail(live, error)
        else:
            self._drop_lost(live)  # its files have gone to another worker

    def _begin_again(self, live: LiveTrial, errors: Mapping[Run, Exception]) -> bool:
        """Let runs begin again that could not continue from the files of an earlier worker.

        A worker that is killed may leave a partial checkpoint. Return whether each error may come
        from one.
        """
        directories = [
            run.directory
            for run in errors
            if run.directory is not None and run.directory.had_files and not run.epochs_trained
        ]
        if len(directories) < len(errors):
            return False
        self._lanes.release(live)
        removed = [directory.remove() for directory in directories]
        if not all(removed):
            return False  # the next attempt would find the same files
        shown = describe_error(next(iter(errors.values())))
        self._messages.warn(
            f"trial {live.trial.number} begins again without the files in run.directory, which an "
            f"earlier worker left: with them it raised {shown}"
        )
        return True

    def _report(self, live: LiveTrial) -> None:
        if self._outcomes.report(live, self._session.optuna):
            self._end(live)

    def _test(self, live: LiveTrial) -> None:
        """Measure the model of a trial at its end on the test split, and complete the trial."""
        self._training = (live,)
        try:
            with self._watchdog.watching():
                [run] = live.runs
                test = run.test()
        except SchedSearchError:
            raise
        except Exception as error:
            self._fail(live, error)
            return
        self._outcomes.complete(live, test)
        self._drop(live)

    def _end(self, live: LiveTrial) -> None:
        if live.has_ended:
            rank = self._space.objective.to_minimize(live.value)
            self._cached_runs.save_if_among_best(live.runs, rank)
        first, was_trained = live.runs[0], live.runs[0].lane is not None
        self._drop(live)
        if live.has_ended and was_trained:
            self._session.record_tested(tested_metrics(first.engine))
            self._warnings.after_end(live)

    def _fail(self, live: LiveTrial, error: Exception) -> None:
        self._outcomes.fail(live, error)
        self._drop(live)
        self._given_up = self._given_up or self._failures.too_many

    @contextmanager
    def _unless_lost(self, live: LiveTrial) -> Iterator[None]:
        """Drop the trial if it was queued again because this worker seemed dead."""
        try:
            yield
        except UpdateFinishedTrialError:
            self._drop_lost(live)

    def _drop_lost(self, live: LiveTrial) -> None:
        number = live.trial.number
        self._messages.warn(f"trial {number} was taken over by another worker: dropped")
        self._drop(live)

    def _on_timeout(self) -> None:
        """Fail the trials whose epoch takes too long, hand back the others, and restart."""
        try:
            place, stack = hanging_line()
            for live in self._training:
                reason = f"it took longer than {self._timeout:g} s{place}"
                self._outcomes.add_failure(live, reason)
            self._session.fail([live.trial_id for live in self._training], stack)
        finally:
            self._control.restart()

    def _drop(self, live: LiveTrial) -> None:
        if live in self._live:
            self._live.remove(live)
        self._lanes.release(live)
        for run in live.runs:
            self._cached_runs.end(run)
