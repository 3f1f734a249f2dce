"""Searches whose workers and database are killed, suspended, cut off and locked at random."""

from __future__ import annotations

import itertools
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import make_url

from schedsearch.engines.loop import LoopEngine
from schedsearch.run import Run
from schedsearch.storage import StudyHandle, plan_of
from schedsearch.task import load_task
from schedsearch.training import search_seeds, train_to_end
from tests import searches
from tests.forks import start_process
from tests.network import Network
from tests.searches import document, make_study_at, wait_until
from tests.servers import Server, empty_database, execute, start_server
from tests.storage.test_liveness import heartbeats_locked
from tests.storage.test_retrier import cut_connections
from tests.workers import run_worker

pytestmark = pytest.mark.long

#: Seconds without a heartbeat after which a trial is stale.
GRACE = 3.0
WORKERS = 3
EVENTS = 36
HORIZON = 30
#: The total is raised while fewer trials than this are left, so that no event finds an idle study.
MOST_LEFT = 40
#: Finished trials that are trained again.
SAMPLE = 12


class Chaos:
    """A search with workers, and what happens to it.

    Args:
        url: of the empty database, for the audit.
        workers_url: the same database as the workers reach it.
    """

    def __init__(self, url: str, workers_url: str) -> None:
        self.url, self._workers_url = url, workers_url
        self.rng, self.counts = random.Random(0), Counter[str]()
        self.total = 2 * MOST_LEFT
        self.study = self._make()
        self._names = itertools.count()
        self.members: list[BaseProcess] = []
        self._reports: set[tuple[object, ...]] = set()

    def _make(self) -> StudyHandle:
        content = document(searches.train_gently_to_a_distance, trials=self.total)
        return make_study_at(self.url, content | {"horizon": HORIZON})

    def add(self) -> None:
        name = f"worker-{next(self._names)}"
        self.members.append(start_process(run_worker, self._workers_url, name, GRACE))
        # A command that starts while the database is away ends at once.
        is_registered = f"SELECT 1 FROM study_system_attributes WHERE \"key\" = 'worker_{name}'"
        wait_until(lambda: self._read(is_registered) != [])

    # --- events ----------------------------------------------------------------------------------

    def kill(self) -> None:
        victim = self.rng.choice(self.members)
        victim.kill()
        victim.join()
        self.members.remove(victim)
        self.add()

    def _replace_ended(self) -> None:
        """Replace workers that ended since all trials had ended, before there were more."""
        for member in [member for member in self.members if not member.is_alive()]:
            assert member.exitcode == 0
            self.members.remove(member)
            self.add()

    def suspend(self) -> None:
        """Suspend a worker: shorter or longer than the grace period."""
        pid = self.rng.choice(self.members).pid
        assert pid is not None
        try:
            os.kill(pid, signal.SIGSTOP)
        except ProcessLookupError:
            return  # it has just ended
        try:
            time.sleep(self.rng.uniform(0.2, 2 * GRACE))
        finally:
            os.kill(pid, signal.SIGCONT)

    def lock(self) -> None:
        """Lock the heartbeats, or the whole file on SQLite, for longer than the grace period."""
        with heartbeats_locked(self.url):
            time.sleep(self.rng.uniform(0.5, 1.5) * GRACE)

    def cut(self) -> None:
        cut_connections(self.url)

    # --- the run ---------------------------------------------------------------------------------

    def run(self, events: dict[str, Callable[[], None]]) -> None:
        """Let the events happen, each after some progress, and then let the search end."""
        for _ in range(WORKERS):
            self.add()
        every = [name for name, _ in zip(itertools.cycle(events), range(EVENTS), strict=False)]
        self.rng.shuffle(every)
        for name in every:
            seen = self.study.queue.counts()
            if self.total - seen.finished < MOST_LEFT:
                self.total += MOST_LEFT
                self.study = self._make()
            wait_until(lambda seen=seen: self.study.queue.counts().epochs > seen.epochs + 20)
            self._note_reports()
            self._replace_ended()
            events[name]()
            self.counts[name] += 1
        wait_until(lambda: self.study.queue.counts().finished == self.total)
        for member in self.members:
            member.join(60)
            assert member.exitcode == 0

    def close(self) -> None:
        for member in self.members:
            member.kill()
            member.join()

    # --- the audit -------------------------------------------------------------------------------

    def _read(self, statement: str) -> list[tuple[object, ...]]:
        return execute(self.url, statement)

    def _note_reports(self) -> None:
        self._reports.update(self._read(_REPORTS))

    def audit(self) -> None:
        """Check everything with plain Optuna and plain SQL, and by training trials again."""
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        rows = optuna.load_study(study_name=self.study.name, storage=self.url).trials
        ends = self._ends(rows)
        self._check_reports(rows, ends)
        for table, columns in _UNIQUE.items():
            assert (
                self._read(f"SELECT {columns} FROM {table} GROUP BY {columns} HAVING COUNT(*) > 1")
                == []
            )
        assert self._read("SELECT trial_id FROM trials WHERE state IN ('RUNNING', 'WAITING')") == []
        # Optuna gives a pruned trial its last report as its value.
        assert self._read("SELECT COUNT(*) FROM trial_values") == [(len(ends),)]
        for trial in self.rng.sample(ends, SAMPLE):
            self._train_again(trial)

    def _ends(self, rows: list[FrozenTrial]) -> list[FrozenTrial]:
        """Check the retry histories, and return the last row of each trial."""
        assert [row.number for row in rows] == list(range(len(rows)))
        firsts = [row for row in rows if "retry_of" not in row.user_attrs]
        assert len(firsts) == self.total
        ends, visited = [], 0
        for row in firsts:
            visited += 1
            while (retry := row.user_attrs.get("superseded_by")) is not None:
                assert row.state is TrialState.FAIL
                assert rows[retry].user_attrs["retry_of"] == row.number
                assert rows[retry].number > row.number
                row = rows[retry]
                visited += 1
            assert row.state in (TrialState.COMPLETE, TrialState.PRUNED)
            ends.append(row)
        assert visited == len(rows)
        samples = sorted(end.user_attrs["draw"] for end in ends if "draw" in end.user_attrs)
        assert samples == list(range(self.total - 1))
        return ends

    def _check_reports(self, rows: list[FrozenTrial], ends: list[FrozenTrial]) -> None:
        # Plain Optuna reads reports in no order.
        for row in rows:
            assert sorted(row.intermediate_values) == _epochs(row)
        for end in ends:
            epochs = len(end.intermediate_values)
            assert (epochs == HORIZON) == (end.state is TrialState.COMPLETE)
            assert end.value == end.intermediate_values[epochs]
        assert self._reports
        assert self._reports <= set(self._read(_REPORTS))

    def _train_again(self, trial: FrozenTrial) -> None:
        space = self.study.space
        engine = LoopEngine(load_task(space.task), horizon=HORIZON)
        [seed] = search_seeds(space)
        run = Run(engine, space=space, plan=plan_of(trial), seed=seed)
        train_to_end([run])
        reported = [trial.intermediate_values[epoch] for epoch in _epochs(trial)]
        trained = run.history.objective(self.study.space.objective.metric)
        assert trained[: len(reported)] == reported

    def describe(self, seconds: float) -> str:
        rows = len(self.study.load().trials)
        done = ", ".join(f"{name}: {count}" for name, count in sorted(self.counts.items()))
        return f"{done}; {self.total} trials in {rows} rows; {seconds:.0f} s"


def _epochs(trial: FrozenTrial) -> list[int]:
    """Return the epochs that a trial without a gap has reported."""
    return list(range(1, len(trial.intermediate_values) + 1))


_REPORTS = "SELECT trial_id, step, intermediate_value FROM trial_intermediate_values"
#: The columns whose values together no two rows of a table may share.
_UNIQUE = {
    "trials": "study_id, number",
    "trial_intermediate_values": "trial_id, step",
    "trial_user_attributes": "trial_id, key",
    "trial_params": "trial_id, param_name",
    "trial_values": "trial_id, objective",
}


@contextmanager
def running(url: str, workers_url: str) -> Iterator[Chaos]:
    chaos, began = Chaos(url, workers_url), time.monotonic()
    try:
        yield chaos
        print(chaos.describe(time.monotonic() - began))
    finally:
        chaos.close()


def restart(server: Server, rng: random.Random) -> None:
    """Stop a server, gently or not, and start it again."""
    server.stop(rng.choice([signal.SIGINT, signal.SIGQUIT]))
    time.sleep(rng.uniform(0.2, GRACE))
    server.start()


def interrupt(network: Network, rng: random.Random) -> None:
    """Cut all workers off from the server for a while."""
    network.cut()
    time.sleep(rng.uniform(0.2, GRACE))
    network.mend()


def test_a_search_on_a_server_survives_kills_suspensions_outages_and_locks():
    """Workers are killed and suspended; the server restarts; connections and the network are cut.

    The heartbeats are locked too. The audit reads the database with plain Optuna and plain SQL:

    - the rows of each trial are linked retries, of which exactly one ended well;
    - no trial is lost, doubled, queued or running, and their number is the budget;
    - no report that was ever seen is lost, none is doubled, and no trial has a gap;
    - a sample of finished trials, trained again, gives the same values bit for bit.
    """
    try:
        server = start_server("postgresql")
    except FileNotFoundError as error:
        pytest.skip(f"NOT TESTED on postgresql: this machine has no {error}")
    network = Network(server.port)
    try:
        with empty_database(server.url) as url:
            far = make_url(url).set(port=network.port).render_as_string(hide_password=False)
            with running(url, far) as chaos:
                events = {
                    "kill": chaos.kill,
                    "suspend": chaos.suspend,
                    "restart": lambda: restart(server, chaos.rng),
                    "cut": chaos.cut,
                    "network": lambda: interrupt(network, chaos.rng),
                    "lock": chaos.lock,
                }
                chaos.run(events)
                chaos.audit()
    finally:
        network.cut()
        server.close()


def test_a_search_in_a_file_survives_kills_suspensions_and_locks(tmp_path):
    """Workers are killed and suspended, and another process locks the file.

    The audit is the one of the search on a server.
    """
    url = f"sqlite:///{tmp_path}/studies.db"
    with running(url, url) as chaos:
        chaos.run({"kill": chaos.kill, "suspend": chaos.suspend, "lock": chaos.lock})
        chaos.audit()
