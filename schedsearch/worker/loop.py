"""The one loop: ask -> train -> report -> prune -> tell, until nothing is left to begin."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, Trial, TrialState

from schedsearch.engines import Engine, EpochResult
from schedsearch.errors import InputError, SchedSearchError
from schedsearch.pruners import make_pruner
from schedsearch.samplers import make_sampler
from schedsearch.storage import GRACE, Batch, BatchedStorage, StudyHandle
from schedsearch.training import search_seeds, train_epoch
from schedsearch.worker.best_trial import BestTrialCallback, BestTrialNotifier
from schedsearch.worker.failures import Failures, where_it_hangs
from schedsearch.worker.heartbeat import HEARTBEAT, heartbeats
from schedsearch.worker.lane_allocator import LaneAllocator
from schedsearch.worker.outcomes import Outcomes
from schedsearch.worker.reuse import Reuse
from schedsearch.worker.trial import LiveTrial, plan_for
from schedsearch.worker.watchdog import Watchdog

#: Seconds of an epoch from which on a trial that begins is not kept back until its end.
_LONG_EPOCH = 1.0
#: Seconds until the next look at what other workers train just now.
_LOOK = 0.1
#: Seconds until the next look whether other workers have left something to do.
_WAIT = 1.0


def end_process() -> None:
    """End this process at once, as a failure."""
    os._exit(1)


class Worker:
    """Takes trials of a study and trains them until nothing is left to begin, or told to stop.

    While others train the last trials it waits, since it may have to take over for them.

    Args:
        study: whose trials.
        engines: train them; all their lanes together hold at least the seeds of one trial.
        name: unique among the study's workers, and among those to come.
        reuse: what is known of runs like theirs.
        onlooker: is shown each new best trial.
        should_stop: asked after each round; the live trials are then handed back to the queue.
        say: tells the person one line about what went wrong.
        report: tells the person one line about what went well.
        begin_anew: called when an epoch took longer than the study allows, in another thread; it
            ends the process, and may begin the same worker in a new one.
        heartbeat: seconds between two signs of life.
        grace: a worker that is silent for longer is taken for dead.
    """

    def __init__(
        self,
        study: StudyHandle,
        engines: Sequence[Engine],
        *,
        name: str,
        reuse: Reuse,
        should_stop: Callable[[], bool],
        say: Callable[[str], None],
        report: Callable[[str], None],
        restart_process: Callable[[], None] = end_process,
        heartbeat: float = HEARTBEAT,
        grace: timedelta = GRACE,
        best_trial_callback: BestTrialCallback | None = None,
    ) -> None:
        self._study, self._space, self._name, self._reuse = study, study.space, name, reuse
        self._should_stop, self._say, self._report_end = should_stop, say, report
        self._restart_process, self._heartbeat, self._grace = restart_process, heartbeat, grace
        self._storage = BatchedStorage(study.database)
        self._optuna = self._load()
        self._any_engine, self._allocator = (
            engines[0],
            LaneAllocator(engines, study.space.search.seeds),
        )
        self._failures = Failures(study.space.task, self._own_trials())
        self._notifier = BestTrialNotifier(study, self._storage, best_trial_callback, say)
        self._outcomes = Outcomes(
            study.space, self._storage, self._failures, self._notifier, say, report
        )
        self._timeout = study.epoch_timeout()
        self._watchdog = Watchdog(self._timeout, self._end_hanging)
        self._claimed: list[int] = []
        self._live: list[LiveTrial] = []
        self._training: Sequence[LiveTrial] = ()
        self._epoch_seconds = math.inf
        self._stopped = self._waits = False
        self._given_up = self._failures.too_many

    def run(self) -> None:
        """Work; live trials are handed back to the queue however this ends.

        Raises:
            SchedSearchError: the user's code failed several times in a row, the task does not fit
                the space, or the study was deleted.
            DatabaseUnavailableError: a stop signal came while the database was unreachable, so no
                trial could be handed back.
        """
        if self._given_up is not None:
            raise self._given_up
        self._study.database.retrier.stop_waiting_when(self._should_stop)
        beating = heartbeats(
            self._study.queue,
            self._trial_ids,
            self._reuse.renew_leases,
            self._heartbeat,
            self._grace,
        )
        with self._study.unless_deleted(), beating:
            try:
                self._work()
            finally:
                self._hand_back()

    def _work(self) -> None:
        self._stopped = self._should_stop()
        while not self._stopped:
            if self._live or self._claimed or self._claim():
                self._round()
            elif not self._wait():
                return
        for live in self._live:
            for run in live.runs:
                run.save_checkpoint()

    def _load(self) -> optuna.Study:
        """Return the study with a sampler and a pruner that remember nothing yet.

        A sampler that is made anew, here or in a new process, does not repeat what was drawn.
        """
        begun = len(self._own_trials())
        return self._study.load_for_search(
            make_sampler(self._space, f"{self._name} {begun}" if begun else self._name),
            make_pruner(self._space.search.pruner, self._space.horizon),
            self._storage,
        )

    def _own_trials(self) -> list[FrozenTrial]:
        every = self._storage.get_all_trials(self._study.study_id, deepcopy=False)
        return [trial for trial in every if trial.user_attrs.get("worker") == self._name]

    def _trial_ids(self) -> list[int]:
        return [*self._claimed, *(live.trial_id for live in list(self._live))]

    def _hand_back(self) -> None:
        at_once = isinstance(sys.exception(), KeyboardInterrupt)
        try:
            self._study.queue.hand_back_all_of(self._name)
        except KeyboardInterrupt:
            # Whoever wants it at once still wants nothing left running.
            self._study.queue.hand_back_all_of(self._name)
            raise
        if not at_once:
            # Last, since a loop of the user's own ends its epoch first, or never.
            for live in list(self._live):
                self._drop(live)
        self._reuse.flush()

    # --- rounds ----------------------------------------------------------------------------------

    def _round(self) -> None:
        """Train every lane for one epoch: one transaction reads before, and one writes after.

        Trials that the last round claimed begin in this one; they are written with its results, or
        at once if an epoch takes so long that others would miss them.
        """
        self._storage.refresh(self._study.study_id)
        if self._claimed and (self._timeout or self._epoch_seconds > _LONG_EPOCH):
            with self._writing():
                self._begin_claimed()
        with self._writing() as written:
            self._begin_claimed()
            self._follow()
            trained = self._train_epoch(self._enter_lanes())
            self._reuse.add_to_batch(written, (run for live in trained for run in live.runs))
            self._stopped = self._should_stop() or self._given_up is not None
            written.ask(0 if self._stopped else self._room)
        self._notifier.refresh()
        if self._given_up is not None:
            raise self._given_up
        if not (trained or self._claimed):
            # All that is left to train here is trained elsewhere just now.
            time.sleep(_LOOK)

    @contextmanager
    def _writing(self) -> Iterator[Batch]:
        """Write all of it in one transaction, and drop the trials that were taken over."""
        with self._storage.round(self._study.study_id, self._name) as written:
            yield written
        self._claimed = written.claimed
        if written.lost:
            # What the sampler and the pruner saw of this round is not what became of it.
            self._optuna = self._load()
        for live in list(self._live):
            if live.trial_id in written.lost:
                self._say_taken_over(live)
        self._outcomes.announce(written.lost)

    @property
    def _room(self) -> int:
        """How many trials the idle lanes have room for, beside those that wait for one."""
        waiting = sum(any(run.lane is None for run in live.runs) for live in self._live)
        return max(0, self._allocator.room - waiting)

    def _claim(self) -> bool:
        """Claim trials; before there seem to be none, take over those of workers that died."""
        with self._writing() as written:
            written.ask(self._room)
        if not self._claimed and self._study.queue.hand_back_stale(self._grace):
            with self._writing() as written:
                written.ask(self._room)
        return bool(self._claimed)

    def _wait(self) -> bool:
        """Wait a little if others train, since they may be lost; tell whether they do."""
        running = self._storage.get_all_trials(
            self._study.study_id, deepcopy=False, states=(TrialState.RUNNING,)
        )
        if not running:
            return False
        if not self._waits:
            self._waits = True
            self._report_end(f"waiting for {len(running)} trial(s) of other workers")
        time.sleep(_WAIT)
        self._stopped = self._should_stop()
        return True

    # --- beginning -------------------------------------------------------------------------------

    def _begin_claimed(self) -> None:
        while self._claimed and self._given_up is None:
            live = LiveTrial(Trial(self._optuna, self._claimed.pop(0)), [])
            self._live.append(live)
            with self._unless_taken_over(live):
                self._begin(live)

    def _begin(self, live: LiveTrial) -> None:
        try:
            plan = plan_for(live.trial, self._space)
        except InputError as error:
            self._outcomes.refuse(live, error)
            self._drop(live)
            return
        live.runs.extend(
            self._reuse.begin(self._any_engine, plan, seed) for seed in search_seeds(self._space)
        )

    # --- training --------------------------------------------------------------------------------

    def _follow(self) -> None:
        """Let trials go on by all epochs that are known; each is reported and pruned on."""
        for live in list(self._live):
            with self._unless_taken_over(live):
                while live in self._live and all(map(self._reuse.replay_epoch, live.next_to_train)):
                    self._report(live)

    def _enter_lanes(self) -> list[LiveTrial]:
        """Return the trials to train an epoch of, in lanes that stand where they do."""
        waiting = {live: live.next_to_train for live in self._live}
        granted = self._reuse.lease(run for runs in waiting.values() for run in runs)
        found = []
        for live, runs in waiting.items():
            try:
                if granted.issuperset(runs) and self._allocator.enter(live):
                    found.append(live)
                else:
                    self._allocator.leave(live)
            except SchedSearchError:
                raise
            except Exception as error:
                with self._unless_taken_over(live):
                    self._fail(live, error)
        return found

    def _train_epoch(self, trials: Sequence[LiveTrial]) -> Sequence[LiveTrial]:
        """Train an epoch of each trial, then report, prune and tell; return the trials."""
        began = time.monotonic()
        runs = {live: live.next_to_train for live in trials}
        self._training = trials
        with self._watchdog.watching():
            results = train_epoch(run for of_trial in runs.values() for run in of_trial)
        self._epoch_seconds = time.monotonic() - began
        for live, of_trial in runs.items():
            errors = [e for run in of_trial if isinstance(e := results[run], Exception)]
            with self._unless_taken_over(live):
                if errors:
                    self._fail(live, errors[0])
                    continue
                before = live.epochs
                for run in of_trial:
                    result = results[run]
                    assert isinstance(result, EpochResult)
                    run.record_epoch(result)
                if live.epochs > before:
                    self._report(live)
        self._reuse.record_epoch_time(self._epoch_seconds, len(results))
        return trials

    @contextmanager
    def _unless_taken_over(self, live: LiveTrial) -> Iterator[None]:
        """Drop the trial if it was queued anew while this worker was silent for too long."""
        try:
            yield
        except UpdateFinishedTrialError:
            self._say_taken_over(live)

    def _say_taken_over(self, live: LiveTrial) -> None:
        self._say(f"trial {live.trial.number} was taken over by another worker: dropped")
        self._drop(live)

    def _report(self, live: LiveTrial) -> None:
        if self._outcomes.report(live, self._optuna):
            if live.epochs >= self._space.horizon and not math.isnan(live.metric):
                rank = self._space.objective.to_minimize(live.value)
                self._reuse.save_if_among_best(live.runs, rank)
            self._drop(live)

    def _fail(self, live: LiveTrial, error: Exception) -> None:
        self._outcomes.fail(live, error)
        self._drop(live)
        # Not raised before the round is written: each trial keeps its traceback.
        self._given_up = self._failures.too_many

    def _end_hanging(self) -> None:
        """Fail the trials whose epoch takes too long, hand back the others, and begin anew."""
        try:
            place, stack = where_it_hangs()
            for live in self._training:
                self._outcomes.say_failed(live, f"it took longer than {self._timeout:g} s{place}")
            hanging = [live.trial_id for live in self._training]
            self._study.queue.fail(self._name, hanging, stack)
            self._study.queue.hand_back_all_of(self._name)
        finally:
            self._restart_process()

    def _drop(self, live: LiveTrial) -> None:
        if live in self._live:
            self._live.remove(live)
        self._allocator.leave(live)
        for run in live.runs:
            self._reuse.end(run)
