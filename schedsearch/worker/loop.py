"""The one loop: ask -> train -> report -> prune -> tell, until nothing is left to begin."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import Trial, TrialState

from schedsearch.engines import Engine, EpochResult
from schedsearch.errors import InputError, SchedSearchError
from schedsearch.plan import Plan
from schedsearch.pruners import make_pruner, verdict
from schedsearch.samplers import is_audited, is_trained_in_full, make_sampler
from schedsearch.storage import AUDITED, CONDEMNED, UNPRUNED, Round, RoundStorage, StudyHandle
from schedsearch.task.user_code import one_line
from schedsearch.training import search_seeds, summary, train_epoch
from schedsearch.worker.heartbeat import heartbeats
from schedsearch.worker.reuse import Reuse
from schedsearch.worker.trial import LiveTrial

#: A worker stops after so many trials in a row that failed in the user's own code.
FAILURES_IN_A_ROW = 3
#: Seconds of an epoch from which on a trial that begins is not kept back until its end.
_LONG_EPOCH = 1.0
#: Seconds until the next look at what other workers train just now.
_LOOK = 0.1
_TRACEBACK_LENGTH = 8_000


class Worker:
    """Takes trials of a study and trains them until nothing is left to begin, or told to stop.

    Args:
        study: whose trials.
        engines: train them; all their lanes together hold at least the seeds of one trial.
        name: unique among the study's workers, and among those to come.
        reuse: what is known of runs like theirs.
        should_stop: asked after each round; the live trials are then handed back to the queue.
        say: tells the person one line about what went wrong.
        report: tells the person one line about what went well.
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
    ) -> None:
        space = study.space
        self._study, self._space, self._name, self._reuse = study, space, name, reuse
        self._should_stop, self._say, self._report_end = should_stop, say, report
        self._storage = RoundStorage(study.database)
        self._optuna = study.load(
            make_sampler(space, name),
            make_pruner(space.search.pruner, space.horizon),
            self._storage,
        )
        self._idle = [(engine, lane) for engine in engines for lane in range(engine.lanes)]
        if len(self._idle) < space.search.seeds:
            lanes, seeds = len(self._idle), space.search.seeds
            raise ValueError(
                f"the engines have {lanes} lanes, but must have one for each of {seeds}"
            )
        self._any_engine = engines[0]
        self._claimed: list[int] = []
        self._live: list[LiveTrial] = []
        self._ended: list[tuple[int, str]] = []
        self._epoch_seconds = math.inf
        self._stopped = False
        self._failures = 0
        self._given_up: SchedSearchError | None = None

    def run(self) -> None:
        """Work; live trials are handed back to the queue however this ends.

        Raises:
            SchedSearchError: the user's code failed several times in a row, or the task does not
                fit the space.
        """
        self._stopped = self._should_stop()
        with heartbeats(self._study.queue, self._trial_ids, self._reuse.renew):
            try:
                while not self._stopped:
                    if not (self._live or self._claimed or self._claim()):
                        return
                    self._round()
            finally:
                self._hand_back()

    def _trial_ids(self) -> list[int]:
        return [*self._claimed, *(live.trial_id for live in list(self._live))]

    def _hand_back(self) -> None:
        try:
            self._study.queue.hand_back_all_of(self._name)
        except KeyboardInterrupt:
            # Whoever wants it at once still wants nothing left running.
            self._study.queue.hand_back_all_of(self._name)
            raise
        # Last, since a loop of the user's own ends its epoch first.
        for live in list(self._live):
            self._drop(live)
        self._reuse.close()

    # --- rounds ----------------------------------------------------------------------------------

    def _round(self) -> None:
        """Train every lane for one epoch: one transaction reads before, and one writes after.

        Trials that the last round claimed begin in this one; they are written with its results, or
        at once if an epoch takes so long that others would miss them.
        """
        self._storage.refresh(self._study.study_id)
        if self._claimed and self._epoch_seconds > _LONG_EPOCH:
            with self._writing():
                self._begin_claimed()
        with self._writing() as written:
            self._begin_claimed()
            self._follow()
            trained = self._train_epoch(self._enter_lanes())
            self._reuse.write_with(written, (run for live in trained for run in live.runs))
            self._stopped = self._should_stop() or self._given_up is not None
            written.ask(0 if self._stopped else self._room)
        if self._given_up is not None:
            raise self._given_up
        if not (trained or self._claimed):
            # All that is left to train here is trained elsewhere just now.
            time.sleep(_LOOK)

    @contextmanager
    def _writing(self) -> Iterator[Round]:
        """Write all of it in one transaction, and drop the trials that were taken over."""
        with self._storage.round(self._study.study_id, self._name) as written:
            yield written
        self._claimed = written.claimed
        for live in list(self._live):
            if live.trial_id in written.lost:
                self._say_taken_over(live)
        for trial_id, line in self._ended:
            if trial_id not in written.lost:
                self._report_end(line)
        self._ended.clear()

    @property
    def _room(self) -> int:
        """How many trials the idle lanes have room for, beside those that wait for one."""
        waiting = sum(any(run.lane is None for run in live.runs) for live in self._live)
        return max(0, len(self._idle) // self._space.search.seeds - waiting)

    def _claim(self) -> bool:
        """Claim trials; before there seem to be none, take over those of workers that died."""
        with self._writing() as written:
            written.ask(self._room)
        if not self._claimed and self._study.queue.hand_back_stale():
            with self._writing() as written:
                written.ask(self._room)
        return bool(self._claimed)

    # --- beginning -------------------------------------------------------------------------------

    def _begin_claimed(self) -> None:
        while self._claimed and self._given_up is None:
            live = LiveTrial(Trial(self._optuna, self._claimed.pop(0)), [])
            self._live.append(live)
            with self._unless_taken_over(live):
                self._begin(live)

    def _begin(self, live: LiveTrial) -> None:
        try:
            plan = self._plan(live.trial)
        except InputError as error:
            # Ended as pruned, since samplers learn nothing from a failed trial.
            live.trial.set_user_attr("refused", str(error))
            self._tell(live, TrialState.PRUNED, None)
            self._ended.append((live.trial_id, f"trial {live.trial.number} refused: {error}"))
            return
        live.runs.extend(
            self._reuse.begin(self._any_engine, plan, seed) for seed in search_seeds(self._space)
        )

    def _plan(self, trial: Trial) -> Plan:
        """Return the plan that was queued with the trial, or draw one and write it down.

        Raises:
            InputError: parameters that were drawn apart break a rule together.
        """
        tables = trial.user_attrs.get("plan")
        if tables is not None:
            return Plan.from_tables(tables)
        plan = self._space.suggest(trial)
        for seed in search_seeds(self._space):
            plan.resolve(self._space.horizon, seed)  # some rules depend on the horizon
        if is_trained_in_full(self._space, trial.user_attrs["draw"], plan):
            trial.set_user_attr(UNPRUNED, True)
        elif is_audited(self._space, trial.user_attrs["draw"]):
            trial.set_user_attr(AUDITED, True)
        trial.set_user_attr("plan", plan.to_tables())
        return plan

    # --- training --------------------------------------------------------------------------------

    def _follow(self) -> None:
        """Let trials go on by all epochs that are known; each is reported and pruned on."""
        for live in list(self._live):
            with self._unless_taken_over(live):
                while live in self._live and all(map(self._reuse.follow, live.next_to_train)):
                    self._report(live)

    def _enter_lanes(self) -> list[LiveTrial]:
        """Return the trials to train an epoch of, in lanes that stand where they do."""
        waiting = {live: live.next_to_train for live in self._live}
        granted = self._reuse.granted(run for runs in waiting.values() for run in runs)
        found = []
        for live, runs in waiting.items():
            outside = [run for run in runs if run.lane is None]
            if not granted.issuperset(runs) or len(outside) > len(self._idle):
                self._leave_lanes(live)
                continue
            try:
                for run in outside:
                    engine, lane = self._idle.pop()
                    try:
                        run.enter(lane, engine)
                    except BaseException:
                        self._idle.append((engine, lane))
                        raise
                found.append(live)
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
                    run.take(result)
                if live.epochs > before:
                    self._report(live)
        self._reuse.weigh(self._epoch_seconds, len(results))
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
        metric = live.metric
        # By the storage: Optuna's Trial copies the whole trial at each report.
        self._storage.set_trial_intermediate_value(live.trial_id, live.epochs, metric)
        if math.isnan(metric):
            # Ended as pruned: samplers learn nothing from a failed trial, and would come back.
            live.trial.set_user_attr("diverged", live.epochs)
            self._finish(live, TrialState.PRUNED)
        elif live.epochs >= self._space.horizon:
            self._finish(live, TrialState.COMPLETE)
        elif self._should_prune(live):
            self._finish(live, TrialState.PRUNED)

    def _should_prune(self, live: LiveTrial) -> bool:
        study, trial = self._optuna, self._storage.get_trial(live.trial_id)
        found = verdict(study.pruner, self._space, study, trial)
        if found.condemned:
            live.trial.set_user_attr(CONDEMNED, live.epochs)
        return found.ends

    def _finish(self, live: LiveTrial, state: TrialState) -> None:
        for key, value in summary(live.runs).items():
            live.trial.set_user_attr(key, value)
        trained = sum(run.trained for run in live.runs)
        if trained != live.epochs * len(live.runs):
            live.trial.set_user_attr("trained", trained)
        complete = state is TrialState.COMPLETE
        outcome = live.outcome(self._space.objective, complete=complete)
        self._ended.append((live.trial_id, f"trial {live.trial.number} {outcome}"))
        self._tell(live, state, live.value if complete else None)
        self._failures = 0

    def _fail(self, live: LiveTrial, error: Exception) -> None:
        """End a trial whose training raised; several in a row end the worker."""
        trace = "".join(traceback.format_exception(error))
        epoch = live.epochs if live.runs else 0
        live.trial.set_user_attr("traceback", trace[-_TRACEBACK_LENGTH:])
        self._tell(live, TrialState.FAIL, None)
        shown = one_line(error) + _place(error)
        self._say(f"trial {live.trial.number} failed in epoch {epoch}: {shown}")
        self._failures += 1
        if self._failures >= FAILURES_IN_A_ROW:
            # Not before the round is written: each trial keeps its traceback.
            self._given_up = SchedSearchError(
                f"{self._failures} trials in a row failed, the last with {shown}\n"
                f"hint: mend {self._space.task} and start again; each trial keeps its traceback, "
                "which the dashboard shows"
            )

    def _tell(self, live: LiveTrial, state: TrialState, value: float | None) -> None:
        live.trial.study.tell(live.trial, value, state, skip_if_finished=True)
        self._drop(live)

    def _drop(self, live: LiveTrial) -> None:
        if live in self._live:
            self._live.remove(live)
        self._leave_lanes(live)
        for run in live.runs:
            self._reuse.end(run)

    def _leave_lanes(self, live: LiveTrial) -> None:
        for run in live.runs:
            if run.lane is not None:
                self._idle.append((run.engine, run.lane))
                run.leave()


def _place(error: Exception) -> str:
    """Return the file and the line where an exception was raised, in brackets."""
    frames = traceback.extract_tb(error.__traceback__)
    return f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
