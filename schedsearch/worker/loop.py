"""The one loop: ask -> train -> report -> prune -> tell, until nothing is left to begin."""

from __future__ import annotations

import math
import statistics
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from schedsearch.engines import Engine, EpochResult
from schedsearch.errors import InputError, SchedSearchError
from schedsearch.plan import Plan
from schedsearch.pruners import UNPRUNED, make_pruner
from schedsearch.samplers import is_trained_in_full, make_sampler
from schedsearch.space import Space
from schedsearch.storage import StudyHandle
from schedsearch.task.user_code import one_line
from schedsearch.training import Run, search_seeds, summary

#: A worker stops after so many trials in a row that failed in the user's own code.
FAILURES_IN_A_ROW = 3
#: Seconds between two signs of life.
HEARTBEAT = 10.0
_TRACEBACK_LENGTH = 8_000


@dataclass
class LiveTrial:
    """A trial in training: one run for each of its seeds."""

    trial: Trial
    runs: list[Run]

    @property
    def epochs(self) -> int:
        """How many epochs have been trained."""
        return self.runs[0].epochs

    @property
    def metric(self) -> float:
        """The objective's metric after the last epoch: the mean over the seeds."""
        return statistics.fmean(run.metric for run in self.runs)

    @property
    def value(self) -> float:
        """What the trial counts for: the mean over the seeds."""
        return statistics.fmean(run.value for run in self.runs)


class Worker:
    """Takes trials of a study and trains them until nothing is left to begin, or told to stop.

    Args:
        study: whose trials.
        engines: train them; all their lanes together hold at least the seeds of one trial.
        name: unique among the study's workers, and among those to come.
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
        should_stop: Callable[[], bool],
        say: Callable[[str], None],
        report: Callable[[str], None],
    ) -> None:
        space = study.space
        self._study, self._space, self._name = study, space, name
        self._engines = engines
        self._should_stop, self._say, self._report_end = should_stop, say, report
        self._optuna = study.load(
            make_sampler(space, name), make_pruner(space.search.pruner, space.horizon)
        )
        self._idle = [(engine, lane) for engine in engines for lane in range(engine.lanes)]
        if len(self._idle) < space.search.seeds:
            lanes, seeds = len(self._idle), space.search.seeds
            raise ValueError(
                f"the engines have {lanes} lanes, but must have one for each of {seeds}"
            )
        self._live: list[LiveTrial] = []
        self._failures = 0

    def run(self) -> None:
        """Work; live trials are handed back to the queue however this ends.

        Raises:
            SchedSearchError: the user's code failed several times in a row, or the task does not
                fit the space.
        """
        with self._heartbeats():
            try:
                while not self._should_stop():
                    self._fill()
                    if not self._live:
                        return
                    self._round()
            finally:
                self._hand_back()

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

    # --- asking ----------------------------------------------------------------------------------

    def _fill(self) -> None:
        """Begin trials while there are idle lanes for all seeds of one, and trials to begin."""
        while len(self._idle) >= self._space.search.seeds:
            trial_id = self._claim()
            if trial_id is None:
                return
            self._optuna.get_trials(deepcopy=False)  # the storage's cache must know the new row
            live = LiveTrial(Trial(self._optuna, trial_id), [])
            self._live.append(live)
            with self._unless_taken_over(live):
                self._begin(live)

    def _claim(self) -> int | None:
        """Claim a trial; before there seems to be none, take over those of workers that died."""
        queue, total = self._study.queue, self._study.total()
        trial_id = queue.claim(self._name, total)
        if trial_id is None and not self._live and queue.hand_back_stale():
            return queue.claim(self._name, total)
        return trial_id

    def _begin(self, live: LiveTrial) -> None:
        try:
            plan = self._plan(live.trial)
        except InputError as error:
            # Ended as pruned, since samplers learn nothing from a failed trial.
            live.trial.set_user_attr("refused", str(error))
            self._tell(live, TrialState.PRUNED, None)
            self._report_end(f"trial {live.trial.number} refused: {error}")
            return
        try:
            for seed in search_seeds(self._space):
                engine, lane = self._idle.pop()
                try:
                    live.runs.append(Run(engine, lane, space=self._space, plan=plan, seed=seed))
                except BaseException:
                    self._idle.append((engine, lane))
                    raise
        except SchedSearchError:
            raise
        except Exception as error:
            self._fail(live, error)

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
        trial.set_user_attr("plan", plan.to_tables())
        return plan

    # --- training --------------------------------------------------------------------------------

    def _round(self) -> None:
        """Train every live trial for one epoch, then report, prune and tell."""
        results = self._train_epoch()
        for live in list(self._live):
            outcome = [results[id(run)] for run in live.runs]
            errors = [result for result in outcome if isinstance(result, Exception)]
            with self._unless_taken_over(live):
                if errors:
                    self._fail(live, errors[0])
                    continue
                for run, result in zip(live.runs, outcome, strict=True):
                    assert isinstance(result, EpochResult)
                    run.take(result)
                self._report(live)

    @contextmanager
    def _unless_taken_over(self, live: LiveTrial) -> Iterator[None]:
        """Drop the trial if it was queued anew while this worker was silent for too long."""
        try:
            yield
        except UpdateFinishedTrialError:
            self._say(f"trial {live.trial.number} was taken over by another worker: dropped")
            self._drop(live)

    def _train_epoch(self) -> dict[int, EpochResult | Exception | None]:
        runs = [run for live in self._live for run in live.runs]
        results: dict[int, EpochResult | Exception | None] = {}
        for engine in self._engines:
            mine = {run.lane: run for run in runs if run.engine is engine}
            if mine:
                values = [mine[i].values if i in mine else None for i in range(engine.lanes)]
                given = engine.train_epoch(values)
                results.update({id(run): given[lane] for lane, run in mine.items()})
        return results

    def _report(self, live: LiveTrial) -> None:
        metric = live.metric
        live.trial.report(metric, step=live.epochs)
        if math.isnan(metric):
            # Ended as pruned: samplers learn nothing from a failed trial, and would come back.
            live.trial.set_user_attr("diverged", live.epochs)
            self._finish(live, TrialState.PRUNED)
        elif live.epochs >= self._space.horizon:
            self._finish(live, TrialState.COMPLETE)
        elif live.trial.should_prune():
            self._finish(live, TrialState.PRUNED)

    def _finish(self, live: LiveTrial, state: TrialState) -> None:
        for key, value in summary(live.runs).items():
            live.trial.set_user_attr(key, value)
        outcome = _outcome(live, state, self._space)
        self._tell(live, state, live.value if state is TrialState.COMPLETE else None)
        self._failures = 0
        self._report_end(f"trial {live.trial.number} {outcome}")

    def _fail(self, live: LiveTrial, error: Exception) -> None:
        """End a trial whose training raised; several in a row end the worker."""
        trace = "".join(traceback.format_exception(error))
        epoch = live.epochs if live.runs else 0
        live.trial.set_user_attr("traceback", trace[-_TRACEBACK_LENGTH:])
        self._tell(live, TrialState.FAIL, None)
        shown = one_line(error)
        self._say(f"trial {live.trial.number} failed in epoch {epoch}: {shown}")
        self._failures += 1
        if self._failures >= FAILURES_IN_A_ROW:
            raise SchedSearchError(
                f"{self._failures} trials in a row failed, the last with {shown}\n"
                f"hint: mend {self._space.task} and start again; each trial keeps its traceback"
            )

    def _tell(self, live: LiveTrial, state: TrialState, value: float | None) -> None:
        live.trial.study.tell(live.trial, value, state, skip_if_finished=True)
        self._drop(live)

    def _drop(self, live: LiveTrial) -> None:
        if live in self._live:
            self._live.remove(live)
        self._release(live)

    def _release(self, live: LiveTrial) -> None:
        for run in live.runs:
            run.release()
            self._idle.append((run.engine, run.lane))
        live.runs.clear()

    # --- signs of life ---------------------------------------------------------------------------

    @contextmanager
    def _heartbeats(self) -> Iterator[None]:
        """Beat for every live trial, however long an epoch takes; look for those of the dead."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(HEARTBEAT):
                # A database that is away now may be back at the next beat.
                with suppress(SQLAlchemyError):
                    self._study.queue.beat([live.trial._trial_id for live in list(self._live)])
                    self._study.queue.hand_back_stale()

        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def _outcome(live: LiveTrial, state: TrialState, space: Space) -> str:
    """Say how a trial ended, for the person who watches."""
    if math.isnan(live.metric):
        return f"diverged in epoch {live.epochs}"
    metric = f"{space.objective.metric} {live.value:.6g}"
    if state is TrialState.COMPLETE:
        return f"complete: {metric}"
    return f"pruned after epoch {live.epochs}: {metric}"
